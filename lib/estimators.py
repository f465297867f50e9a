"""The divergence by each estimator of the class densities: histogram, Gaussian, kernel density, neighbours.

`gaussian`, `kernel` and `neighbours` take pre-activations z, floating point of shape (n, neurons), classes y, int64 in
[0, num_classes) of shape (n,), and the weight of each class, float64 of shape (K,) and 0 for a class without samples.
They build arrays of classes x neurons x places, and so are given a few neurons at a time. All give bits, float64 of
shape (neurons,).
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .histograms import count

GRID = 512
"""Bins over a neuron's range on which kernel densities are evaluated."""
NEIGHBOURS = 3
"""Neighbours of the nearest-neighbour estimator."""
_NARROWEST = 1e-3  # smallest deviation of a class, as a share of the neuron's


def of_counts(counts: torch.Tensor, weights: str) -> torch.Tensor:
    """Divergence of the histograms that `lib.histograms.count` gave, shape (K, neurons, bins)."""
    totals = counts[:, 0].sum(dim=1).double().cpu()
    share = class_weights(totals, weights).numpy()
    # A class entropy is log2 n - sum_b c_b log2 c_b / n: a table of integers' logarithms spares most logarithms.
    numbers = np.arange(int(totals.max()) + 1)
    c_log_c = _x_log_x(numbers)
    mixture, within = np.zeros(counts.shape[1:]), np.zeros(counts.shape[1])
    for n, weight, in_bin in zip(totals.int().tolist(), share, counts.cpu().numpy(), strict=True):
        if n:
            mixture += weight / n * in_bin
            within += weight / n * (c_log_c[n] - c_log_c[in_bin].sum(axis=1))
    bits = (-_x_log_x(mixture).sum(axis=1) - within) / math.log(2)
    return torch.from_numpy(np.maximum(bits, 0)).to(counts.device)


def bias(counts: torch.Tensor) -> torch.Tensor:
    """What small samples add to `of_counts` on average, (K - 1) (B - 1) / (2 n ln 2) bits (Miller, 1955; Madow)."""
    samples, classes = counts[:, 0].sum(), (counts[:, 0].sum(dim=1) > 0).sum()
    occupied = (counts.sum(dim=0) > 0).sum(dim=1)
    return ((classes - 1) * (occupied - 1)).double() / (2 * math.log(2) * samples)


def class_weights(totals: torch.Tensor, weights: str) -> torch.Tensor:
    """Weight of each class by its number of samples, float64, shape (K,); 0 where there is none."""
    counted = totals if weights == "frequency" else totals.clamp(max=1)
    return counted / counted.sum()


def gaussian(z: torch.Tensor, y: torch.Tensor, num_classes: int, share: torch.Tensor) -> torch.Tensor:
    """Divergence of normal densities with the mean and variance of each class.

    The mixture's entropy has no closed form; the expectation of log2 p_c / m under each class is integrated by the
    trapezoidal rule over nine standard deviations on each side. A class narrower than 1/1000 of the neuron's deviation
    counts as that wide.
    """
    present = share > 0
    t = torch.linspace(-9, 9, 121, dtype=torch.float64, device=z.device)
    mass = torch.exp(-t.square() / 2)
    mass /= mass.sum()
    mean, deviation = (moment[present, :, None] for moment in _moments(z.double(), y, num_classes, correction=0))
    whole = z.double().std(dim=0, correction=0)[:, None]
    deviation = torch.where(whole == 0, 1.0, deviation.maximum(_NARROWEST * whole))
    bits = torch.zeros(z.shape[1], dtype=torch.float64, device=z.device)
    for own, weight in enumerate(share[present]):
        x = mean[own] + deviation[own] * t  # (neurons, places)
        log_density = -((x - mean) / deviation).square() / 2 - deviation.log()
        mixture = torch.logsumexp(log_density + share[present].log()[:, None, None], dim=0)
        bits += weight * ((log_density[own] - mixture) @ mass) / math.log(2)
    return torch.where(whole[:, 0] == 0, 0.0, bits).clamp(min=0)


def kernel(z: torch.Tensor, y: torch.Tensor, num_classes: int, share: torch.Tensor) -> torch.Tensor:
    """Divergence of Gaussian kernel densities with Scott's bandwidth for each class, s_c n_c^(-1/5).

    Densities are evaluated on a grid: GRID bins over the neuron's range and half of it on each side, smoothed by the
    fast Fourier transform. A bandwidth below a bin counts as a bin.
    """
    present = share > 0
    in_class = torch.bincount(y, minlength=num_classes)[present].double()
    frequency = 2 * math.pi * torch.fft.rfftfreq(2 * GRID, device=z.device).double()
    _, deviation = _moments(z.double(), y, num_classes, correction=1)
    width = (z.amax(dim=0).double() - z.amin(dim=0).double()) / GRID
    scott = deviation[present] * in_class[:, None] ** -0.2
    bandwidth = (scott / width).nan_to_num(nan=1.0, posinf=1.0).clamp(min=1.0)  # in bins
    counts = torch.nn.functional.pad(count(z, y, num_classes, GRID)[present].double(), (GRID // 2, GRID // 2))
    response = torch.exp(-(bandwidth[..., None] * frequency).square() / 2)
    density = torch.fft.irfft(torch.fft.rfft(counts) * response, n=2 * GRID).clamp(min=0)
    density /= density.sum(dim=-1, keepdim=True)  # a narrow kernel ripples below 0
    mixture = torch.tensordot(share[present], density, dims=1)
    bits = _entropy(mixture) - torch.tensordot(share[present], _entropy(density), dims=1)
    return torch.where(width > 0, bits, 0.0).clamp(min=0)


def neighbours(z: torch.Tensor, y: torch.Tensor, num_classes: int, share: torch.Tensor) -> torch.Tensor:
    """Divergence from the distances to the third nearest sample of the same class, computed on the CPU.

    With frequencies as weights it is the estimator of mutual information of Ross (PLoS ONE 2014): psi(N) + psi(k) -
    psi(N_c) - psi(m), averaged over samples, with m samples nearer than the k-th of the same class. With other weights
    each of the m counts by its class's weight over its frequency. Samples alone in their class are left out.
    """
    values, labels = z.double().cpu().numpy(), y.cpu().numpy()
    kept = np.bincount(labels, minlength=num_classes)[labels] > 1
    values, labels = values[kept], labels[kept]
    in_class = np.bincount(labels, minlength=num_classes)
    weights = np.where(in_class > 0, share.cpu().numpy(), 0)
    if not weights.any():
        return torch.zeros(z.shape[1], dtype=torch.float64, device=z.device)
    each = weights / weights.sum() / np.maximum(in_class, 1)  # weight of a sample of each class
    present, n = np.flatnonzero(in_class), len(labels)
    k = np.minimum(NEIGHBOURS, in_class - 1)

    def divergence(row: np.ndarray) -> float:
        if np.ptp(row) == 0:
            return 0.0
        order = np.argsort(row, kind="stable")
        ordered, label = row[order], labels[order]
        cumulative = n * np.r_[0, np.cumsum(each[label])]
        total = 0.0
        for c in present:
            own = ordered[label == c]
            first, last = _nearer(own, k[c], ordered)
            psi = _digamma(n) + _digamma(k[c]) - _digamma(in_class[c]) - _digamma(cumulative[last] - cumulative[first])
            total += each[c] * psi.sum()
        return max(total / math.log(2), 0.0)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return torch.tensor(list(pool.map(divergence, values.T)), dtype=torch.float64, device=z.device)


def _nearer(own: np.ndarray, k: int, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last place in `ordered` of what is nearer to each of `own` than the k-th other of them."""
    count = len(own)
    padded = np.r_[np.full(k, -np.inf), own, np.full(k, np.inf)]
    # The k-th is an end of the narrowest of the windows of k + 1 neighbours that a sample is in.
    windows = [np.maximum(own - padded[s : s + count], padded[s + k : s + k + count] - own) for s in range(k + 1)]
    radius = np.min(windows, axis=0) * (1 - 1e-12)  # less than its rounding, so that the k-th is never nearer
    low = np.minimum(np.nextafter(own - radius, np.inf), own)  # a radius of 0 takes in what is equal
    high = np.maximum(np.nextafter(own + radius, -np.inf), own)
    return np.searchsorted(ordered, low, side="left"), np.searchsorted(ordered, high, side="right")


def _digamma(values) -> np.ndarray:
    return torch.special.digamma(torch.as_tensor(values, dtype=torch.float64)).numpy()


def _x_log_x(values: np.ndarray) -> np.ndarray:
    there = torch.from_numpy(values).double()
    return torch.special.xlogy(there, there).numpy()


def _entropy(p: torch.Tensor) -> torch.Tensor:
    """Entropy of probabilities along the last dimension, in bits."""
    return -torch.special.xlogy(p, p).sum(dim=-1) / math.log(2)


def _moments(z: torch.Tensor, y: torch.Tensor, num_classes: int, correction: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each class, shape (K, neurons)."""
    counts = torch.bincount(y, minlength=num_classes).double()[:, None]
    zeros = z.new_zeros(num_classes, z.shape[1])
    mean = zeros.index_add(0, y, z) / counts.clamp(min=1)
    squares = zeros.index_add(0, y, (z - mean[y]).square())
    return mean, (squares / (counts - correction).clamp(min=1)).sqrt()
