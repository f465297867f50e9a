"""The image datasets of torchvision, from their official archives.

Downloading and the checks of archives are ours, so that a cut file is never taken for a whole one; reading the official
formats is torchvision's.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.checks import ParameterError
from lib.data.dataset import Dataset
from lib.data.downloads import Archive, fetch
from lib.files import alone_in, scratch
from lib.torchvision_operators import declare


@dataclass(frozen=True)
class Vision:
    """How one dataset is found and what is known of it.

    Attributes:
        title: its name in texts.
        reader: name of the class in `torchvision.datasets`.
        train_images: official number of training images.
        mean, std: published normalisation of each channel, on the scale [0, 1].
        channel_sums: sum of each channel over the official training images, where it is known: the fingerprint by
            which re-encoded images are told.
    """

    title: str
    reader: str
    train_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_sums: tuple[int, ...] | None = None


VISION: dict[str, Vision] = {
    "cifar10": Vision(
        "CIFAR-10",
        "CIFAR10",
        50_000,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        (6_415_714_204, 6_295_060_180, 5_829_907_619),
    ),
    "cifar100": Vision(
        "CIFAR-100",
        "CIFAR100",
        50_000,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        (6_620_373_279, 6_352_382_090, 5_756_623_363),
    ),
    "mnist": Vision("MNIST", "MNIST", 60_000, (0.1307,), (0.3081,)),
    "fashion_mnist": Vision("Fashion-MNIST", "FashionMNIST", 60_000, (0.2860,), (0.3530,)),
    "svhn": Vision("SVHN", "SVHN", 73_257, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
"""Datasets by name. The published constants are rounded to four digits, the sums are exact."""


def compute(name: str, folder: Path) -> dict[str, np.ndarray]:
    """Arrays of a dataset from its official archives in the data folder, downloaded where they are not there.

    Returns:
        x_train, x_test: uint8, shape (n, height, width[, 3]); y_train, y_test: int64; classes; source.

    Raises:
        ParameterError: for an archive that is cut, corrupted or another file.
        FileNotFoundError: where an archive is absent and cannot be downloaded.
    """
    archives = _archives(VISION[name].reader)
    paths = [fetch(archive, folder) for archive in archives]
    with alone_in(folder), scratch(folder, name) as unpacked:
        for archive, path in zip(archives, paths, strict=True):
            link = unpacked / archive.file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        train, test = (_part(VISION[name].reader, str(unpacked), training) for training in (True, False))
    arrays = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
    source = np.array(f"{VISION[name].title} (official archive, MD5 checked)")
    return arrays | {"classes": np.array(train[2]), "source": source}


def source(name: str, told: str, images: np.ndarray) -> str:
    """Where prepared images are from; says where they are not the official ones.

    Args:
        name: of the dataset.
        told: what its prepared file says.
        images: its training images, uint8, shape (n, height, width, channels).
    """
    vision = VISION[name]
    if len(images) != vision.train_images:
        return f"{told}, reduced: {len(images):,} of {vision.train_images:,} training images, pixels not checked"
    if vision.channel_sums:
        by_place = images.reshape(len(images), -1).sum(axis=0, dtype=np.uint64)
        if tuple(int(total) for total in by_place.reshape(-1, images.shape[-1]).sum(axis=0)) != vision.channel_sums:
            told += ", images re-encoded: not the official pixels"
    return told


def coarse(dataset: Dataset) -> Dataset:
    """CIFAR-100 with its 20 superclasses as labels. Raises ParameterError for labels above 99."""
    if max(dataset.y_train.max(), dataset.y_test.max()) >= len(SUPERCLASS):
        raise ParameterError(f"cifar100.npz: must have labels of 100 classes, found {dataset.num_classes}")
    superclass = torch.tensor(SUPERCLASS)
    fine = dataset.y_train, dataset.y_test
    return replace(dataset, y_train=superclass[fine[0]], y_test=superclass[fine[1]], classes=SUPERCLASSES)


def _archives(reader: str) -> list[Archive]:
    """The official archives of a dataset, as torchvision states them."""
    declare()
    from torchvision import datasets

    official = getattr(datasets, reader)
    if reader in ("CIFAR10", "CIFAR100"):
        return [Archive(official.filename, official.tgz_md5, (official.url,))]
    if reader == "SVHN":
        return [Archive(file, md5, (url,)) for url, file, md5 in (official.split_list[p] for p in ("train", "test"))]
    return [
        Archive(f"{reader}/raw/{file}", md5, tuple(mirror + file for mirror in official.mirrors))
        for file, md5 in official.resources
    ]


def _part(reader: str, root: str, training: bool) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Images, labels and classes of the training or the test set, read from checked archives below root."""
    declare()
    from torchvision import datasets

    official = getattr(datasets, reader)
    if reader == "SVHN":
        part = official(root, split="train" if training else "test", download=True)
        return np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), part.labels.astype(np.int64), list(range(10))
    part = official(root, train=training, download=True)  # finds the archives, and unpacks them
    return np.asarray(part.data), np.asarray(part.targets, dtype=np.int64), part.classes


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
