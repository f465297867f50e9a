"""Results of the described original, imported as run folders."""

from lib.legacy.convert import convert, convert_one

__all__ = ["convert", "convert_one"]
