"""Independent random streams of one seed: what one of them draws tells nothing about another."""

import numpy as np

_PURPOSES = ("noise", "validation", "measured", "probe", "batches")


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The generator of a purpose, one of noise, validation, measured, probe, batches; an index makes it a family."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose), *index)))
