"""Counting how many samples of each class fall into each bin of each neuron, and the divergence that follows.

The part of CND that must be fast: one pass over the values, class after class, with counters that stay in the cache; on
CPUs compiled by numba, on other devices as one `bincount`.
"""

import math
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
        rows = torch.arange(len(z)) if rows is None else rows
        low, high = _finite_ranges(z.contiguous().numpy(), rows.numpy())
        return torch.from_numpy(low).double(), torch.from_numpy(high).double()
    z = z if rows is None else z[rows]
    low, high = z.amin(dim=0), z.amax(dim=0)
    _check_finite(bool(torch.isfinite(high - low).all()))
    return low.double(), high.double()


def _finite_ranges(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = _ranges(values, rows)
    with np.errstate(over="ignore", invalid="ignore"):
        _check_finite(bool(np.isfinite(high - low).all()))
    return low, high


def _check_finite(finite: bool) -> None:
    if not finite:
        raise ValueError("pre_activations: must be finite, and so must their range; got NaN or infinity")


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
    if z.device.type != "cpu":
        return divergence(histograms(z, y, num_classes, bins), weights)
    values, rows, starts = z.contiguous().numpy(), *_by_class(y.numpy(), num_classes)
    low, high = _finite_ranges(values, np.flatnonzero(y.numpy() >= 0))
    totals = np.diff(starts).astype(np.float64)
    share, c_log_c = class_weights(totals, weights), _x_log2_x(np.arange(totals.max() + 1))
    arguments = (rows, starts, low, _scale(low, high, bins), bins, totals, share, c_log_c)
    return torch.from_numpy(np.concatenate(_in_blocks(_divergence_of_block, values, *arguments)))


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
    low, high = low.to(z.dtype), high.to(z.dtype)
    if z.device.type != "cpu":
        return _count_on_device(z, y, low, _scale(low, high, bins), num_classes, bins)
    values, rows, starts = z.contiguous().numpy(), *_by_class(y.numpy(), num_classes)
    low, high = low.numpy(), high.numpy()
    blocks = _in_blocks(_count_block, values, rows, starts, low, _scale(low, high, bins), bins)
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def _scale(low, high, bins: int):
    """Bins a unit, arrays or tensors, in the precision of the values: that of double would take twice the time.

    A width so small that bins have none is that of a constant neuron, as is 0: all samples are in the first bin.
    """
    with np.errstate(divide="ignore", over="ignore"):
        scale = bins * (1 / (high - low))  # what torch makes of bins / (high - low); NumPy rounds that otherwise
    scale[~(abs(scale) < math.inf)] = 0
    return scale


def class_weights(totals, weights: str):
    """Weight of each class by its number of samples, float64 arrays or tensors of shape (K,); 0 where there is none."""
    counted = totals if weights == "frequency" else totals.clip(max=1)
    return counted / counted.sum()


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


def entropy_bits(p: torch.Tensor) -> torch.Tensor:
    """Entropy of probabilities along the last dimension, in bits."""
    return -_x_log2_x(p).sum(dim=-1)


def _x_log2_x(x):
    """x log2 x of an array or tensor, 0 at 0."""
    return (torch.special.xlogy if isinstance(x, torch.Tensor) else xlogy)(x, x) / math.log(2)


def _in_blocks(compiled, values: np.ndarray, *arguments) -> list[np.ndarray]:
    """What a compiled function gives on block after block of neurons, which are its last two arguments."""
    neurons = values.shape[1]
    blocks = [(first, min(first + _BLOCK, neurons)) for first in range(0, neurons, _BLOCK)]
    if values.size < _SMALL:
        return [compiled(values, *arguments, *block) for block in blocks]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(lambda block: compiled(values, *arguments, *block), blocks))


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


@numba.njit(nogil=True, cache=True)
def _divergence_of_block(z, rows, starts, low, scale, bins, totals, share, c_log_c, first, last):
    return _divergence(_count_block(z, rows, starts, low, scale, bins, first, last), totals, share, c_log_c)


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
