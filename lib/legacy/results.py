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

RESULTS = "performances.pkl"
_PICKLED = "performances.Performances"
_PERFORMANCE = {
    "train_loss": "train_loss",
    "train_acc": "train_accuracy",
    "test_acc": "test_accuracy",
    "misslab_acc": "corrupted_accuracy_given",
}
_SIGNALS = {
    "PC": "prediction_changes",
    "known_polluted_accuracy": "known_polluted_accuracy",
    "known_polluted_accuracy_loglik": "known_polluted_log_likelihood",
    "LS": "batch_loss_sensitivity",  # the original's is the sum over batches, not the mean over samples
    "CSR": "critical_sample_ratio",
}
_SHARES = {"train_acc", "test_acc", "misslab_acc", "known_polluted_accuracy", "CSR"}
_ROUNDING = 1e-6  # by which a mean of hits may exceed 1


class Results(NamedTuple):
    """What `performances.pkl` tells.

    Attributes:
        performance: accuracies and loss by their columns, a value an epoch, shape (epochs,); NaN where there is none.
        signals: likewise, those that were recorded, but CND.
        divergence: CND, float32, shape (estimators, epochs, neurons of all layers); None where it was not recorded.
        left_out, notes: in words, what was left out, and how the rest was understood.
    """

    performance: dict[str, np.ndarray]
    signals: dict[str, np.ndarray]
    divergence: np.ndarray | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def read(folder: Path, description: Description) -> Results:
    """Read `performances.pkl`. Raises ParameterError, which names file and field, or OSError."""
    path = Path(folder) / RESULTS
    attributes = read_attributes(path, _PICKLED)
    try:
        return _results(attributes, description)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error


def _results(attributes: dict[str, Any], description: Description) -> Results:
    epochs = description.parameters["epochs"]
    series = {name: _series(name, attributes.get(name), epochs) for name in (*_PERFORMANCE, *_SIGNALS)}
    if series["test_acc"] is None or np.isnan(series["test_acc"]).any():
        raise ParameterError("test_acc: must have a value at every epoch")
    shares = {name: series[name] for name in _SHARES if series[name] is not None}
    percent = sorted(name for name, values in shares.items() if np.nanmax(values) > 1 + _ROUNDING)
    series |= {name: _share(name, values, name in percent) for name, values in shares.items()}
    notes = [f"{', '.join(percent)} read as percent"] if percent else []
    small = sorted(name for name, values in shares.items() if name not in percent and np.nanmax(values) > 0)
    notes += [f"{', '.join(small)} read as shares, none being above 1"] if percent and small else []
    if series["PC"] is not None:
        series["PC"] = _changes(series["PC"], description.train_samples)
    left_out = [] if _unused(attributes.get("CGE")) else ["CGE (which of two entropies it is, the file does not tell)"]
    unknown = sorted(str(name) for name in attributes.keys() - {*series, "CND", "CGE"})
    left_out += [f"attributes {', '.join(unknown)}"] if unknown else []
    nothing = np.full(epochs, np.nan)
    return Results(
        performance={ours: nothing if series[name] is None else series[name] for name, ours in _PERFORMANCE.items()},
        signals={ours: series[name] for name, ours in _SIGNALS.items() if series[name] is not None},
        divergence=_divergence(attributes.get("CND"), description),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def _unused(values: Any) -> bool:
    return values is None or (isinstance(values, list | tuple) and all(value is None for value in values))


def _series(name: str, values: Any, epochs: int) -> np.ndarray | None:
    """A value an epoch, float64, NaN for None; None where there is no value. PC has its first at the second epoch."""
    if _unused(values):
        return None
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim == 1):
        raise ParameterError(f"{name}: must be a list of numbers, not a {type(values).__name__}")
    expected = epochs - 1 if name == "PC" else epochs
    if len(values) != expected:
        raise ParameterError(f"{name}: must have {expected} values, as epochs={epochs} in args.json, has {len(values)}")
    numbers = np.array([_number(name, value) for value in values], dtype=np.float64)
    return None if np.isnan(numbers).all() else numbers


def _number(name: str, value: Any) -> float:
    single = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
    if single is None:
        return math.nan
    if type(single) not in (int, float) or (type(single) is int and abs(single) >= 2**63):
        raise ParameterError(f"{name}: must hold numbers, holds a {type(value).__name__}")
    return float(single)


def _share(name: str, values: np.ndarray, percent: bool) -> np.ndarray:
    shares = values / 100 if percent else values
    if np.nanmin(shares) < 0 or np.nanmax(shares) > 1 + _ROUNDING:
        raise ParameterError(f"{name}: must be in [0, 1], or in [0, 100] percent, goes to {_farthest(values)}")
    return np.minimum(shares, 1)


def _farthest(values: np.ndarray) -> float:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return low if low < 0 else high


def _changes(counts: np.ndarray, samples: int) -> np.ndarray:
    """Counts of changed predictions, shape (epochs - 1,), as shares, shape (epochs,)."""
    if not ((counts == counts.round()) & (counts >= 0) & (counts <= samples)).all():
        raise ParameterError(f"PC: must be whole numbers, at most the {samples} training samples")
    return np.concatenate([[math.nan], counts / samples])


def _divergence(values: Any, description: Description) -> np.ndarray | None:
    if _unused(values):
        return None
    counts = len(description.estimators), description.parameters["epochs"], sum(description.layers.values())
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise ParameterError(f"CND: must be a tensor of floating point numbers, not a {type(values).__name__}")
    if values.shape != counts:
        raise ParameterError(
            f"CND: must be of shape {counts}, as CND_type, epochs and neurs_x_hid_lyr in args.json, is {values.shape}"
        )
    return values.astype(np.float32)
