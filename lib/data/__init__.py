"""Datasets by name or path: loaded, their labels corrupted, in memory on one device."""

from lib.data.dataset import Dataset
from lib.data.loading import LOADERS, load, register

__all__ = ["LOADERS", "Dataset", "load", "register"]
