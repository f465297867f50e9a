"""`args.json` of a run of the described original, checked, and told in the terms of this project."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lib.catalogue import DATASETS, NETWORKS, NOISES, OF_CIFAR
from lib.checks import ParameterError, Rule, check_choice, typed
from lib.parameters import PARAMETERS
from lib.runs.folder import IMPORTED

_UNTOLD = ("augmentation", "loss", "optimizer", "schedule", "signal_passes", "device", "dtype", "memory_format")
_DATASET_OF = {row.name: row.people_of for row in NOISES.values() if row.people_of}  # of human labels
_ESTIMATORS = {
    "histogram": r"pmf|histograms?",
    "gaussian": r"gl|gaussian|normal",
    "kernel": r"kde|kernels?|kerneldensity(estimation)?",
    "neighbours": r"knn|k?nearest(neighbou?rs?)?",
}


class UnknownDataset(ParameterError):
    """A run on a dataset that is not known here."""


class Arguments(NamedTuple):
    """What `args.json` tells.

    Attributes:
        given: all that it holds, as it is.
        about: what `args.json` of a run here holds; parameters that the file has no word for are "unknown", or as by
            default.
        estimators: of CND, in the order of the results: the original's names, and ours, None where there is none.
        left_out, notes: in words, what was left out, and how the rest was understood.
    """

    given: dict[str, Any]
    about: dict[str, Any]
    estimators: dict[str, str | None]
    left_out: list[str]
    notes: list[str]


def read(path: Path) -> Arguments:
    """Read `args.json`. Raises ParameterError, which names the field, UnknownDataset, or OSError."""
    try:
        given = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"must be JSON ({error})") from error
    if not isinstance(given, dict):
        raise ParameterError(f"must hold values by name, not a {type(given).__name__}")
    told = given | {"CND_type": given.get("CND_type") or (), "neurs_x_hid_lyr": given.get("neurs_x_hid_lyr") or {}}
    if given.get("noise_type") != "label_noise":
        told["symmetric_label_noise_ratio"] = 0.0
    if missing := [name for name in _FIELDS if name not in told]:
        raise ParameterError(f"lacks {', '.join(missing)}")
    found = {ours: typed(name, told[name], kind, rule) for name, (ours, kind, rule) in _FIELDS.items()}

    notes = [f"{', '.join(_UNTOLD)} are unknown; what else the files do not tell is as by default"]
    dataset, noise = _setting(found, notes)
    stopping = DATASETS[dataset].published
    if stopping is None:
        stopping = OF_CIFAR
        notes.append(f"patience, window and quantile are those of CIFAR; none are published for {dataset}")
    indices = found["wrong"] + found["right"]
    wrong, samples = len(found["wrong"]), len(indices)
    if samples == 0 or len(set(indices)) < samples or min(indices) < 0:
        raise ParameterError("corrupted_samples, not_corrupted_samples: must name samples, and each of them once")
    left_out = [f"which samples are corrupted ({wrong} of {samples} are)"]
    if unused := sorted(given.keys() - _FIELDS.keys()):
        left_out.append(f"arguments {', '.join(unused)}")

    known = found | {
        "dataset": dataset,
        "noise": noise,
        "network": _matching(found["network"], NETWORKS) or found["network"],
        "patience": stopping.patience,
        "window": stopping.window,
        "cnd_quantile": stopping.quantile,
        "cnd_filter": "predicted_as_labelled" if found["num_classes"] <= 10 else "all",
        "average_epochs": 0.0,  # no average of the weights was kept
        "stopping_rule": "published",
    }
    known |= dict.fromkeys(_UNTOLD, "unknown")
    about = {
        "environment": dict.fromkeys(("python", "torch", "numpy", "commit", "device")),
        "parameters": {name: known.get(name, row.default) for name, row in PARAMETERS.items()},
        "data": {
            "source": f"{dataset}, imported from results of the described original",
            "classes": [str(label) for label in range(found["num_classes"])],
            "train_samples": samples,
            "test_samples": None,
            "realised_noise_rate": wrong / samples,
        },
        "layers": found["layers"],
        "own": {},
    }
    about["environment"][IMPORTED] = str(path.parent.resolve())
    return Arguments(given, about, {name: _estimator(name) for name in found["estimators"]}, left_out, notes)


def _setting(found: dict[str, Any], notes: list[str]) -> tuple[str, str]:
    """Dataset and noise; CIFAR-100 with coarse labels is a dataset of its own here."""
    dataset, noise = _matching(found["dataset"], DATASETS), found["noise_type"]
    if dataset is None:
        raise UnknownDataset(f"dataset={found['dataset']!r}: must be one of {', '.join(DATASETS)}")
    check_choice("noise_type", noise, ["label_noise", "clean_label", *_DATASET_OF])
    if noise not in _DATASET_OF:
        return dataset, "symmetric" if found["noise_rate"] else "none"
    if _DATASET_OF[noise].removesuffix("_coarse") == dataset.removesuffix("_coarse"):
        return _DATASET_OF[noise], noise
    # The original kept CIFAR-10N's names where it trained on CIFAR-100N, whose human labels are of one kind.
    own = [name for name, owner in _DATASET_OF.items() if owner == dataset]
    if len(own) != 1:
        raise ParameterError(f"noise_type={noise!r}: must be used with dataset={_DATASET_OF[noise]!r}, not {dataset!r}")
    notes.append(f"noise_type {noise} read as {own[0]}, the human labels of {dataset}")
    return dataset, own[0]


def _matching(name: str, names: Iterable[str]) -> str | None:
    """The one of the names that is the same but for case and punctuation."""
    return next((known for known in names if _bare(known) == _bare(name)), None)


def _estimator(name: str) -> str | None:
    return next((ours for ours, pattern in _ESTIMATORS.items() if re.fullmatch(pattern, _bare(name))), None)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _as(parameter: str) -> tuple[str, Any, Rule]:
    return parameter, PARAMETERS[parameter].type, PARAMETERS[parameter].metadata["rule"]


_EACH_ONCE = Rule(
    lambda names: len({_estimator(name) or name for name in names}) == len(names), "names, each of another estimator"
)
_NEURONS = Rule(
    lambda layers: all(type(neurons) is int and neurons > 0 for neurons in layers.values()),
    "numbers of neurons, integers of at least 1, by layer",
)
_FIELDS = {  # by the original's names: ours, type and rule
    "dataset": ("dataset", str, None),
    "seed": _as("seed"),
    "lr": _as("learning_rate"),
    "batch_size": _as("batch_size"),
    "epochs": _as("epochs"),
    "network": ("network", str, Rule(lambda name: _bare(name) != "", "the name of a network")),
    "num_classes": ("num_classes", int, Rule(lambda classes: classes >= 2, "an integer of at least 2")),
    "noise_type": ("noise_type", str, None),
    "symmetric_label_noise_ratio": _as("noise_rate"),
    "corrupted_samples": ("wrong", tuple[int, ...], None),
    "not_corrupted_samples": ("right", tuple[int, ...], None),
    "CND_type": ("estimators", tuple[str, ...], _EACH_ONCE),
    "neurs_x_hid_lyr": ("layers", dict, _NEURONS),
}
