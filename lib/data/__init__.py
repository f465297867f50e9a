"""Datasets by name or path: loaded, their labels corrupted, in memory on one device."""

from lib.data.dataset import Dataset
from lib.data.loading import load, register

__all__ = ["Dataset", "load", "register"]
