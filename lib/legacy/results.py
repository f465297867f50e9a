"""`performances.pkl` of a run of the described original, checked, and told in the terms of this project.

It is a pickled object, each of whose attributes has one value an epoch; one that was not recorded is a list of None.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.checks import ParameterError
from lib.legacy.arguments import Description
from lib.legacy.unpickling import read_attributes

_SERIES = {  # by the original's names: ours, and whether it is a share
    "train_loss": ("train_loss", False),
    "train_acc": ("train_accuracy", True),
    "test_acc": ("test_accuracy", True),
    "misslab_acc": ("corrupted_accuracy_given", True),
    "PC": ("prediction_changes", False),
    "known_polluted_accuracy": ("known_polluted_accuracy", True),
    "known_polluted_accuracy_loglik": ("known_polluted_log_likelihood", False),
    "LS": ("batch_loss_sensitivity", False),  # the sum over batches, not the mean over samples
    "CSR": ("critical_sample_ratio", True),
}
_ROUNDING = 1e-6  # by which a mean of hits may exceed 1
COLUMNS = ("train_loss", "train_accuracy", "test_accuracy", "corrupted_accuracy_given", "corrupted_accuracy_true")
"""Those of every run; the other ones are criteria."""


class Results(NamedTuple):
    """What `performances.pkl` tells.

    Attributes:
        series: what was recorded but CND, by our columns, a value an epoch, shape (epochs,), NaN where there is none.
        divergences: CND, float32, shape (epochs, neurons of all layers), by our estimators.
        left_out, notes: in words, what was left out, and how the rest was understood.
    """

    series: dict[str, np.ndarray]
    divergences: dict[str, np.ndarray]
    left_out: list[str]
    notes: list[str]


def read(path: Path, description: Description) -> Results:
    """Read `performances.pkl`. Raises ParameterError, which names the field, or OSError."""
    attributes = read_attributes(path, "performances.Performances")
    epochs = description.parameters["epochs"]
    series = {name: _numbers(name, attributes.get(name), epochs) for name in _SERIES}
    series = {name: values for name, values in series.items() if not np.isnan(values).all()}
    if "test_acc" not in series or np.isnan(series["test_acc"]).any():
        raise ParameterError("test_acc: must have a value at every epoch")
    shares = sorted(name for name in series if _SERIES[name][1])
    percent = [name for name in shares if np.nanmax(series[name]) > 1 + _ROUNDING]
    small = [name for name in shares if 0 < np.nanmax(series[name]) <= 1 + _ROUNDING]
    series |= {name: _share(name, series[name], name in percent) for name in shares}
    if "PC" in series:
        series["PC"] = _changes(series["PC"], description.train_samples)
    divergences, left_out = _divergences(attributes.get("CND"), description)
    notes = [f"{', '.join(percent)} read as percent"] if percent else []
    notes += [f"{', '.join(small)} read as shares, none being above 1"] if percent and small else []
    if not _unused(attributes.get("CGE")):
        left_out.append("CGE (which of two entropies it is, the file does not tell)")
    unknown = sorted(str(name) for name in attributes.keys() - {*_SERIES, "CND", "CGE"})
    left_out += [f"attributes {', '.join(unknown)}"] if unknown else []
    return Results({_SERIES[name][0]: values for name, values in series.items()}, divergences, left_out, notes)


def _unused(values: Any) -> bool:
    return values is None or (isinstance(values, list | tuple) and all(value is None for value in values))


def _numbers(name: str, values: Any, epochs: int) -> np.ndarray:
    """A value an epoch, float64, shape (epochs,), NaN for None; changes have their first at the second epoch."""
    expected = epochs - 1 if name == "PC" else epochs
    if _unused(values):
        return np.full(expected, np.nan)
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim == 1):
        raise ParameterError(f"{name}: must be a list of numbers, not a {type(values).__name__}")
    if len(values) != expected:
        raise ParameterError(f"{name}: must have {expected} values, as epochs={epochs} in args.json, has {len(values)}")
    return np.array([_number(name, value) for value in values], dtype=np.float64)


def _number(name: str, value: Any) -> float:
    single = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
    if single is None:
        return math.nan
    if type(single) not in (int, float) or (type(single) is int and abs(single) >= 2**63):
        raise ParameterError(f"{name}: must hold numbers, holds a {type(value).__name__}")
    return float(single)


def _share(name: str, values: np.ndarray, percent: bool) -> np.ndarray:
    shares = values / 100 if percent else values
    low, high = np.nanmin(shares), np.nanmax(shares)
    if low < 0 or high > 1 + _ROUNDING:
        farthest = float(np.nanmin(values) if low < 0 else np.nanmax(values))
        raise ParameterError(f"{name}: must be in [0, 1], or in [0, 100] percent, goes to {farthest}")
    return np.minimum(shares, 1)


def _changes(counts: np.ndarray, samples: int) -> np.ndarray:
    """Counts of changed predictions, shape (epochs - 1,), as shares, shape (epochs,)."""
    if not ((counts == counts.round()) & (counts >= 0) & (counts <= samples)).all():
        raise ParameterError(f"PC: must be whole numbers, at most the {samples} training samples")
    return np.concatenate([[math.nan], counts / samples])


def _divergences(values: Any, description: Description) -> tuple[dict[str, np.ndarray], list[str]]:
    """CND by our estimators, and in words what is left out of it."""
    if _unused(values):
        return {}, []
    counts = len(description.estimators), description.parameters["epochs"], sum(description.layers.values())
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise ParameterError(f"CND: must be a tensor of floating point numbers, not a {type(values).__name__}")
    if values.shape != counts:
        raise ParameterError(
            f"CND: must be of shape {counts}, as CND_type, epochs and neurs_x_hid_lyr in args.json, is {values.shape}"
        )
    found, left_out = {}, []
    for (ours, name), bits in zip(description.estimators, values.astype(np.float32), strict=True):
        if ours is None:
            left_out.append(f"CND by {name}, an estimator that is not known here")
        elif np.isnan(bits).all():
            left_out.append(f"CND by {name}, which has no values")
        else:
            found[ours] = bits
    return found, left_out
