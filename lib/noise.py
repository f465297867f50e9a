"""Label noise, with the mask that says which labels are wrong, and the rate realised.

Symmetric and pair noise corrupt an exact number of samples; with instance-dependent and human noise the realised rate
differs from the one asked for. Human labels are read by `lib.data.human_labels`.
"""

from typing import NamedTuple

import numpy as np
import torch

from .arrays import like, to_numpy
from .checks import ParameterError, check_at_least
from .seeds import stream

RATE_DEVIATION = 0.1
"""Standard deviation of the rate of single samples in instance-dependent noise."""
_ROWS = 2000  # samples that are multiplied at a time


class Noisy(NamedTuple):
    """Labels with noise, and what is known of it.

    Attributes:
        labels: shape (n,), of the kind of the labels given.
        corrupted: whether a label is wrong, boolean, shape (n,).
        rate: realised share of wrong labels; 0 where there are no samples.
    """

    labels: np.ndarray | torch.Tensor
    corrupted: np.ndarray | torch.Tensor
    rate: float


def compare(noisy, true) -> Noisy:
    """Labels that are noisy already, against the true ones; both of shape (n,), integers, arrays or tensors."""
    wrong = to_numpy(noisy) != to_numpy(true)
    return Noisy(like(noisy, true), like(wrong, true), float(wrong.mean()) if len(wrong) else 0.0)


def transition_matrix(true, given, num_classes: int) -> np.ndarray:
    """Share of each true class that carries each given label: the empirical noise transition matrix.

    Args:
        true, given: class of each sample, integers in [0, num_classes), shape (n,), arrays or tensors.
        num_classes: K, at least 2.

    Returns:
        float64, shape (K, K), true classes in rows, each of which sums to 1; NaN for a class without samples.

    Raises:
        ParameterError: for a number of classes or labels out of range, or another number of given labels.
    """
    rows, columns = _checked(true, num_classes), _checked(given, num_classes)
    if len(rows) != len(columns):
        raise ParameterError(f"given labels ({len(columns)}): must be as many as the {len(rows)} true ones")
    counts = np.bincount(rows * np.int64(num_classes) + columns, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def symmetric(labels, rate: float, num_classes: int, seed: int) -> Noisy:
    """Give round(rate * n) samples a label drawn uniformly from the other classes.

    Args:
        labels: class of each sample, integers in [0, num_classes), shape (n,), array or tensor.
        rate: share of samples to corrupt, in [0, 1).
        num_classes: K, at least 2.
        seed: of the draw.

    Returns:
        Labels, mask and realised rate.

    Raises:
        ParameterError: for a rate, number of classes or labels out of range.
    """
    return _corrupt(labels, rate, num_classes, seed, _other_class)


def pair(labels, rate: float, num_classes: int, seed: int) -> Noisy:
    """Give round(rate * n) samples the next class, c -> c + 1 mod K (pair flipping).

    Arguments, result and errors as in `symmetric`.
    """
    return _corrupt(labels, rate, num_classes, seed, lambda chosen, k, rng: (chosen + 1) % k)


def none(labels, rate: float, num_classes: int, seed: int) -> Noisy:
    """Leave the labels as they are; arguments, result and errors as in `symmetric`, the rate counts for nothing."""
    _check_rate(rate)
    return _corrupt(labels, 0.0, num_classes, seed, _other_class)


def instance(labels, inputs, rate: float, num_classes: int, seed: int) -> Noisy:
    """Instance-dependent noise (Xia et al., NeurIPS 2020, Algorithm 2): how a label is wrong follows from the input.

    Each sample has a rate of its own, from a normal distribution around `rate` with standard deviation 0.1, truncated
    to [0, 1]. With that probability its label becomes one of the others, drawn from the softmax of x W_y, where x is
    the flattened input and W_y, of shape d x K, is standard normal for each class y. Rate 0 leaves every label.

    Args:
        labels: true class of each sample, integers in [0, num_classes), shape (n,), array or tensor.
        inputs: shape (n, ...): an array, a tensor, or `lib.data.inputs.Inputs`.
        rate: centre of the samples' rates, in [0, 1). Near 0 and 1 the truncation moves their mean: 0.01 gives a
            realised rate of about 0.08, 0.9 one of 0.88.
        num_classes: K, at least 2.
        seed: of the draw.

    Returns:
        Labels, mask and realised rate.

    Raises:
        ParameterError: for a rate, number of classes or labels out of range, or another number of inputs.
    """
    true = _checked(labels, num_classes)
    _check_rate(rate)
    if len(inputs) != len(true):
        raise ParameterError(f"inputs of {len(inputs)} samples: must be as many as the {len(true)} labels")
    inputs = torch.from_numpy(inputs) if isinstance(inputs, np.ndarray) else inputs
    noisy = true.copy()
    if rate > 0:
        from scipy.stats import truncnorm

        rng = stream(seed, "noise")
        low, high = (0 - rate) / RATE_DEVIATION, (1 - rate) / RATE_DEVIATION
        own_rates = truncnorm.rvs(low, high, rate, RATE_DEVIATION, size=len(true), random_state=rng)
        flipped = np.flatnonzero(rng.random(len(true)) < own_rates)
        draws, features = rng.random(len(true)), inputs[:1].flatten(1).shape[1]
        for label in range(num_classes):
            drawn = stream(seed, "noise", label).standard_normal((features, num_classes), dtype=np.float32)
            weights = torch.from_numpy(drawn)
            for rows in torch.from_numpy(flipped[true[flipped] == label]).split(_ROWS):
                x = inputs[rows].flatten(1).double()  # so that the draw is the same on every processor
                logits = x @ weights.to(x)
                logits[:, label] = -torch.inf
                places = rows.numpy()  # a tensor of one number would index NumPy's arrays as that number
                noisy[places] = _draw(logits.softmax(dim=1).cpu().numpy(), draws[places])
    return compare(noisy, labels)


def _draw(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """A class for each row of probabilities (n, K) by a uniform number of [0, 1), never one of probability 0."""
    cumulative = probabilities.cumsum(axis=1)
    return (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1)


def known_polluted_probe(labels, size: int, num_classes: int, seed: int):
    """Draw the probe whose memorization is watched: copies of training samples with labels known to be wrong.

    As in use nobody knows the true labels, a wrong label is one other than the label given.

    Args:
        labels: given classes of the training samples, shape (n,), array or tensor.
        size: number of samples in the probe, in [1, n].
        num_classes: K, at least 2.
        seed: of the draw.

    Returns:
        (positions, probe_labels): distinct positions in `labels` and their other labels, both of shape (size,)
        and of the kind of `labels`.

    Raises:
        ParameterError: for a size, number of classes or labels out of range.
    """
    given = _checked(labels, num_classes)
    if not 1 <= size <= len(given):
        raise ParameterError(f"probe_size={size}: must be an integer in [1, {len(given)}], the training samples")
    rng = stream(seed, "probe")
    positions = rng.choice(len(given), size, replace=False)
    return like(positions, labels), like(_other_class(given[positions], num_classes, rng), labels)


def _other_class(labels: np.ndarray, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    return (labels + rng.integers(1, num_classes, size=len(labels))) % num_classes


def _checked(labels, num_classes: int) -> np.ndarray:
    array = to_numpy(labels)
    check_at_least(2, num_classes=num_classes)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ParameterError(f"labels of shape {array.shape} and type {array.dtype}: must be (n,) integers")
    if len(array) and not (array.min() >= 0 and array.max() < num_classes):
        raise ParameterError(f"labels in [{array.min()}, {array.max()}]: must be in [0, {num_classes - 1}]")
    return array


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ParameterError(f"noise_rate={rate}: must be a number in [0, 1)")


def _corrupt(labels, rate, num_classes, seed, wrong_labels) -> Noisy:
    given = _checked(labels, num_classes)
    _check_rate(rate)
    rng = stream(seed, "noise")
    chosen = rng.permutation(len(given))[: round(rate * len(given))]
    noisy = given.copy()
    noisy[chosen] = wrong_labels(given[chosen], num_classes, rng)
    return compare(noisy, labels)
