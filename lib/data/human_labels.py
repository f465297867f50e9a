"""CIFAR-10N and CIFAR-100N: the labels that people gave (Wei et al., ICLR 2022).

The official files are pickles. They are loaded with an unpickler that knows nothing but tensors, plain values and NumPy
arrays, so that no code in them can run.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.checks import ParameterError, found
from lib.data.downloads import Archive, fetch

_URL = "https://github.com/UCSC-REAL/cifar-10-100n/raw/main/data/"
_CIFAR10N = Archive("CIFAR-10_human.pt", "96644db5574813cae939af5f7f2a0aec", (_URL + "CIFAR-10_human.pt",))
_CIFAR100N = Archive("CIFAR-100_human.pt", "a67b45c1d7992051865b5c755bd68bb1", (_URL + "CIFAR-100_human.pt",))
ARCHIVES: dict[str, Archive] = {"cifar10": _CIFAR10N, "cifar100": _CIFAR100N, "cifar100_coarse": _CIFAR100N}
"""The official file of each dataset."""
_CORES = ("numpy.core", "numpy._core")


def load(dataset: str, noise: str, folder: Path, true: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Human labels of training images.

    Args:
        dataset: cifar10, cifar100 or cifar100_coarse.
        noise: one of `lib.catalogue.NOISES` that belongs to the dataset.
        folder: the data folder, where the file lies or is downloaded to.
        true: the dataset's clean labels of these images, shape (n,), which those in the file must equal.
        rows: positions of the images in the official training set, shape (n,); None: all of it in its order.

    Returns:
        int64, shape (n,).

    Raises:
        ParameterError: for a file that is cut, corrupted or another one, or whose clean labels are not the dataset's.
        FileNotFoundError: where it is absent and cannot be downloaded.
    """
    file = fetch(ARCHIVES[dataset], folder)
    labels = read(file)
    clean = "clean_coarse_label" if dataset == "cifar100_coarse" else "clean_label"
    missing = [name for name in (clean, noise) if name not in labels]
    if missing:
        there = found(missing[0], labels)
        raise ParameterError(f"data_folder: {file} lacks {', '.join(missing)}, {there}; delete it, and get it again")
    if rows is None and len(true) != len(labels[noise]):
        raise ParameterError(f"noise={noise!r}: {file.name} labels {len(labels[noise])} images, not {len(true)}")
    chosen = np.arange(len(true)) if rows is None else rows
    differing = int((labels[clean][chosen] != true).sum())
    if differing:
        raise ParameterError(
            f"noise={noise!r}: clean labels of {file.name} differ from those of {dataset} at {differing} of "
            f"{len(true)} images; the images must be in the official order"
        )
    return labels[noise][chosen]


def read(file: Path) -> dict[str, np.ndarray]:
    """Every label of an official file by name, int64 of shape (n,). Raises ParameterError, and runs no code in it."""
    # Which functions of NumPy make its arrays is told by the arrays; the files name them by their old and new places.
    functions = {name: made.__reduce__()[0] for name, made in (("_reconstruct", np.empty(0)), ("scalar", np.int64()))}
    allowed: list[Any] = [
        *((call, f"{numpy}.multiarray.{name}") for name, call in functions.items() for numpy in _CORES),
        *(np.ndarray, np.dtype, np.dtypes.Int64DType, np.dtypes.Int32DType),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ParameterError(f"data_folder: {file} must hold labels and nothing else; delete it ({why})") from error
    if not isinstance(content, dict):
        raise ParameterError(f"data_folder: {file} must hold labels by name, not {type(content).__name__}; delete it")
    return {str(name): np.asarray(values, dtype=np.int64) for name, values in content.items()}
