"""The image datasets of torchvision, from their official archives.

Downloading and the checks of archives are ours, so that a cut file is never taken for a whole one; reading the official
formats is torchvision's.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lib.catalogue import DATASETS
from lib.checks import ParameterError
from lib.data.dataset import Dataset, from_arrays
from lib.data.downloads import Archive, fetch
from lib.data.prepared import prepared
from lib.files import alone_in, scratch
from lib.parameters import ROOT, Experiment
from lib.torchvision_operators import declare

_PARTS = ("train", "test")


class Vision(NamedTuple):
    """How one dataset is found and what is known of it.

    Attributes:
        reader: name of the class in `torchvision.datasets`.
        train_images: official number of training images.
        mean, std: published normalisation of each channel, on the scale [0, 1].
        channel_sums: sum of each channel over the official training images, where it is known: the fingerprint by
            which re-encoded images are told.
    """

    reader: str
    train_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_sums: tuple[int, ...] | None = None


_CIFAR10_SUMS = (6_415_714_204, 6_295_060_180, 5_829_907_619)
_CIFAR100_SUMS = (6_620_373_279, 6_352_382_090, 5_756_623_363)
VISION: dict[str, Vision] = {
    "cifar10": Vision("CIFAR10", 50_000, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), _CIFAR10_SUMS),
    "cifar100": Vision("CIFAR100", 50_000, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), _CIFAR100_SUMS),
    "mnist": Vision("MNIST", 60_000, (0.1307,), (0.3081,)),
    "fashion_mnist": Vision("FashionMNIST", 60_000, (0.2860,), (0.3530,)),
    "svhn": Vision("SVHN", 73_257, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
"""Datasets by name. The published constants are rounded to four digits, the sums are exact."""


def load(experiment: Experiment) -> Dataset:
    """The experiment's dataset, prepared from its official archives; says where it is not the official one.

    Raises:
        ParameterError: for an archive that is cut, corrupted or another file, or a prepared file that is damaged.
        FileNotFoundError: where an archive is absent and cannot be downloaded.
    """
    name = experiment.dataset.removesuffix("_coarse")
    folder, known = ROOT / experiment.data_folder, VISION[name]
    arrays = prepared(folder / f"{name}.npz", lambda: _compute(name, folder))
    arrays.setdefault("source", np.array(DATASETS[name].label))
    dataset = from_arrays(arrays, f"{name}.npz", (255 * np.array(known.mean), 255 * np.array(known.std)))
    dataset = replace(dataset, source=source(known, dataset.source, dataset.x_train.stored.numpy()))
    return dataset if name == experiment.dataset else _coarse(dataset)


def _compute(name: str, folder: Path) -> dict[str, np.ndarray]:
    """Arrays from the official archives in the data folder: uint8 images (n, height, width[, 3]), labels, classes."""
    reader = VISION[name].reader
    with alone_in(folder), scratch(folder, name) as unpacked:
        for archive in _archives(reader):
            link = unpacked / archive.file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(fetch(archive, folder).resolve())
        (x_train, y_train, classes), (x_test, y_test, _) = (_part(reader, str(unpacked), part) for part in _PARTS)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    source = np.array(f"{DATASETS[name].label} (official archive, MD5 checked)")
    return arrays | {"classes": np.array(classes), "source": source}


def source(known: Vision, told: str, images: np.ndarray) -> str:
    """Where training images, uint8 of shape (n, height, width, channels), are from.

    It is what their prepared file has told, and more where they are not the official ones.
    """
    if len(images) != known.train_images:
        return f"{told}, reduced: {len(images):,} of {known.train_images:,} training images, pixels not checked"
    if known.channel_sums is None:
        return told
    by_place = images.reshape(len(images), -1).sum(axis=0, dtype=np.uint64)
    sums = tuple(by_place.reshape(-1, images.shape[-1]).sum(axis=0).tolist())
    return told if known.channel_sums == sums else f"{told}, images re-encoded: not the official pixels"


def _coarse(dataset: Dataset) -> Dataset:
    """CIFAR-100 with its 20 superclasses as labels."""
    if max(dataset.y_train.max(), dataset.y_test.max()) >= len(SUPERCLASS):
        raise ParameterError(f"cifar100.npz: must have labels of 100 classes, found {dataset.num_classes}")
    y_train, y_test = (torch.tensor(SUPERCLASS)[fine] for fine in (dataset.y_train, dataset.y_test))
    return replace(dataset, y_train=y_train, y_test=y_test, classes=SUPERCLASSES)


def _archives(reader: str) -> list[Archive]:
    """The official archives of a dataset, as torchvision states them."""
    declare()
    from torchvision import datasets

    official = getattr(datasets, reader)
    if reader in ("CIFAR10", "CIFAR100"):
        return [Archive(official.filename, official.tgz_md5, (official.url,))]
    if reader == "SVHN":
        return [Archive(file, md5, (url,)) for url, file, md5 in (official.split_list[part] for part in _PARTS)]
    return [
        Archive(f"{reader}/raw/{file}", md5, tuple(mirror + file for mirror in official.mirrors))
        for file, md5 in official.resources
    ]


def _part(reader: str, root: str, part: str) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Images, labels and classes of the training or the test set, unpacked from the checked archives in root."""
    from torchvision import datasets

    official = getattr(datasets, reader)
    if reader == "SVHN":
        read = official(root, split=part, download=True)
        return np.ascontiguousarray(read.data.transpose(0, 2, 3, 1)), read.labels.astype(np.int64), list(range(10))
    read = official(root, train=part == "train", download=True)
    return np.asarray(read.data), np.asarray(read.targets, dtype=np.int64), read.classes


SUPERCLASS = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)
"""Superclass of each class of CIFAR-100, both in alphabetical order, as in the official archive."""
SUPERCLASSES = (
    *("aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables"),
    *("household_electrical_devices", "household_furniture", "insects", "large_carnivores"),
    *("large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores"),
    *("medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees"),
    *("vehicles_1", "vehicles_2"),
)
"""Their names."""
