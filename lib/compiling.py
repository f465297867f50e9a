"""Loops compiled by numba where it is installed; where it is not they run as Python, or something else is taken."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

COMPILED = find_spec("numba") is not None
"""Whether numba is there: the measures need torch and NumPy alone."""


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: `numba.njit` with these options, or nothing."""
    if not COMPILED:
        return lambda function: function
    import numba

    return numba.njit(**options)
