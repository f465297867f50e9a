"""`args.json` of a run of the described original, checked, and told in the terms of this project."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lib.catalogue import DATASETS, NETWORKS, NOISES
from lib.checks import ParameterError, Rule, check_choice, typed
from lib.parameters import Experiment

_SAME = {"lr": "learning_rate", "batch_size": "batch_size", "epochs": "epochs", "seed": "seed"}
_RULES = {row.name: (row.type, row.metadata["rule"]) for row in Experiment.__dataclass_fields__.values()}
_FIELDS: dict[str, tuple[type, Rule | None]] = {
    **{name: _RULES[ours] for name, ours in _SAME.items()},
    "dataset": (str, None),
    "num_classes": (int, Rule(lambda value: value >= 2, "an integer of at least 2")),
    "noise_type": (str, None),
    "symmetric_label_noise_ratio": _RULES["noise_rate"],
    "network": (str, Rule(lambda value: _bare(value) != "", "the name of a network")),
}
_COUNT = Rule(lambda value: value >= 1, "an integer of at least 1")
_WRONG, _RIGHT, _CND, _LAYERS = "corrupted_samples", "not_corrupted_samples", "CND_type", "neurs_x_hid_lyr"
_UNTOLD = ("augmentation", "loss", "optimizer", "schedule", "signal_passes", "device", "dtype", "memory_format")
_ESTIMATORS = {
    "histogram": r"pmf|histograms?",
    "gaussian": r"gl|gaussian|normal",
    "kernel": r"kde|kernels?|kerneldensity(estimation)?",
    "neighbours": r"knn|k?nearest(neighbou?rs?)?",
}


class UnknownDataset(ParameterError):
    """A run on a dataset that is not known here."""


class Description(NamedTuple):
    """What `args.json` tells.

    Attributes:
        given: all that it holds, as it is.
        parameters: by the names of `Experiment`; those that the file has no word for are "unknown", or as by default.
        num_classes: K.
        train_samples: number of training samples.
        realised_noise_rate: share of them whose label is wrong.
        estimators: of CND, in the order of the results: our name, None where there is none, and the original's.
        layers: neurons of each hidden layer, in their order.
        left_out, notes: in words, what was left out, and how the rest was understood.
    """

    given: dict[str, Any]
    parameters: dict[str, Any]
    num_classes: int
    train_samples: int
    realised_noise_rate: float
    estimators: list[tuple[str | None, str]]
    layers: dict[str, int]
    left_out: list[str]
    notes: list[str]


def describe(path: Path) -> Description:
    """Read `args.json`. Raises ParameterError, which names the field, UnknownDataset, or OSError."""
    try:
        given = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"must be JSON ({' '.join(str(error).split())})") from error
    if not isinstance(given, dict):
        raise ParameterError(f"must hold values by name, not a {type(given).__name__}")

    def field(name: str) -> Any:
        if name not in given:
            raise ParameterError(f"lacks {name}")
        return typed(name, given[name], *_FIELDS[name])

    notes = [f"{', '.join(_UNTOLD)} are unknown; what else the files do not tell is as by default"]
    dataset, noise, rate = _setting(field, notes)
    published = DATASETS[dataset].published
    if published is None:
        published = DATASETS["cifar10"].published
        notes.append(f"patience, window and quantile are those of CIFAR; none are published for {dataset}")
    parameters = Experiment().parameters() | dict.fromkeys(_UNTOLD, "unknown")
    parameters |= {ours: field(name) for name, ours in _SAME.items()}
    parameters |= {
        "dataset": dataset,
        "noise": noise,
        "noise_rate": rate,
        "network": _matching(field("network"), NETWORKS) or field("network"),
        "patience": published.patience,
        "window": published.window,
        "cnd_quantile": published.quantile,
        "cnd_filter": "predicted_as_labelled" if field("num_classes") <= 10 else "all",
    }
    wrong, samples = _samples(given)
    unused = sorted(given.keys() - _FIELDS.keys() - {_WRONG, _RIGHT, _CND, _LAYERS})
    left_out = [f"which samples are corrupted ({wrong} of {samples} are)"]
    left_out += [f"arguments {', '.join(unused)}"] if unused else []
    estimators, layers = _estimators(given.get(_CND) or []), _layers(given.get(_LAYERS) or {})
    classes = field("num_classes")
    return Description(given, parameters, classes, samples, wrong / samples, estimators, layers, left_out, notes)


def _setting(field: Callable[[str], Any], notes: list[str]) -> tuple[str, str, float]:
    """Dataset, noise and noise rate; CIFAR-100 with coarse labels is a dataset of its own here."""
    dataset, noise = _matching(field("dataset"), DATASETS), field("noise_type")
    if dataset is None:
        raise UnknownDataset(f"dataset={field('dataset')!r}: must be one of {', '.join(DATASETS)}")
    if noise == "label_noise":
        rate = field("symmetric_label_noise_ratio")
        return dataset, "symmetric" if rate else "none", rate
    if noise == "clean_label":
        return dataset, "none", 0.0
    owners = {row.name: row.people_of for row in NOISES.values() if row.people_of}
    check_choice("noise_type", noise, ["label_noise", "clean_label", *owners])
    if owners[noise].removesuffix("_coarse") == dataset.removesuffix("_coarse"):
        return owners[noise], noise, 0.0
    # The original kept CIFAR-10N's names where it trained on CIFAR-100N, whose human labels are of one kind.
    own = [name for name, owner in owners.items() if owner == dataset]
    if len(own) != 1:
        raise ParameterError(
            f"noise_type={noise!r}: must be used with dataset={owners[noise]!r}, not {field('dataset')!r}"
        )
    notes.append(f"noise_type {noise} read as {own[0]}, the human labels of {dataset}")
    return dataset, own[0], 0.0


def _samples(given: dict[str, Any]) -> tuple[int, int]:
    """Number of samples whose label is wrong, and of all."""
    for name in (_WRONG, _RIGHT):
        indices = given.get(name)
        if not isinstance(indices, list) or not all(type(index) is int and index >= 0 for index in indices):
            raise ParameterError(f"{name}: must be a list of integers of at least 0")
    wrong, indices = len(given[_WRONG]), given[_WRONG] + given[_RIGHT]
    if not indices or len(set(indices)) < len(indices):
        raise ParameterError(f"{_WRONG}, {_RIGHT}: must name samples, and each of them once")
    return wrong, len(indices)


def _estimators(names: Any) -> list[tuple[str | None, str]]:
    def ours(name: str) -> str | None:
        return next((ours for ours, pattern in _ESTIMATORS.items() if re.fullmatch(pattern, _bare(name))), None)

    found = [(ours(name), name) for name in typed(_CND, names, tuple[str, ...], None)]
    known = [name for name, _ in found if name]
    if len(set(known)) < len(known):
        raise ParameterError(f"{_CND}={names}: must name each estimator once")
    return found


def _layers(layers: Any) -> dict[str, int]:
    if not isinstance(layers, dict):
        raise ParameterError(f"{_LAYERS}: must be the number of neurons by layer, not a {type(layers).__name__}")
    return {name: typed(f"{_LAYERS}[{name!r}]", neurons, int, _COUNT) for name, neurons in layers.items()}


def _matching(name: str, names: Iterable[str]) -> str | None:
    """The one of the names that is the same but for case and punctuation."""
    return next((known for known in names if _bare(known) == _bare(name)), None)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
