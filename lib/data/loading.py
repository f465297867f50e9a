"""Every dataset of the study by name, prepared on first use, in memory on one device."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from lib.catalogue import DATASETS
from lib.catalogue import Dataset as DatasetRow
from lib.checks import ParameterError
from lib.data import own as own_data
from lib.data import prepared, vision
from lib.data.dataset import Dataset, from_arrays
from lib.parameters import ROOT, Experiment
from lib.seeds import stream


def digits(experiment: Experiment) -> Dataset:
    """scikit-learn's embedded handwritten digits: 1,797 images of shape (1, 8, 8) in [0, 1], split 70/30."""
    arrays = prepared.prepared(ROOT / experiment.data_folder / "digits.npz", _compute_digits)
    return from_arrays(arrays, "digits", ([0.0], [1.0]), largest=16)


def newsgroups(experiment: Experiment) -> Dataset:
    """20 Newsgroups in its 7 top-level classes, as pooled word vectors (see `lib.data.news`)."""
    from lib.data import news  # scikit-learn takes seconds to import, which runs on other data need not wait for

    folder = ROOT / experiment.data_folder
    glove = news.glove_path(experiment.glove_file)
    arrays = prepared.prepared(folder / news.file_name(glove), lambda: news.compute(folder, glove))
    return from_arrays(arrays, "news", axes="features", scaling="none")


def images(experiment: Experiment) -> Dataset:
    """An image dataset of torchvision (see `lib.data.vision`), prepared from its official archive."""
    name = experiment.dataset.removesuffix("_coarse")
    folder = ROOT / experiment.data_folder
    arrays = prepared.prepared(folder / f"{name}.npz", lambda: vision.compute(name, folder))
    arrays.setdefault("source", np.array(vision.VISION[name].title))
    statistics = vision.VISION[name].mean, vision.VISION[name].std
    dataset = from_arrays(arrays, f"{name}.npz", statistics)
    dataset = dataset if name == experiment.dataset else vision.coarse(dataset)
    return replace(dataset, source=vision.source(name, dataset.source, dataset.x_train.stored.numpy()))


def tiny_imagenet(experiment: Experiment) -> Dataset:
    """Tiny ImageNet, prepared from its official archive or folder (see `lib.data.tiny_imagenet`)."""
    from lib.data import tiny_imagenet

    folder = ROOT / experiment.data_folder
    arrays = prepared.prepared(folder / "tiny_imagenet.npz", lambda: tiny_imagenet.compute(folder))
    return from_arrays(arrays, "Tiny ImageNet", tiny_imagenet.STATISTICS)


def _compute_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    return {
        "x_train": pixels[train],
        "y_train": labels[train],
        "x_test": pixels[test],
        "y_test": labels[test],
        "classes": bunch.target_names.astype(str),
        "source": np.array(
            "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits), stratified 70/30 split"
        ),
    }


def register(name: str, loader: Callable[[Experiment], Dataset]) -> None:
    """Make a user's own dataset known: `Experiment(dataset=name)` then loads it by `loader(experiment)`."""
    DATASETS.add(DatasetRow(name, name, loader))


def load(experiment: Experiment) -> Dataset:
    """The experiment's dataset, reduced to as many samples as it asks for, on its device.

    Raises:
        ParameterError: for data that is damaged, or does not fit the parameters; says what to do.
        FileNotFoundError: where data is absent and cannot be downloaded; says what to place where.
    """
    loader = own_data.load if experiment.own_data else DATASETS[experiment.dataset]
    dataset = _reduced(loader(experiment), experiment)
    if experiment.augmentation != "none" and not dataset.x_train.are_images:
        raise ParameterError(f"augmentation={experiment.augmentation!r}: must be none for data that is no images")
    if experiment.augmentation != "none" and len(set(dataset.x_train.shape[2:])) > 1:
        raise ParameterError(f"augmentation={experiment.augmentation!r}: must be none for images that are not square")
    return dataset.to(experiment.device, experiment.memory_format == "channels_last")


def _reduced(dataset: Dataset, experiment: Experiment) -> Dataset:
    """The dataset with the samples asked for: training samples drawn by the seed, test samples the same for all."""
    told = []
    for part, asked, seed in (
        ("train", experiment.train_samples, experiment.seed),
        ("test", experiment.test_samples, 0),
    ):
        inputs, labels = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        if asked > len(labels):
            raise ParameterError(f"{part}_samples={asked}: must be at most the {len(labels)} of {experiment.dataset}")
        if asked in (0, len(labels)):
            continue
        drawn = stream(seed, f"{part}_samples").permutation(len(labels))[:asked]
        rows = torch.from_numpy(np.sort(drawn))
        told.append(f"{asked:,} of {len(labels):,} {part}{'ing' if part == 'train' else ''} samples")
        dataset = replace(dataset, **{f"x_{part}": inputs.take(rows), f"y_{part}": labels[rows]})
        if part == "train":
            dataset = replace(dataset, train_rows=rows)
    return replace(dataset, source=f"{dataset.source}, reduced: {', '.join(told)}") if told else dataset
