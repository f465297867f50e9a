"""Other estimators of the class-conditional neuron divergence than histograms: Gaussian, kernel density, neighbours.

Each takes pre-activations z (n, neurons), classes y (n,) and the class weights, and gives bits per neuron. They work on
a few neurons at a time, so that nothing of size samples x neurons x bins is ever built.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from scipy.special import digamma

from .histograms import histograms

GRID = 512
"""Bins over a neuron's range on which kernel densities are evaluated."""
NEIGHBOURS = 3
"""Neighbours of the nearest-neighbour estimator."""
_NARROWEST = 1e-3  # smallest deviation of a class, as a share of the neuron's
_CELLS = 1 << 22  # numbers in a block of work


def gaussian(z: torch.Tensor, y: torch.Tensor, num_classes: int, share: torch.Tensor) -> torch.Tensor:
    """Divergence of normal densities with the mean and variance of each class.

    The mixture's entropy has no closed form; the expectation of log2 p_c / m under each class is integrated by the
    trapezoidal rule over nine standard deviations on each side. A class narrower than 1/1000 of the neuron's deviation
    counts as that wide.

    Args:
        z: floating point, shape (n, neurons).
        y: classes in [0, num_classes), int64, shape (n,).
        num_classes: K.
        share: weight of each class, shape (K,), 0 for a class without samples.

    Returns:
        Bits, float64, shape (neurons,).
    """
    present = share > 0
    t = torch.linspace(-9, 9, 121, dtype=torch.float64, device=z.device)
    mass = torch.exp(-t.square() / 2)
    mass /= mass.sum()
    log_share = share[present].log()
    block = max(1, _CELLS // (len(t) * int(present.sum())))
    bits = []
    for part in z.split(block, dim=1):
        mean, deviation, whole = _moments(part.double(), y, num_classes)
        mean, deviation = mean[present], deviation[present].maximum(_NARROWEST * whole)
        constant = whole == 0
        deviation = torch.where(constant, 1.0, deviation)
        total = torch.zeros(part.shape[1], dtype=torch.float64, device=z.device)
        for own in range(len(mean)):
            x = mean[own][:, None] + deviation[own][:, None] * t  # (neurons, places)
            log_density = -((x - mean[..., None]) / deviation[..., None]).square() / 2 - deviation[..., None].log()
            mixture = torch.logsumexp(log_density + log_share[:, None, None], dim=0)
            total += log_share[own].exp() * ((log_density[own] - mixture) @ mass)
        bits.append(torch.where(constant, 0.0, total / math.log(2)))
    return torch.cat(bits).clamp(min=0)


def kernel(z: torch.Tensor, y: torch.Tensor, num_classes: int, share: torch.Tensor) -> torch.Tensor:
    """Divergence of Gaussian kernel densities with Scott's bandwidth for each class, s_c n_c^(-1/5).

    Densities are evaluated on a grid: GRID bins over the neuron's range and half of it on each side, smoothed by the
    fast Fourier transform. A bandwidth below a bin counts as a bin. Arguments and result as for `gaussian`.
    """
    present = share > 0
    counts_of_class = torch.bincount(y, minlength=num_classes)[present].double()
    frequency = 2 * math.pi * torch.fft.rfftfreq(2 * GRID, device=z.device).double()
    block = max(1, _CELLS // (2 * GRID * int(present.sum())))
    bits = []
    for part in z.split(block, dim=1):
        _, deviation, _ = _moments(part.double(), y, num_classes, correction=1)
        width = (part.amax(dim=0).double() - part.amin(dim=0).double()) / GRID
        scott = deviation[present] * counts_of_class[:, None] ** -0.2
        bandwidth = (scott / width).nan_to_num(nan=1.0, posinf=1.0).clamp(min=1.0)  # in bins
        counts = histograms(part, y, num_classes, GRID)[present].double() / counts_of_class[:, None, None]
        padded = torch.nn.functional.pad(counts, (GRID // 2, GRID // 2))
        response = torch.exp(-(bandwidth[..., None] * frequency).square() / 2)
        density = torch.fft.irfft(torch.fft.rfft(padded) * response, n=2 * GRID).clamp(min=0)
        density /= density.sum(dim=-1, keepdim=True)  # a narrow kernel ripples below 0
        mixture = torch.tensordot(share[present], density, dims=1)
        divergence = _entropy(mixture) - torch.tensordot(share[present], _entropy(density), dims=1)
        bits.append(torch.where(width > 0, divergence, 0.0))
    return torch.cat(bits).clamp(min=0)


def _entropy(p: torch.Tensor) -> torch.Tensor:
    """Entropy of probabilities along the last dimension, in bits."""
    return -torch.special.xlogy(p, p).sum(dim=-1) / math.log(2)


def neighbours(z: torch.Tensor, y: torch.Tensor, num_classes: int, share: torch.Tensor) -> torch.Tensor:
    """Divergence from the distances to the third nearest sample of the same class, computed on the CPU.

    With frequencies as weights it is the estimator of mutual information of Ross (PLoS ONE 2014): psi(N) + psi(k) -
    psi(N_c) - psi(m), averaged over samples, with m samples nearer than the k-th of the same class. With other weights
    each of the m counts by its class's weight over its frequency. Samples alone in their class are left out. Arguments
    and result as for `gaussian`.
    """
    values, labels = z.double().cpu().numpy(), y.cpu().numpy()
    in_class = np.bincount(labels, minlength=num_classes)
    kept = in_class[labels] > 1
    values, labels = np.ascontiguousarray(values[kept].T), labels[kept]
    in_class = np.bincount(labels, minlength=num_classes)
    weights = np.where(in_class > 0, share.cpu().numpy(), 0)
    if not weights.any():
        return torch.zeros(z.shape[1], dtype=torch.float64, device=z.device)
    weights /= weights.sum()
    n = len(labels)
    each = weights / np.maximum(in_class, 1)  # weight of a sample of each class
    k = np.minimum(NEIGHBOURS, in_class - 1)
    own = (digamma(n) + digamma(np.maximum(k, 1)) - digamma(np.maximum(in_class, 1)))[labels]

    def divergence(row: np.ndarray) -> float:
        near = _near(row, labels, k, n * each, np.argsort(row, kind="stable"))
        return (each[labels] * (own - digamma(near))).sum() / math.log(2)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        bits = np.fromiter(pool.map(divergence, values), dtype=np.float64, count=len(values))
    bits[np.ptp(values, axis=1) == 0] = 0
    return torch.from_numpy(np.maximum(bits, 0)).to(z.device)


@numba.njit(nogil=True, cache=True)
def _near(values, labels, k, weight, order):
    """Weighted number of samples nearer to each than the k-th of its own class, itself among them."""
    n = len(values)
    ordered = values[order]
    cumulative = np.zeros(n + 1)
    for place in range(n):
        cumulative[place + 1] = cumulative[place] + weight[labels[order[place]]]
    near = np.empty(n)
    for label in range(len(k)):
        members = np.flatnonzero(labels[order] == label)
        reach, count = k[label], len(members)
        for i in range(count):
            own = ordered[members[i]]
            radius = np.inf
            for start in range(max(0, i - reach), min(i, count - 1 - reach) + 1):
                furthest = max(own - ordered[members[start]], ordered[members[start + reach]] - own)
                radius = min(radius, furthest)
            radius = np.nextafter(radius, 0.0)
            first = np.searchsorted(ordered, own - radius)
            while first > 0 and own - ordered[first - 1] <= radius:
                first -= 1
            while own - ordered[first] > radius:
                first += 1
            last = np.searchsorted(ordered, own + radius, side="right")
            while last < n and ordered[last] - own <= radius:
                last += 1
            while ordered[last - 1] - own > radius:
                last -= 1
            near[order[members[i]]] = cumulative[last] - cumulative[first]
    return near


def _moments(z, y, num_classes: int, correction: int = 0):
    """Mean and standard deviation of each class (K, neurons), and the deviation of all samples (neurons,)."""
    counts = torch.bincount(y, minlength=num_classes).double()[:, None]
    zeros = z.new_zeros(num_classes, z.shape[1])
    mean = zeros.index_add(0, y, z) / counts.clamp(min=1)
    squares = zeros.index_add(0, y, (z - mean[y]).square())
    deviation = (squares / (counts - correction).clamp(min=1)).sqrt()
    return mean, deviation, z.std(dim=0, correction=0)
