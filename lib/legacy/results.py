"""`performances.pkl` of a run of the described original, checked, and told in the terms of this project.

It is a pickled object, each of whose attributes has one value an epoch; one that was not recorded is a list of None.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lib.checks import ParameterError
from lib.legacy.arguments import Arguments
from lib.legacy.unpickling import read_attributes

_FIELDS = {  # by the original's names: ours, and what the values are
    "train_loss": ("train_loss", "numbers"),
    "train_acc": ("train_accuracy", "shares"),
    "test_acc": ("test_accuracy", "shares"),
    "misslab_acc": ("corrupted_accuracy_given", "shares"),
    "PC": ("prediction_changes", "counts"),
    "known_polluted_accuracy": ("known_polluted_accuracy", "shares"),
    "known_polluted_accuracy_loglik": ("known_polluted_log_likelihood", "numbers"),
    "LS": ("batch_loss_sensitivity", "numbers"),  # the sum over batches, not the mean over samples
    "CSR": ("critical_sample_ratio", "shares"),
}
_LARGEST_SHARE = 1 + 1e-6  # of a mean of hits, by rounding


def read(path: Path, arguments: Arguments) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read `performances.pkl`; `left_out` and `notes` of the arguments are told more.

    Returns:
        What was recorded but CND, by our columns, a value an epoch, shape (epochs,), NaN where there is none; and CND,
        float32, shape (epochs, neurons of all layers), by our estimators.

    Raises ParameterError, which names the field, or OSError.
    """
    attributes = read_attributes(path, "performances.Performances")
    recorded = {name: values for name, values in attributes.items() if not _unused(values)}
    epochs, samples = arguments.about["parameters"]["epochs"], arguments.about["data"]["train_samples"]
    series, percent = {}, []
    for name, (ours, kind) in _FIELDS.items():
        if name not in recorded:
            continue
        # Changes have their first at the second epoch.
        values = _numbers(name, recorded.pop(name), (epochs - 1 if kind == "counts" else epochs,))
        if np.isnan(values).all():
            continue
        if kind == "counts":
            if (values != values.round()).any() or values.min() < 0 or values.max() > samples:
                raise ParameterError(f"{name}: must be whole numbers, at most the {samples} training samples")
            values = np.concatenate([[np.nan], values / samples])
        if kind == "shares":
            if np.nanmax(values) > _LARGEST_SHARE:
                percent.append(name)
                values = values / 100
            low, high = np.nanmin(values), np.nanmax(values)
            if low < 0 or high > _LARGEST_SHARE:
                raise ParameterError(f"{name}: must be shares or percent, goes from {low:.3g} to {high:.3g} as shares")
            values = np.minimum(values, 1)
        series[ours] = values
    if np.isnan(series.get("test_accuracy", np.nan)).any():
        raise ParameterError("test_acc: must have a value at every epoch")
    if percent:
        arguments.notes.append(f"{', '.join(percent)} read as percent, other accuracies as shares")
    divergences = _divergences(recorded.pop("CND"), arguments) if "CND" in recorded else {}
    if "CGE" in recorded:
        del recorded["CGE"]
        arguments.left_out.append("CGE (which of two entropies it is, the file does not tell)")
    if recorded:
        arguments.left_out.append(f"attributes {', '.join(sorted(map(str, recorded)))}")
    return series, divergences


def _unused(values: Any) -> bool:
    return values is None or (isinstance(values, list | tuple) and all(value is None for value in values))


def _numbers(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Float64 of that shape, NaN for None; each may be an array of one value."""
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ParameterError(f"{name}: must be numbers of shape {shape} ({error})") from error
    numbers = numbers[..., 0] if numbers.shape == (*shape, 1) else numbers
    if numbers.shape != shape:
        raise ParameterError(f"{name}: must be of shape {shape}, as args.json tells, is {numbers.shape}")
    return numbers


def _divergences(values: Any, arguments: Arguments) -> dict[str, np.ndarray]:
    about, estimators = arguments.about, arguments.estimators
    shape = len(estimators), about["parameters"]["epochs"], sum(about["layers"].values())
    found = {}
    for (name, ours), bits in zip(estimators.items(), _numbers("CND", values, shape), strict=True):
        if ours is None:
            arguments.left_out.append(f"CND by {name}, an estimator that is not known here")
        elif np.isnan(bits).all():
            arguments.left_out.append(f"CND by {name}, which has no values")
        else:
            found[ours] = bits.astype(np.float32)
    return found
