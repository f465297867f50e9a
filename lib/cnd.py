"""Class-conditional neuron divergence (CND): how far the classes lie apart in a neuron's pre-activation.

For neuron j, with p_c the density of its pre-activation on the samples labelled c,

    CND_j = H(sum_c w_c p_c) - sum_c w_c H(p_c)     in bits, 0 <= CND_j <= log2 K,

the generalised Jensen-Shannon divergence of the class densities (OpenReview synVz5n0I8). With uniform weights
w_c = 1 / K it is the measure of the paper; with the class frequencies it is the mutual information I(Z_j; Y).
The densities are histograms of equal bins between the neuron's minimum and maximum, whose width cancels, or those of
`lib.estimators`.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from . import processes
from .arrays import like, to_numpy, to_tensor
from .batches import again, labelled
from .checks import ParameterError, check_at_least, check_choice
from .estimators import bias, class_weights, gaussian, kernel, neighbours, of_counts
from .histograms import count, ranges
from .layers import looked_at

ESTIMATORS = {"gaussian": gaussian, "kernel": kernel, "neighbours": neighbours}
"""Estimators of the class densities other than histograms."""
_BLOCK = 64  # neurons that they work on at a time


def neuron_divergence(
    pre_activations,
    labels,
    num_classes: int,
    bins: int = 40,
    weights: str = "uniform",
    estimator: str = "histogram",
    predicted=None,
    correction: str = "none",
):
    """Class-conditional neuron divergence of every neuron.

    Memory beyond the input is O(classes x neurons x bins). Labels are as given in training, so noisy.

    Args:
        pre_activations: shape (n, neurons), floating point, array or tensor on any device, n at least 1.
        labels: classes in [0, num_classes), integers of shape (n,). Classes without a sample do not count.
        num_classes: K.
        bins: number of equal bins of a histogram, at least 2.
        weights: "uniform" over the classes present, or "frequency".
        estimator: of the class densities: "histogram", or "gaussian", "kernel" or "neighbours" of `lib.estimators`.
        predicted: predicted classes, shape (n,): only samples predicted as labelled count. None: all samples.
        correction: "miller_madow" takes from a histogram's divergence its bias of (K - 1) (B - 1) / (2 n ln 2) bits,
            for the K classes present, the B bins that hold a sample and the n samples that count; else "none".

    Returns:
        Bits per neuron, float64 of shape (neurons,), of the kind of `pre_activations`. A constant neuron has 0; a
        corrected one may lie below. Without any sample that counts, NaN.

    Raises:
        ParameterError: for parameters, shapes or labels out of range.
        ValueError: for a pre-activation that is not finite.
    """
    z, y = _checked(pre_activations, labels, num_classes)
    check_choice("weights", weights, ["uniform", "frequency"])
    check_choice("estimator", estimator, ["histogram", *ESTIMATORS])
    check_choice("correction", correction, ["none", "miller_madow"])
    check_at_least(2, bins=bins)
    if predicted is not None:
        classes = to_tensor(predicted).to(z.device)
        if classes.shape != y.shape:
            raise ParameterError(f"predicted of shape {tuple(classes.shape)}: must be {tuple(y.shape)}, as the labels")
        y = torch.where(classes == y, y, -1)
    counted = y >= 0
    if not counted.any():
        return like(torch.full((z.shape[1],), math.nan, dtype=torch.float64), pre_activations)
    if estimator == "histogram":
        return like(_bits(count(z, y, num_classes, bins), weights, correction), pre_activations)
    z, y = z[counted], y[counted]
    ranges(z)
    share = class_weights(torch.bincount(y, minlength=num_classes).double(), weights)
    blocks = [ESTIMATORS[estimator](block, y, num_classes, share) for block in z.split(_BLOCK, dim=1)]
    return like(torch.cat(blocks), pre_activations)


def aggregate(bits, quantile: float | None = 0.9, ordered: bool = False):
    """One number of the divergences of many neurons: their quantile, interpolated linearly, or their mean.

    Args:
        bits: divergences, shape (..., neurons), array or tensor.
        quantile: in [0, 1]; None: the mean.
        ordered: whether the divergences rise along the last axis already, so that nothing is sorted: for many quantiles
            of the same ones, sort them once.

    Returns:
        A number for shape (neurons,), else an array of shape (...); float64. NaN where a divergence is, and of none.

    Raises:
        ParameterError: for a quantile out of range.
    """
    values = to_numpy(bits)
    if not values.shape[-1]:
        values = np.full((*values.shape[:-1], 1), np.nan)
    if quantile is None:
        found = values.mean(axis=-1, dtype=np.float64)
    else:
        if not 0 <= quantile <= 1:
            raise ParameterError(f"quantile={quantile}: must be a number in [0, 1], or None for the mean")
        rising = values if ordered else np.sort(values, axis=-1)  # NaN last
        place = quantile * (values.shape[-1] - 1)
        low, high = (rising[..., at].astype(np.float64) for at in (math.floor(place), math.ceil(place)))
        weight = place % 1
        found = low + weight * (high - low) if weight < 0.5 else high - (1 - weight) * (high - low)
        found = np.where(np.isnan(rising[..., -1]), np.nan, found)
    return found if values.ndim > 1 else float(found)


class StreamingDivergence:
    """The histogram divergence of samples that come batch by batch, on any device: the same as from all at once.

    The range of each neuron is either given, and then values beyond it count in the first or last bin, or found in a
    first pass over the batches, by `observe`. The second or only pass counts, by `update`. After `reset` the next pass
    counts between the ends of what the one before has counted, and so needs no first pass.

    Args:
        num_classes: K.
        bins: number of equal bins, at least 2.
        low, high: range of each neuron, shape (neurons,), high above low; None: two passes.

    Raises ParameterError.
    """

    def __init__(self, num_classes: int, bins: int = 40, low=None, high=None):
        check_at_least(2, bins=bins)
        if (low is None) != (high is None):
            raise ParameterError("low and high: must be given both, or neither")
        self.num_classes, self.bins = num_classes, bins
        self._range: _Range | None = None
        if low is not None:
            self._range = to_tensor(low).double(), to_tensor(high).double()
            if not (self._range[1] > self._range[0]).all():
                raise ParameterError("high: must be above low for every neuron")
        self._given = self._range is not None
        self._counted: _Range | None = None
        self._counts: torch.Tensor | None = None

    @property
    def needs_range(self) -> bool:
        """Whether `observe` must come before `update`."""
        return self._range is None

    def observe(self, pre_activations) -> None:
        """First pass: take the range of a batch, shape (n, neurons). Raises ValueError where it is not finite."""
        self._range = _wider(self._range, _at_least_single(to_tensor(pre_activations)))

    def update(self, pre_activations, labels) -> None:
        """Last pass: count a batch; arguments and errors as for `neuron_divergence`."""
        z, y = _checked(pre_activations, labels, self.num_classes)
        if self._range is None:
            raise ParameterError("low, high: must be given, or found by observe() on every batch before update()")
        self._counted = _wider(self._counted, z)
        low, high = (end.to(z) for end in self._range)
        counts = count(z.clamp(low, high), y, self.num_classes, self.bins, (low, high))
        self._counts = counts if self._counts is None else self._counts + counts

    def synchronise(self) -> None:
        """After each pass: what the processes of a distributed training, each with a part of the samples, have seen."""
        if self._range:
            self._range = processes.widest(*self._range)
        if self._counts is not None and self._counted:
            self._counts, self._counted = processes.summed(self._counts), processes.widest(*self._counted)

    def compute(self, weights: str = "uniform", correction: str = "none") -> torch.Tensor:
        """Bits per neuron of all that was counted, float64, shape (neurons,), as `neuron_divergence` has them.

        Raises ParameterError before any was.
        """
        if self._counts is None:
            raise ParameterError("compute(): must come after update()")
        return _bits(self._counts, weights, correction)

    def reset(self) -> None:
        """Forget what was counted, for the next pass."""
        if self._counted and not self._given:
            self._range = self._counted
        self._counted = self._counts = None


def divergence(
    model: nn.Module,
    data,
    num_classes: int,
    labels=None,
    layer: str | None = None,
    pooling: str = "mean",
    only_predicted: bool = False,
    stream: StreamingDivergence | None = None,
) -> torch.Tensor:
    """CND of a network on samples of any number, in the memory of a batch: two passes in evaluation mode.

    Args:
        model: any network, wrapped or not.
        data: samples with labels in any form that `lib.batches.batches` takes, such as a `DataLoader`, which gives the
            same ones each time.
        num_classes: K.
        labels: of all samples in their order, shape (n,); None: those in the batches.
        layer, pooling: as for `lib.layers.pre_activations`.
        only_predicted: whether only samples that the network predicts as they are labelled count.
        stream: one that counted the epoch before: one pass, between the ends of then. It is reset first.

    Returns:
        Bits per neuron, float64, shape (neurons,). Without any sample that counts, empty.

    Raises:
        ParameterError: for samples without labels, no samples, or some that come once where two passes are needed.
    """
    counting = stream or StreamingDivergence(num_classes)
    counting.reset()

    def passed(take: Callable[..., None]) -> None:
        for batch, z, logits in looked_at(model, labelled(model, data, labels), layer, pooling=pooling):
            assert batch.labels is not None
            kept = torch.ones(len(z), dtype=torch.bool, device=z.device)
            if only_predicted:
                kept = logits.argmax(dim=1) == batch.labels
            if kept.any():
                take(z[kept], batch.labels[kept])
        counting.synchronise()

    if counting.needs_range:
        again(data)
        passed(lambda z, _: counting.observe(z))
    if not counting.needs_range:
        passed(counting.update)
    return torch.empty(0, dtype=torch.float64) if counting._counts is None else counting.compute()


_Range = tuple[torch.Tensor, torch.Tensor]


def _wider(known: _Range | None, z: torch.Tensor) -> _Range:
    low, high = ranges(z)
    return (known[0].minimum(low), known[1].maximum(high)) if known else (low, high)


def _bits(counts: torch.Tensor, weights: str, correction: str) -> torch.Tensor:
    check_choice("weights", weights, ["uniform", "frequency"])
    check_choice("correction", correction, ["none", "miller_madow"])
    bits = of_counts(counts, weights)
    return bits - bias(counts) if correction == "miller_madow" else bits


def _checked(pre_activations, labels, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    z, y = to_tensor(pre_activations), to_tensor(labels)
    if z.ndim != 2 or z.numel() == 0 or y.shape != (len(z),) or not z.is_floating_point() or y.is_floating_point():
        raise ParameterError(
            f"pre_activations of shape {tuple(z.shape)} and type {z.dtype}, labels of shape {tuple(y.shape)} and "
            f"type {y.dtype}: must be (n, neurons) floating point and (n,) integers, none empty"
        )
    y = y.long()
    if y.min() < 0 or y.max() >= num_classes:
        raise ParameterError(f"labels in [{y.min()}, {y.max()}]: must be in [0, {num_classes - 1}]")
    return _at_least_single(z), y.to(z.device)


def _at_least_single(z: torch.Tensor) -> torch.Tensor:
    return z if z.dtype == torch.float64 else z.float()
