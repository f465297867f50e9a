"""Run folders: written, locked, read back, and many of them as one table."""

from lib.runs.table import load

__all__ = ["load"]
