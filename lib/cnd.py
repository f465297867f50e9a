"""Class-conditional neuron divergence (CND): how far the classes lie apart in a neuron's pre-activation.

For neuron j, with p_c the density of its pre-activation on the samples labelled c,

    CND_j = H(sum_c w_c p_c) - sum_c w_c H(p_c)     in bits, 0 <= CND_j <= log2 K,

the generalised Jensen-Shannon divergence of the class densities (OpenReview synVz5n0I8). With uniform weights
w_c = 1 / K it is the measure of the paper; with the class frequencies it is the mutual information I(Z_j; Y).
The densities are histograms of equal bins between the neuron's minimum and maximum; the bin width cancels.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

from lib.arrays import like, to_tensor
from lib.checks import ParameterError, check_choice

_BLOCK = 256  # neurons whose counters stay in the cache together


def neuron_divergence(pre_activations, labels, num_classes: int, bins: int = 40, weights: str = "uniform"):
    """Class-conditional neuron divergence of every neuron, from histograms.

    Memory beyond the input is O(classes x neurons x bins). Labels are as given in training, so noisy.

    Args:
        pre_activations: shape (n, neurons), floating point, array or tensor on any device, n at least 1.
        labels: classes in [0, num_classes), integers of shape (n,). Classes without a sample do not count.
        num_classes: K.
        bins: number of equal bins, at least 2.
        weights: "uniform" over the classes present, or "frequency".

    Returns:
        Bits per neuron, float64 of shape (neurons,), of the kind of `pre_activations`. A constant neuron has 0.

    Raises:
        ParameterError: for parameters, shapes or labels out of range.
        ValueError: for a pre-activation that is not finite.
    """
    z, y = to_tensor(pre_activations), to_tensor(labels)
    check_choice("weights", weights, ["uniform", "frequency"])
    if bins < 2:
        raise ParameterError(f"bins={bins}: must be an integer of at least 2")
    if z.ndim != 2 or z.numel() == 0 or y.shape != (len(z),) or not z.is_floating_point() or y.is_floating_point():
        raise ParameterError(
            f"pre_activations of shape {tuple(z.shape)} and type {z.dtype}, labels of shape {tuple(y.shape)} and "
            f"type {y.dtype}: must be (n, neurons) floating point and (n,) integers, none empty"
        )
    y = y.long()
    if y.min() < 0 or y.max() >= num_classes:
        raise ParameterError(f"labels in [{y.min()}, {y.max()}]: must be in [0, {num_classes - 1}]")
    counts = histograms(z, y.to(z.device), num_classes, bins)
    return like(_divergence(counts, weights), pre_activations)


def histograms(z: torch.Tensor, y: torch.Tensor, num_classes: int, bins: int) -> torch.Tensor:
    """How many samples of each class fall into each bin of each neuron.

    Args:
        z: pre-activations, shape (n, neurons).
        y: classes in [0, num_classes), int64, shape (n,), on the device of z.
        num_classes: K.
        bins: equal bins between a neuron's minimum and maximum; a constant neuron has all samples in the first.

    Returns:
        Counts, shape (K, neurons, bins).

    Raises:
        ValueError: for a value that is not finite.
    """
    if z.dtype not in (torch.float32, torch.float64):
        z = z.float()
    low, high = z.amin(dim=0).double(), z.amax(dim=0).double()
    width = high - low
    if not torch.isfinite(width).all():
        raise ValueError("pre_activations: must be finite, and so must their range; got NaN or infinity")
    # A width so small that bins have none is that of a constant neuron.
    scale = (bins / width).nan_to_num(nan=0.0, posinf=0.0)
    count = _count_on_cpu if z.device.type == "cpu" else _count_on_device
    return count(z, y, low, scale, num_classes, bins)


def _divergence(counts: torch.Tensor, weights: str) -> torch.Tensor:
    totals = counts[:, 0].sum(dim=1)
    counts, totals = counts[totals > 0], totals[totals > 0].double()
    share = totals / totals.sum() if weights == "frequency" else torch.full_like(totals, 1 / len(totals))
    mixture = torch.tensordot(share / totals, counts.double(), dims=1)
    # A class entropy is log2 n - sum_b c_b log2 c_b / n: a table of integers' logarithms spares most logarithms.
    c_log_c = _x_log2_x(torch.arange(counts.max() + 1, dtype=torch.float64, device=counts.device))
    class_entropies = totals.log2()[:, None] - c_log_c[counts].sum(dim=-1) / totals[:, None]
    return (-_x_log2_x(mixture).sum(dim=-1) - share @ class_entropies).clamp(min=0)


def _x_log2_x(x: torch.Tensor) -> torch.Tensor:
    return torch.special.xlogy(x, x) / math.log(2)


def _count_on_cpu(z, y, low, scale, num_classes, bins):
    neurons = z.shape[1]
    counts = np.zeros((num_classes, neurons * bins), dtype=np.uint32)
    arguments = (z.contiguous().numpy(), y.numpy(), low.numpy(), scale.numpy(), bins, counts)

    def count_block(first):
        _count_block(*arguments, first, min(first + _BLOCK, neurons))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(count_block, range(0, neurons, _BLOCK)))
    return torch.from_numpy(counts.astype(np.int64)).view(num_classes, neurons, bins)


# Index and count go in two loops because the compiler vectorises the first only where it stands alone.
@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count_block(z, y, low, scale, bins, counts, first, last):
    last_bin = np.int32(bins - 1)
    neurons = last - first
    lows, scales = low[first:last], scale[first:last]
    starts = (np.arange(first, last) * bins).astype(np.int32)
    cells = np.empty(neurons, dtype=np.uint32)
    for i in range(len(z)):
        row = z[i, first:last]
        for j in range(neurons):
            cells[j] = min(np.int32((row[j] - lows[j]) * scales[j]), last_bin) + starts[j]
        counter = counts[y[i]]
        for j in range(neurons):
            counter[cells[j]] += np.uint32(1)


def _count_on_device(z, y, low, scale, num_classes, bins):
    neurons = z.shape[1]
    counts = torch.zeros(num_classes * neurons * bins, dtype=torch.int64, device=z.device)
    starts = torch.arange(neurons, device=z.device) * bins
    rows_at_once = max(1, counts.numel() // neurons)
    for rows in torch.arange(len(z), device=z.device).split(rows_at_once):
        cells = ((z[rows] - low) * scale).long().clamp_(max=bins - 1) + starts
        cells += (y[rows] * (neurons * bins))[:, None]
        counts += torch.bincount(cells.flatten(), minlength=len(counts))
    return counts.view(num_classes, neurons, bins)
