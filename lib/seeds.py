"""Independent random streams of one seed: what one of them draws tells nothing about another."""

import numbers

import numpy as np

from .checks import ParameterError

# The place of a purpose is part of its stream: new ones go to the end.
_PURPOSES = (
    "noise",
    "validation",
    "measured",
    "probe",
    "batches",
    "train_samples",
    "test_samples",
    "augmentation",
)


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The generator of a purpose, such as noise, validation or batches; an index makes it a family.

    Raises ParameterError for a seed below 0.
    """
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise ParameterError(f"seed={seed!r}: must be an integer of at least 0")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose), *index)))
