"""Counting how many samples of each class fall into each bin of each neuron.

The part of CND that must be fast: one pass over the values, class after class, with counters that stay in the cache; on
CPUs compiled by numba, where it is installed; else, and on other devices, by `bincount`.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .compiling import COMPILED, compiled

_BLOCK = 256  # neurons whose counters stay in the cache together


def ranges(z: torch.Tensor, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum and maximum of every neuron over some rows. Raises ValueError for values that are not finite."""
    if _in_numba(z):
        counted = np.arange(len(z)) if rows is None else rows.numpy()
        low, high = map(torch.from_numpy, _ranges(z.contiguous().numpy(), counted))
    else:
        z = z if rows is None else z[rows]
        low, high = z.amin(dim=0), z.amax(dim=0)
    if not torch.isfinite(high - low).all():
        raise ValueError("pre_activations: must be finite, and so must their range; got NaN or infinity")
    return low, high


def _in_numba(z: torch.Tensor) -> bool:
    return COMPILED and z.device.type == "cpu"


# Of the ways to write it NumPy's functions are the one that the compiler vectorises; they also keep NaN.
@compiled(nogil=True, cache=True)
def _ranges(z, rows):
    low, high = z[rows[0]].copy(), z[rows[0]].copy()
    for i in rows:
        row = z[i]
        for j in range(len(row)):
            low[j] = np.minimum(low[j], row[j])
        for j in range(len(row)):
            high[j] = np.maximum(high[j], row[j])
    return low, high


def count(z: torch.Tensor, y: torch.Tensor, num_classes: int, bins: int, ends=None) -> torch.Tensor:
    """How many samples of each class fall into each bin of each neuron.

    Args:
        z: pre-activations, shape (n, neurons).
        y: classes in [0, num_classes), int64, shape (n,), on the device of z; -1 for a sample that does not count.
        num_classes: K.
        bins: equal bins between a neuron's ends; a constant neuron has all samples in the first.
        ends: lowest and highest value of each neuron, of the type of z, shape (neurons,), between which all values must
            lie; None: those that are there.

    Returns:
        Counts, integers of shape (K, neurons, bins).

    Raises:
        ValueError: without ends, for a value that is not finite among those that count, of which there must be one.
    """
    low, high = ends or ranges(z, (y >= 0).nonzero()[:, 0])
    # Bins a unit. Where neurons are so narrow that it is infinite, all samples are in the first bin.
    scale = bins / (high - low)
    scale = torch.where(scale.isfinite(), scale, 0)
    if not _in_numba(z):
        return _count_on_device(z, y, low, scale, num_classes, bins)
    values, low, scale = z.contiguous().numpy(), low.numpy(), scale.numpy()
    labels = y.numpy().astype(np.min_scalar_type(-num_classes))  # short integers are sorted many times faster
    rows = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[rows], np.arange(num_classes + 1))

    def of_block(first: int) -> np.ndarray:
        last = first + _BLOCK
        return _count_block(values, rows, starts, low[first:last], scale[first:last], bins, first)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        blocks = list(pool.map(of_block, range(0, len(low), _BLOCK)))
    return torch.from_numpy(np.concatenate(blocks, axis=1))


# Index and count go in two loops because the compiler vectorises the first only where it stands alone.
@compiled(nogil=True, cache=True, error_model="numpy")
def _count_block(z, rows, starts, low, scale, bins, first):
    last_bin = np.int32(bins - 1)
    classes, neurons = len(starts) - 1, len(low)
    counts = np.zeros((classes, neurons * bins), dtype=np.int32)
    offsets = (np.arange(neurons) * bins).astype(np.int32)
    cells = np.empty(neurons, dtype=np.uint32)
    for label in range(classes):
        counter = counts[label]
        for i in rows[starts[label] : starts[label + 1]]:
            row = z[i, first : first + neurons]
            for j in range(neurons):
                cells[j] = min(np.int32((row[j] - low[j]) * scale[j]), last_bin) + offsets[j]
            for j in range(neurons):
                counter[cells[j]] += np.int32(1)
    return counts.reshape(classes, neurons, bins)


def _count_on_device(z, y, low, scale, num_classes: int, bins: int) -> torch.Tensor:
    neurons = z.shape[1]
    counts = torch.zeros(num_classes * neurons * bins, dtype=torch.int64, device=z.device)
    starts = torch.arange(neurons, device=z.device) * bins
    for rows in (y >= 0).nonzero()[:, 0].split(num_classes * bins):  # indices take no more memory than counts
        cells = ((z[rows] - low) * scale).long().clamp_(max=bins - 1) + starts
        cells += (y[rows] * (neurons * bins))[:, None]
        counts += torch.bincount(cells.flatten(), minlength=len(counts))
    return counts.view(num_classes, neurons, bins)
