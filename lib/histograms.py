"""Counting how many samples of each class fall into each bin of each neuron, and the divergence that follows.

The part of CND that must be fast: one pass over the values, class after class, with counters that stay in the cache; on
CPUs compiled by numba, on other devices as one `bincount`.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

_BLOCK = 256  # neurons whose counters stay in the cache together
_SMALL = 2_000_000  # values below which starting threads costs more than they save


def ranges(z: torch.Tensor, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum and maximum of every neuron over some rows, float64. Raises ValueError for values that are not finite."""
    if z.device.type == "cpu":
        rows = torch.arange(len(z)) if rows is None else rows
        low, high = (torch.from_numpy(bound).double() for bound in _ranges(z.contiguous().numpy(), rows.numpy()))
    else:
        z = z if rows is None else z[rows]
        low, high = z.amin(dim=0).double(), z.amax(dim=0).double()
    if not torch.isfinite((high - low).to(z.dtype)).all():
        raise ValueError("pre_activations: must be finite, and so must their range; got NaN or infinity")
    return low, high


# Of the ways to write it NumPy's functions are the one that the compiler vectorises; they also keep NaN.
@numba.njit(nogil=True, cache=True)
def _ranges(z, rows):
    low, high = z[rows[0]].copy(), z[rows[0]].copy()
    for i in rows:
        row = z[i]
        for j in range(len(row)):
            low[j] = np.minimum(low[j], row[j])
        for j in range(len(row)):
            high[j] = np.maximum(high[j], row[j])
    return low, high


def histograms(z: torch.Tensor, y: torch.Tensor, num_classes: int, bins: int) -> torch.Tensor:
    """How many samples of each class fall into each bin of each neuron.

    Args:
        z: pre-activations, shape (n, neurons).
        y: classes in [0, num_classes), int64, shape (n,), on the device of z; -1 for a sample that does not count.
        num_classes: K.
        bins: equal bins between a neuron's minimum and maximum; a constant neuron has all samples in the first.

    Returns:
        Counts, shape (K, neurons, bins).

    Raises:
        ValueError: for a value that is not finite among those that count, of which there must be one.
    """
    return count(z, y, *ranges(z, (y >= 0).nonzero()[:, 0]), num_classes, bins)


def count(z, y, low, high, num_classes: int, bins: int) -> torch.Tensor:
    """As `histograms`, in bins between low and high, float64 of shape (neurons,), between which all values must lie."""
    # In the precision of the values: double would take twice the time to bin singles, and the same bins but at edges.
    # A width so small that bins have none is that of a constant neuron.
    scale = (bins / (high - low)).to(z.dtype).nan_to_num(nan=0.0, posinf=0.0)
    counted = _count_on_cpu if z.device.type == "cpu" else _count_on_device
    return counted(z, y, low.to(z.dtype), scale, num_classes, bins)


def class_weights(totals: torch.Tensor, weights: str) -> torch.Tensor:
    """Weight of each class by its number of samples, both of shape (K,); 0 for a class without samples."""
    present = (totals > 0).double()
    return totals.double() / totals.sum() if weights == "frequency" else present / present.sum()


def divergence(counts: torch.Tensor, weights: str) -> torch.Tensor:
    """Divergence from the counts of `histograms`, shape (K, neurons, bins): bits, float64, shape (neurons,)."""
    totals = counts[:, 0].sum(dim=1).double()
    share = class_weights(totals, weights)
    # A class entropy is log2 n - sum_b c_b log2 c_b / n: a table of integers' logarithms spares most logarithms.
    c_log_c = _x_log2_x(torch.arange(int(totals.max()) + 1, dtype=torch.float64, device=counts.device))
    if counts.device.type == "cpu":
        return torch.from_numpy(_divergence(counts.numpy(), totals.numpy(), share.numpy(), c_log_c.numpy()))
    counts, share, totals = counts[totals > 0], share[totals > 0], totals[totals > 0]
    mixture = torch.tensordot(share / totals, counts.double(), dims=1)
    class_entropies = totals.log2()[:, None] - c_log_c[counts].sum(dim=-1) / totals[:, None]
    return (entropy_bits(mixture) - share @ class_entropies).clamp(min=0)


@numba.njit(nogil=True, cache=True)
def _divergence(counts, totals, share, c_log_c):
    _, neurons, bins = counts.shape
    bits, present = np.empty(neurons), np.flatnonzero(totals)
    for j in range(neurons):
        mixture, within = np.zeros(bins), 0.0
        for c in present:
            in_bin, logarithms, per_sample = counts[c, j], 0.0, share[c] / totals[c]
            for b in range(bins):
                mixture[b] += per_sample * in_bin[b]
            for cell in in_bin:
                logarithms += c_log_c[cell]
            within += share[c] * (math.log2(totals[c]) - logarithms / totals[c])
        entropy = 0.0
        for p in mixture:
            if p > 0:
                entropy -= p * math.log2(p)
        bits[j] = max(entropy - within, 0.0)
    return bits


def entropy_bits(p: torch.Tensor) -> torch.Tensor:
    """Entropy of probabilities along the last dimension, in bits."""
    return -_x_log2_x(p).sum(dim=-1)


def _x_log2_x(x: torch.Tensor) -> torch.Tensor:
    return torch.special.xlogy(x, x) / math.log(2)


def _count_on_cpu(z, y, low, scale, num_classes, bins):
    neurons = z.shape[1]
    counts = np.zeros((num_classes, neurons * bins), dtype=np.int32)
    rows, starts = _by_class(y.numpy(), num_classes)
    arguments = (z.contiguous().numpy(), rows, starts, low.numpy(), scale.numpy(), bins, counts)

    def count_block(first):
        _count_block(*arguments, first, min(first + _BLOCK, neurons))

    blocks = range(0, neurons, _BLOCK)
    if z.numel() < _SMALL:
        for first in blocks:
            count_block(first)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(count_block, blocks))
    return torch.from_numpy(counts).view(num_classes, neurons, bins)


@numba.njit(nogil=True, cache=True)
def _by_class(y, num_classes):
    """The rows of class 0, then those of class 1 and so on, and where each class starts."""
    starts = np.zeros(num_classes + 1, dtype=np.int64)
    for label in y:
        if label >= 0:
            starts[label + 1] += 1
    starts = np.cumsum(starts)
    following, rows = starts.copy(), np.empty(starts[-1], dtype=np.int64)
    for i in range(len(y)):
        if y[i] >= 0:
            rows[following[y[i]]] = i
            following[y[i]] += 1
    return rows, starts


# Index and count go in two loops because the compiler vectorises the first only where it stands alone.
@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count_block(z, rows, starts, low, scale, bins, counts, first, last):
    last_bin = np.int32(bins - 1)
    neurons = last - first
    lows, scales = low[first:last], scale[first:last]
    offsets = (np.arange(neurons) * bins).astype(np.int32)
    cells = np.empty(neurons, dtype=np.uint32)
    for label in range(len(starts) - 1):
        counter = counts[label, first * bins : last * bins]
        for i in rows[starts[label] : starts[label + 1]]:
            row = z[i, first:last]
            for j in range(neurons):
                cells[j] = min(np.int32((row[j] - lows[j]) * scales[j]), last_bin) + offsets[j]
            for j in range(neurons):
                counter[cells[j]] += np.int32(1)


def _count_on_device(z, y, low, scale, num_classes, bins):
    neurons = z.shape[1]
    counts = torch.zeros(num_classes * neurons * bins, dtype=torch.int64, device=z.device)
    starts = torch.arange(neurons, device=z.device) * bins
    rows_at_once = max(1, counts.numel() // neurons)
    for rows in (y >= 0).nonzero()[:, 0].split(rows_at_once):
        cells = ((z[rows] - low) * scale).long().clamp_(max=bins - 1) + starts
        cells += (y[rows] * (neurons * bins))[:, None]
        counts += torch.bincount(cells.flatten(), minlength=len(counts))
    return counts.view(num_classes, neurons, bins)
