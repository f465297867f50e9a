"""Counting how many samples of each class fall into each bin of each neuron, and the divergence that follows.

The part of CND that must be fast: one pass over the values, class after class, with counters that stay in the cache; on
CPUs compiled by numba, on other devices as one `bincount`.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from scipy.special import xlogy

_BLOCK = 256  # neurons whose counters stay in the cache together
_SMALL = 2_000_000  # values below which starting threads costs more than they save


def ranges(z: torch.Tensor, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum and maximum of every neuron over some rows, float64. Raises ValueError for values that are not finite."""
    if z.device.type == "cpu":
        counted = np.arange(len(z)) if rows is None else rows.numpy()
        low, high = map(torch.from_numpy, _ranges(z.contiguous().numpy(), counted))
    else:
        z = z if rows is None else z[rows]
        low, high = z.amin(dim=0), z.amax(dim=0)
    if not torch.isfinite(high - low).all():
        raise ValueError("pre_activations: must be finite, and so must their range; got NaN or infinity")
    return low.double(), high.double()


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


def histogram_divergence(z: torch.Tensor, y: torch.Tensor, num_classes: int, bins: int, weights: str) -> torch.Tensor:
    """Divergence of the histograms of every neuron: bits, float64, shape (neurons,).

    Arguments and errors as for `histograms`, and `weights`, "uniform" over the classes present or "frequency". On CPUs
    the counts of a block of neurons are used while they are in the cache, and are never there for all neurons.
    """
    low, high = ranges(z, (y >= 0).nonzero()[:, 0])
    if z.device.type != "cpu":
        return divergence(count(z, y, low, high, num_classes, bins), weights)
    bits = _by_block(z, y, low, high, num_classes, bins, lambda counts: _bits(counts, weights))
    return torch.from_numpy(np.concatenate(bits))


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
    if z.device.type != "cpu":
        return _count_on_device(z, y, low.to(z.dtype), _scale(low, high, bins, z.dtype), num_classes, bins)
    blocks = _by_block(z, y, low, high, num_classes, bins, lambda counts: counts)
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def _scale(low: torch.Tensor, high: torch.Tensor, bins: int, dtype: torch.dtype) -> torch.Tensor:
    """Bins a unit, in the precision of the values: that of double would take twice the time.

    A width so small that bins have none is that of a constant neuron, as is 0: all samples are in the first bin.
    """
    scale = bins / (high.to(dtype) - low.to(dtype))
    return torch.where(scale.isfinite(), scale, 0)


def _by_block(z, y, low, high, num_classes: int, bins: int, use: Callable[[np.ndarray], np.ndarray]) -> list:
    """What is made of the counts of block after block of neurons, shape (K, neurons of the block, bins); on CPUs."""
    values, labels, neurons = z.contiguous().numpy(), y.numpy(), z.shape[1]
    in_class = np.bincount(labels + 1, minlength=num_classes + 1)  # those that do not count come first
    short = labels.astype(np.min_scalar_type(-num_classes))  # NumPy sorts short integers by radix, many times faster
    rows, starts = np.argsort(short, kind="stable"), np.cumsum(in_class)
    low, scale = low.to(z.dtype).numpy(), _scale(low, high, bins, z.dtype).numpy()

    def of_block(first: int) -> np.ndarray:
        last = min(first + _BLOCK, neurons)
        return use(_count_block(values, rows, starts, low, scale, bins, first, last))

    firsts = range(0, neurons, _BLOCK)
    if values.size < _SMALL:
        return [of_block(first) for first in firsts]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(of_block, firsts))


def class_weights(totals, weights: str):
    """Weight of each class by its number of samples, float64 arrays or tensors of shape (K,); 0 where there is none."""
    counted = totals if weights == "frequency" else totals.clip(max=1)
    return counted / counted.sum()


def divergence(counts: torch.Tensor, weights: str) -> torch.Tensor:
    """Divergence from the counts of `histograms`, shape (K, neurons, bins): bits, float64, shape (neurons,)."""
    return torch.from_numpy(_bits(counts.cpu().numpy(), weights)).to(counts.device)


def _bits(counts: np.ndarray, weights: str) -> np.ndarray:
    totals = counts[:, 0].sum(axis=1).astype(np.float64)
    # A class entropy is log2 n - sum_b c_b log2 c_b / n: a table of integers' logarithms spares most logarithms.
    numbers = np.arange(totals.max() + 1)
    return _divergence(counts, totals, class_weights(totals, weights), xlogy(numbers, numbers) / math.log(2))


@numba.njit(nogil=True, cache=True)
def _divergence(counts, totals, share, c_log_c):
    _, neurons, bins = counts.shape
    bits, present = np.empty(neurons), np.flatnonzero(totals)
    most = (share[present] * np.log2(totals[present])).sum()
    mixture, logarithms = np.empty(bins), np.empty(bins)
    for j in range(neurons):
        mixture[:] = 0
        logarithms[:] = 0
        for c in present:
            in_bin, per_sample = counts[c, j], share[c] / totals[c]
            for b in range(bins):
                mixture[b] += per_sample * in_bin[b]
                logarithms[b] += per_sample * c_log_c[in_bin[b]]
        entropy = logarithms.sum() - most
        for p in mixture:
            if p > 0:
                entropy -= p * math.log2(p)
        bits[j] = max(entropy, 0.0)
    return bits


# Index and count go in two loops because the compiler vectorises the first only where it stands alone.
@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count_block(z, rows, starts, low, scale, bins, first, last):
    last_bin = np.int32(bins - 1)
    classes, neurons = len(starts) - 1, last - first
    counts = np.zeros((classes, neurons * bins), dtype=np.int32)
    lows, scales = low[first:last], scale[first:last]
    offsets = (np.arange(neurons) * bins).astype(np.int32)
    cells = np.empty(neurons, dtype=np.uint32)
    for label in range(classes):
        counter = counts[label]
        for i in rows[starts[label] : starts[label + 1]]:
            row = z[i, first:last]
            for j in range(neurons):
                cells[j] = min(np.int32((row[j] - lows[j]) * scales[j]), last_bin) + offsets[j]
            for j in range(neurons):
                counter[cells[j]] += np.int32(1)
    return counts.reshape(classes, neurons, bins)


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
