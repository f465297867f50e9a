"""Datasets as tensors: everything is in memory on one device, a batch is an index slice."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from lib import news
from lib.parameters import CHOICES, ROOT, Experiment


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


def digits(experiment: Experiment) -> Dataset:
    """scikit-learn's embedded handwritten digits: 1,797 images of shape (1, 8, 8) in [0, 1], split 70/30."""
    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16
    labels = torch.from_numpy(bunch.target).long()
    train, test = train_test_split(range(len(labels)), test_size=0.3, stratify=bunch.target, random_state=0)
    return Dataset(
        images[train],
        labels[train],
        images[test],
        labels[test],
        tuple(str(name) for name in bunch.target_names),
        "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits), stratified 70/30 split",
    )


def newsgroups(experiment: Experiment) -> Dataset:
    """20 Newsgroups in its 7 top-level classes, as pooled word vectors (see `lib.news`)."""
    features = news.prepared(ROOT / experiment.data_folder, experiment.glove_file)
    tensors = (torch.from_numpy(features[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    return Dataset(*tensors, tuple(str(name) for name in features["classes"]), str(features["source"]))


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
