"""Datasets as tensors: everything is in memory on one device, a batch is an index slice."""

import logging
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lib.parameters import CHOICES, ROOT, Experiment, ParameterError

_log = logging.getLogger("lib")


@dataclass(frozen=True)
class Dataset:
    """Inputs and true labels.

    Attributes:
        x_train, x_test: inputs, shape (n, ...), floating point.
        y_train, y_test: classes in [0, num_classes), int64, shape (n,).
        classes: name of each class.
        source: where the data is from, one line for tables and figures.
    """

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    classes: tuple[str, ...]
    source: str

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    def to(self, device: str) -> "Dataset":
        """The same data on a device."""
        names = ("x_train", "y_train", "x_test", "y_test")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def prepared(file: Path, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from a prepared file; where it is not there they are computed, and stored for the next run.

    The file is written whole or not at all; a folder that may not be written costs time, not the run.

    Args:
        file: path of the `.npz` file.
        compute: gives the arrays by name.

    Raises:
        ParameterError: for a prepared file that is damaged.
    """
    if file.exists():
        try:
            with np.load(file) as stored:
                return dict(stored)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ParameterError(f"data_folder: {file} is damaged; delete it, it will be made again") from error
    arrays = compute()
    part = file.with_name(f"{file.stem}.{os.getpid()}.part.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, **arrays)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        _log.warning("%s not written, it will be computed again: %s", file, error)
    return arrays


def digits(experiment: Experiment) -> Dataset:
    """scikit-learn's embedded handwritten digits: 1,797 images of shape (1, 8, 8) in [0, 1], split 70/30."""
    return _dataset(prepared(ROOT / experiment.data_folder / "digits.npz", _compute_digits), largest=16)


def newsgroups(experiment: Experiment) -> Dataset:
    """20 Newsgroups in its 7 top-level classes, as pooled word vectors (see `lib.news`)."""
    from lib import news  # scikit-learn takes seconds to import, which runs on other data need not wait for

    folder = ROOT / experiment.data_folder
    glove = news.glove_path(experiment.glove_file)
    return _dataset(prepared(folder / news.file_name(glove), lambda: news.compute(folder, glove)))


def _dataset(arrays: dict[str, np.ndarray], largest: float = 1.0) -> Dataset:
    """Tensors of prepared arrays, inputs as float32 divided by the largest value."""
    inputs = [torch.from_numpy(arrays[name]).float() / largest for name in ("x_train", "x_test")]
    labels = [torch.from_numpy(arrays[name]) for name in ("y_train", "y_test")]
    classes = tuple(str(name) for name in arrays["classes"])
    return Dataset(inputs[0], labels[0], inputs[1], labels[1], classes, str(arrays["source"]))


def _compute_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    return {
        "x_train": images[train],
        "y_train": labels[train],
        "x_test": images[test],
        "y_test": labels[test],
        "classes": bunch.target_names.astype(str),
        "source": np.array(
            "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits), stratified 70/30 split"
        ),
    }


LOADERS: dict[str, Callable[[Experiment], Dataset]] = {"digits": digits, "news": newsgroups}
"""Loader of each dataset by name."""


def register(name: str, loader: Callable[[Experiment], Dataset]) -> None:
    """Make a user's own dataset known: `Experiment(dataset=name)` then loads it by `loader(experiment)`."""
    LOADERS[name] = loader
    if name not in CHOICES["dataset"]:
        CHOICES["dataset"].append(name)


def load(experiment: Experiment) -> Dataset:
    """The experiment's dataset, on its device."""
    return LOADERS[experiment.dataset](experiment).to(experiment.device)
