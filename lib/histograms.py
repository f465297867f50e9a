"""Counting how many samples of each class fall into each bin of each neuron, and the divergence that follows.

The part of CND that must be fast: one pass over the values with counters that stay in the cache, on CPUs compiled by
numba and on other devices as one `bincount`.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

_BLOCK = 256  # neurons whose counters stay in the cache together


def ranges(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum and maximum of every neuron, float64. Raises ValueError for values that are not finite."""
    low, high = z.amin(dim=0).double(), z.amax(dim=0).double()
    if not torch.isfinite(high - low).all():
        raise ValueError("pre_activations: must be finite, and so must their range; got NaN or infinity")
    return low, high


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
    return count(z, y, *ranges(z), num_classes, bins)


def count(z, y, low, high, num_classes: int, bins: int) -> torch.Tensor:
    """As `histograms`, in bins between low and high, float64 of shape (neurons,), between which all values must lie."""
    # A width so small that bins have none is that of a constant neuron.
    scale = (bins / (high - low)).nan_to_num(nan=0.0, posinf=0.0)
    counted = _count_on_cpu if z.device.type == "cpu" else _count_on_device
    return counted(z, y, low, scale, num_classes, bins)


def class_weights(totals: torch.Tensor, weights: str) -> torch.Tensor:
    """Weight of each class by its number of samples, both of shape (K,); 0 for a class without samples."""
    present = (totals > 0).double()
    return totals.double() / totals.sum() if weights == "frequency" else present / present.sum()


def divergence(counts: torch.Tensor, weights: str) -> torch.Tensor:
    """Divergence from the counts of `histograms`, shape (K, neurons, bins): bits, float64, shape (neurons,)."""
    totals = counts[:, 0].sum(dim=1)
    share = class_weights(totals, weights)[totals > 0]
    counts, totals = counts[totals > 0], totals[totals > 0].double()
    mixture = torch.tensordot(share / totals, counts.double(), dims=1)
    # A class entropy is log2 n - sum_b c_b log2 c_b / n: a table of integers' logarithms spares most logarithms.
    c_log_c = _x_log2_x(torch.arange(counts.max() + 1, dtype=torch.float64, device=counts.device))
    class_entropies = totals.log2()[:, None] - c_log_c[counts].sum(dim=-1) / totals[:, None]
    return (entropy_bits(mixture) - share @ class_entropies).clamp(min=0)


def entropy_bits(p: torch.Tensor) -> torch.Tensor:
    """Entropy of probabilities along the last dimension, in bits."""
    return -_x_log2_x(p).sum(dim=-1)


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
