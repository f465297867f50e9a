"""Packages that only some loops need."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import inside what an extra of the distribution brings; its error says which one to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        told = f"{error.name} is missing: pip install 'memorization-under-label-noise[{name}]'"
        raise ModuleNotFoundError(told, name=error.name) from None
