"""When to stop: smoothing and selection of a record, on a finished series or online.

Both follow one rule. A signal is smoothed by the trailing mean over `window` records. The chosen record is the first
extremum that `patience` further records in a row do not improve; an equal value is no improvement. If that never
happens it is the extremum of the whole run. For a maximum nothing counts before the first rise, so that a signal
that begins by falling is not stopped at once (a signal that never rises has its extremum where it begins).
"""

import math
import numbers
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numba
import numpy as np

from lib.checks import ParameterError, check_choice

MODES = ["max", "min", "above_zero"]


class Selection(NamedTuple):
    """The record to keep, counted from 1, and the records that were trained to know it."""

    record: int
    spent: int


class EarlyStopping:
    """The stopping rule online: give it one value a record; it says when to stop and which record to keep.

    Args:
        mode: "max" or "min", the extremum to look for; "above_zero": keep and stop at the first record above 0,
            whatever the patience.
        window: records in the trailing mean.
        patience: records in a row without improvement after which to stop.

    Attributes:
        record: record to keep, counted from 1; None while no smoothed value exists.
        improved: whether the last record is the one to keep.
        stop: whether to stop.
        seen: records taken.

    Raises:
        ParameterError: for another mode, a window or a patience below 1.

    Example:
        CND stopping in a plain PyTorch loop; the network `model`, its `optimizer`, the inputs `x` and their
        `noisy_labels` are your own.

        >>> from copy import deepcopy
        >>> from lib.cnd import neuron_divergence
        >>> from lib.layers import pre_activations
        >>> stopping = EarlyStopping("max", window=2, patience=5)
        >>> for epoch in range(100):
        ...     for rows in torch.randperm(len(x)).split(32):
        ...         optimizer.zero_grad()
        ...         cross_entropy(model(x[rows]), noisy_labels[rows]).backward()
        ...         optimizer.step()
        ...     cnd = neuron_divergence(pre_activations(model, x), noisy_labels, num_classes=3)
        ...     stop = stopping.update(cnd.quantile(0.9))
        ...     if stopping.improved:
        ...         best = deepcopy(model.state_dict())
        ...     if stop:
        ...         break
        >>> model.load_state_dict(best)
        <All keys matched successfully>
        >>> epoch + 1 - stopping.record
        5
    """

    def __init__(self, mode: str, window: int, patience: int):
        check_choice("mode", mode, MODES)
        _check_at_least_1(window=window, patience=patience)
        self.window, self.patience = int(window), int(patience)
        self.record: int | None = None
        self.improved = self.stop = False
        self.seen = 0
        self._sign = -1 if mode == "min" else 1
        self._started = mode == "min"
        self._threshold = mode == "above_zero"
        self._recent: deque[float] = deque(maxlen=self.window)
        self._best = self._last = -math.inf

    def update(self, value: float) -> bool:
        """Take the value of the next record; True means stop. Once it said stop, further values change nothing.

        A record without a value (NaN) is allowed only before the first one that has a value. Raises ValueError
        for a later NaN, or an infinite value.
        """
        self.improved = False
        if self.stop:
            return True
        self.seen += 1
        value = self._sign * float(value)
        if math.isnan(value) and not self._recent:
            return self.stop
        if not math.isfinite(value):
            raise ValueError(f"value of record {self.seen}: must be finite, got {self._sign * value}")
        self._recent.append(value)
        if len(self._recent) == self.window:
            self._take(math.fsum(self._recent) / self.window)
        return self.stop

    def _take(self, smoothed: float) -> None:
        if self._threshold:
            self.record, self.improved, self.stop = self.seen, True, smoothed > 0
            return
        if not self._started and self.record is not None and smoothed > self._last:
            self._started, self._best = True, -math.inf
        self._last = smoothed
        if self.record is None or smoothed > self._best:
            self._best, self.record, self.improved = smoothed, self.seen, True
        elif self._started and self.seen - self.record >= self.patience:
            self.stop = True


def smooth(values: Iterable[float], window: int) -> np.ndarray:
    """Trailing mean over `window` records; NaN before the first record that has `window` values.

    Args:
        values: one number a record, shape (n,); leading NaN stand for records without a value.
        window: number of records, at least 1.

    Returns:
        Shape (n,).

    Raises:
        ParameterError: for a window below 1.
    """
    _check_at_least_1(window=window)
    series = _series(values)
    smoothed = np.full(len(series), np.nan)
    ordered = series.tolist()
    smoothed[window - 1 :] = [math.fsum(ordered[end - window : end]) for end in range(window, len(series) + 1)]
    return smoothed / window


def select_record(values: Iterable[float], mode: str, window: int, patience: int) -> Selection:
    """The record that early stopping on a finished series would have kept.

    Args:
        values: one number a record, shape (n,); leading NaN stand for records without a value.
        mode: "max", "min" or "above_zero".
        window: records in the trailing mean, at least 1.
        patience: records in a row without improvement, at least 1.

    Returns:
        (record, spent): the chosen record, counted from 1, and the records that a user really trains,
        record + patience, or all n where the patience is never exhausted.

    Raises:
        ParameterError: for parameters out of range, or a window longer than the series.
        ValueError: for a value that is not finite after the first finite one.
    """
    check_choice("mode", mode, MODES)
    _check_at_least_1(window=window, patience=patience)
    series = _series(values)
    without = np.isnan(series)
    first = len(series) if without.all() else int(np.argmin(without))
    broken = np.flatnonzero(~np.isfinite(series[first:]))
    smoothed = smooth(series[: first + broken[0]] if len(broken) else series, window)
    record, spent = _select(smoothed, mode == "min", mode == "above_zero", patience)
    if len(broken) and not spent:
        at = first + int(broken[0])
        raise ValueError(f"value of record {at + 1}: must be finite, got {series[at]}")
    if not record:
        raise ParameterError(f"window={window}: must be at most the {len(series) - first} values of the series")
    return Selection(record, spent or len(series))


def select_smoothed(smoothed: np.ndarray, mode: str, patience: int) -> int:
    """The record to keep, counted from 1, of a series that `smooth` gave; 0 where it has no value. Checks nothing."""
    return _select(smoothed, mode == "min", mode == "above_zero", patience)[0]


@numba.njit(cache=True)
def _select(smoothed, lowest, above_zero, patience):
    """The rule of `EarlyStopping` on a smoothed series, NaN first: the record to keep, and the one that stops, or 0."""
    sign = -1.0 if lowest else 1.0
    started, best, last, record = lowest, -np.inf, -np.inf, 0
    for i in range(len(smoothed)):
        value = sign * smoothed[i]
        if np.isnan(value):
            continue
        if above_zero:
            record = i + 1
            if value > 0:
                return record, record
            continue
        if not started and record and value > last:
            started, best = True, -np.inf
        last = value
        if not record or value > best:
            best, record = value, i + 1
        elif started and i + 1 - record >= patience:
            return record, i + 1
    return record, 0


def _series(values: Iterable[float]) -> np.ndarray:
    return np.array([float(value) for value in values])


def _check_at_least_1(**numbers_of_records: int) -> None:
    for name, value in numbers_of_records.items():
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ParameterError(f"{name}={value!r}: must be an integer of at least 1")
