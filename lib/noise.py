"""Label noise: wrong labels in exact number, with the mask that says which they are."""

import numpy as np

from lib.arrays import like, to_numpy
from lib.parameters import CHOICES, ParameterError, check_choice
from lib.seeds import stream


def symmetric(labels, rate: float, num_classes: int, seed: int):
    """Give round(rate * n) samples a label drawn uniformly from the other classes.

    Args:
        labels: class of each sample, integers in [0, num_classes), shape (n,), array or tensor.
        rate: share of samples to corrupt, in [0, 1).
        num_classes: K, at least 2.
        seed: of the draw.

    Returns:
        (noisy_labels, corrupted_mask): the labels with noise, and a boolean mask of the samples whose label is
        wrong, both of shape (n,) and of the kind of `labels`.

    Raises:
        ParameterError: for a rate, number of classes or labels out of range.
    """
    return _corrupt(labels, rate, num_classes, seed, _other_class)


def pair(labels, rate: float, num_classes: int, seed: int):
    """Give round(rate * n) samples the next class, c -> c + 1 mod K (pair flipping).

    Arguments, result and errors as in `symmetric`.
    """
    return _corrupt(labels, rate, num_classes, seed, lambda chosen, k, rng: (chosen + 1) % k)


def none(labels, rate: float, num_classes: int, seed: int):
    """Leave the labels as they are; arguments, result and errors as in `symmetric`."""
    return _corrupt(labels, 0.0, num_classes, seed, _other_class)


def corrupt(kind: str, labels, rate: float, num_classes: int, seed: int):
    """Noise of the named kind: none, symmetric or pair; arguments, result and errors as in `symmetric`."""
    check_choice("noise", kind, CHOICES["noise"])
    return {"none": none, "symmetric": symmetric, "pair": pair}[kind](labels, rate, num_classes, seed)


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
    if num_classes < 2:
        raise ParameterError(f"num_classes={num_classes}: must be an integer of at least 2")
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ParameterError(f"labels of shape {array.shape} and type {array.dtype}: must be (n,) integers")
    if len(array) and not (array.min() >= 0 and array.max() < num_classes):
        raise ParameterError(f"labels in [{array.min()}, {array.max()}]: must be in [0, {num_classes - 1}]")
    return array


def _corrupt(labels, rate, num_classes, seed, wrong_labels):
    given = _checked(labels, num_classes)
    if not 0 <= rate < 1:
        raise ParameterError(f"noise_rate={rate}: must be a number in [0, 1)")
    rng = stream(seed, "noise")
    chosen = rng.permutation(len(given))[: round(rate * len(given))]
    noisy, mask = given.copy(), np.zeros(len(given), dtype=bool)
    noisy[chosen] = wrong_labels(given[chosen], num_classes, rng)
    mask[chosen] = True
    return like(noisy, labels), like(mask, labels)
