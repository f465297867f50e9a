"""`args.json` of a run of the described original, checked, and told in the terms of this project."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lib.catalogue import DATASETS, NETWORKS, NOISES
from lib.checks import ParameterError, Rule, check_choice, typed
from lib.parameters import Experiment

ARGS = "args.json"
_ESTIMATORS = {
    "histogram": ("pmf", "histogram"),
    "gaussian": ("gaussian", "normal"),
    "kernel": ("kde", "kernel", "kerneldensity", "kerneldensityestimation"),
    "neighbours": ("knn", *(f"{k}nearest{n}" for k in ("k", "") for n in ("", "neighbour", "neighbor"))),
}
_COUNT = Rule(lambda value: value >= 1, "an integer of at least 1")
_FIELDS: dict[str, tuple[Any, Rule | None]] = {
    "dataset": (str, None),
    "num_classes": (int, Rule(lambda value: value >= 2, "an integer of at least 2")),
    "noise_type": (str, None),
    "symmetric_label_noise_ratio": (float, Rule(lambda value: 0 <= value < 1, "a number in [0, 1)")),
    "network": (str, Rule(lambda value: _bare(value) != "", "the name of a network")),
    "lr": (float, Rule(lambda value: 0 < value < float("inf"), "a finite number above 0")),
    "batch_size": (int, _COUNT),
    "epochs": (int, _COUNT),
    "seed": (int, Rule(lambda value: value >= 0, "an integer of at least 0")),
}
_WRONG, _RIGHT, _CND, _LAYERS = "corrupted_samples", "not_corrupted_samples", "CND_type", "neurs_x_hid_lyr"
_UNTOLD = ("augmentation", "loss", "optimizer", "schedule", "signal_passes", "device", "dtype", "memory_format")


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
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def describe(folder: Path) -> Description:
    """Read `args.json`. Raises ParameterError, which names file and field, or OSError."""
    path = Path(folder) / ARGS
    try:
        given = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path}: must be JSON ({' '.join(str(error).split())})") from error
    if not isinstance(given, dict):
        raise ParameterError(f"{path}: must hold values by name, not a {type(given).__name__}")
    try:
        return _described(given)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error


def _described(given: dict[str, Any]) -> Description:
    def field(name: str) -> Any:
        if name not in given:
            raise ParameterError(f"lacks {name}")
        return typed(name, given[name], *_FIELDS[name])

    dataset, noise, rate = _setting(field)
    patience, window, quantile = DATASETS[dataset].published or DATASETS["cifar10"].published
    notes = [f"{', '.join(_UNTOLD)} are unknown; what else the files do not tell is as by default"]
    if DATASETS[dataset].published is None:
        notes.append(f"patience, window and quantile are those of CIFAR; none are published for {dataset}")
    parameters = Experiment().parameters() | dict.fromkeys(_UNTOLD, "unknown")
    parameters |= {
        "dataset": dataset,
        "noise": noise,
        "noise_rate": rate,
        "network": _matching(field("network"), NETWORKS) or field("network"),
        "learning_rate": field("lr"),
        "batch_size": field("batch_size"),
        "epochs": field("epochs"),
        "seed": field("seed"),
        "patience": patience,
        "window": window,
        "cnd_quantile": quantile,
        "cnd_filter": "predicted_as_labelled" if field("num_classes") <= 10 else "all",
    }
    wrong, samples = _samples(given)
    left_out = [f"which samples are corrupted ({wrong} of {samples} are)"]
    unused = sorted(given.keys() - _FIELDS.keys() - {_WRONG, _RIGHT, _CND, _LAYERS})
    left_out += [f"arguments {', '.join(unused)}"] if unused else []
    return Description(
        given=given,
        parameters=parameters,
        num_classes=field("num_classes"),
        train_samples=samples,
        realised_noise_rate=wrong / samples,
        estimators=_estimators(given.get(_CND) or []),
        layers=_layers(given.get(_LAYERS) or {}),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def _setting(field: Callable[[str], Any]) -> tuple[str, str, float]:
    """Dataset, noise and noise rate; CIFAR-100 with coarse labels is a dataset of its own here."""
    dataset, noise = field("dataset"), field("noise_type")
    known = _matching(dataset, DATASETS)
    if known is None:
        check_choice("dataset", dataset, list(DATASETS))
    if noise == "label_noise":
        rate = field("symmetric_label_noise_ratio")
        return known, "symmetric" if rate else "none", rate
    if noise == "clean_label":
        return known, "none", 0.0
    owners = {name: row.people_of for name, row in NOISES.items() if row.people_of}
    check_choice("noise_type", noise, ["label_noise", "clean_label", *owners])
    if owners[noise].removesuffix("_coarse") != known.removesuffix("_coarse"):
        raise ParameterError(f"noise_type={noise!r}: must be used with dataset={owners[noise]!r}, not {dataset!r}")
    return owners[noise], noise, 0.0


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
    ours = {alias: name for name, aliases in _ESTIMATORS.items() for alias in aliases}
    found = [(ours.get(_bare(name).removesuffix("s")), name) for name in typed(_CND, names, tuple[str, ...], None)]
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
