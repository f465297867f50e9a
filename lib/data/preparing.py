"""Data made ready for many runs before any of them begins."""

from collections.abc import Iterable
from typing import Any

from lib import data
from lib.catalogue import NOISES
from lib.data import samples
from lib.parameters import Experiment

_OF_DATA = ("dataset", "data_folder", "image_size", "glove_file")


def prepare(experiments: Iterable[Experiment]) -> dict[str, str]:
    """Download and prepare what the experiments are on, once each. Returns what went wrong, by dataset."""
    failures = {}
    for experiment in distinct(experiments):
        print(f"preparing {experiment.dataset}", flush=True)
        try:
            dataset = data.load(experiment)
            samples.draw(experiment, dataset)
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
