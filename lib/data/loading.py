"""Every dataset of `lib.catalogue` by name, prepared on first use, in memory on one device; the digits."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lib.catalogue import DATASETS, NOISES
from lib.catalogue import Dataset as DatasetRow
from lib.checks import ParameterError
from lib.data import own as own_data
from lib.data import samples
from lib.data.dataset import Dataset, from_arrays
from lib.data.prepared import prepared
from lib.parameters import ROOT, Experiment
from lib.seeds import stream

_OF_DATA = ("dataset", "data_folder", "image_size", "glove_file")


def digits(experiment: Experiment) -> Dataset:
    """scikit-learn's embedded handwritten digits: 1,797 images of shape (1, 8, 8) in [0, 1], split 70/30."""
    arrays = prepared(ROOT / experiment.data_folder / "digits.npz", _compute_digits)
    return from_arrays(arrays, "digits", (np.zeros(1), np.full(1, 16)))


def _compute_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    split = train_test_split(
        bunch.images.astype(np.uint8), bunch.target, test_size=0.3, stratify=bunch.target, random_state=0
    )
    source = "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits), stratified 70/30 split"
    arrays = dict(zip(("x_train", "x_test", "y_train", "y_test"), split, strict=True))
    return arrays | {"classes": bunch.target_names.astype(str), "source": np.array(source)}


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
    images_are_square = dataset.x_train.are_images and len(set(dataset.x_train.shape[2:])) == 1
    if experiment.augmentation != "none" and not images_are_square:
        what = "images that are not square" if dataset.x_train.are_images else "data that is no images"
        raise ParameterError(f"augmentation={experiment.augmentation!r}: must be none for {what}")
    return dataset.to(experiment.device, experiment.memory_format == "channels_last")


def _reduced(dataset: Dataset, experiment: Experiment) -> Dataset:
    """The dataset with the samples asked for: training samples drawn by the seed, test samples the same for all."""
    told = []
    asked = {"train": (experiment.train_samples, experiment.seed), "test": (experiment.test_samples, 0)}
    for part, (count, seed) in asked.items():
        inputs, labels = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        if count > len(labels):
            raise ParameterError(f"{part}_samples={count}: must be at most the {len(labels)} of {experiment.dataset}")
        if count in (0, len(labels)):
            continue
        drawn = stream(seed, f"{part}_samples").permutation(len(labels))[:count]
        rows = torch.from_numpy(np.sort(drawn))
        told.append(f"{count:,} of {len(labels):,} {part}{'ing' if part == 'train' else ''} samples")
        dataset = replace(dataset, **{f"x_{part}": inputs.take(rows), f"y_{part}": labels[rows]})
        if part == "train":
            given = None if dataset.given is None else dataset.given[rows]
            dataset = replace(dataset, train_rows=rows, given=given)
    return replace(dataset, source=f"{dataset.source}, reduced: {', '.join(told)}") if told else dataset


def prepare(experiments: Iterable[Experiment]) -> dict[str, str]:
    """Download and prepare what the experiments are on before any of them runs, once each.

    Returns what went wrong, by dataset.
    """
    failures = {}
    for experiment in distinct(experiments):
        print(f"preparing {experiment.dataset}", flush=True)
        try:
            samples.draw(experiment, load(replace(experiment, device="cpu")))  # where this runs there may be no other
        except Exception as error:  # its runs will say the same; those on other data are not to wait for it
            failures[experiment.dataset] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return failures


def distinct(experiments: Iterable[Experiment]) -> list[Experiment]:
    """One experiment for each dataset, and for each kind of human labels."""
    found: dict[tuple[Any, ...], Experiment] = {}
    for experiment in experiments:
        human = experiment.noise if NOISES[experiment.noise].people_of else ""
        found.setdefault((*(getattr(experiment, name) for name in _OF_DATA), human), experiment)
    return list(found.values())
