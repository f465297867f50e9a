"""When to stop: smoothing and selection of a record, on a finished series or online.

Both follow one rule. A signal is smoothed by the trailing mean over its last `window` values. The chosen record is the
first extremum that `patience` further records in a row do not improve by more than `min_delta`; an equal value is no
improvement. If that never happens it is the last improvement of the whole run, with a `min_delta` of 0 its extremum.
For a maximum nothing counts before the first rise, by more than `min_delta` above the lowest value so far, so that a
signal that begins by falling is not stopped at once (a signal that never rises has its extremum where it begins).

A record whose value is NaN or infinite has no value: no mean there, no improvement, one record of patience spent; the
mean after it is over the last `window` values that there are. NaN before the first value is expected (a signal may need
two records); of any other the first is warned of.
"""

import math
import numbers
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median_low
from typing import Any, NamedTuple

import numpy as np

from .checks import ParameterError, check_as_saved, check_at_least, check_choice
from .compiling import compiled

MODES = ["max", "min", "above_zero"]
RULES = ["extremum", "published"]


class Selection(NamedTuple):
    """The record to keep, counted from 1, and the records that were trained to know it."""

    record: int
    spent: int


class _Progress(NamedTuple):
    """How far the rule has come.

    Attributes:
        seen: records taken.
        record: to keep, counted from 1; 0: none yet.
        best: what the next improvement must exceed, signed so that more is better; before the first rise the lowest.
        risen: whether it counts: for a minimum from the first value on, for a maximum from the first rise.
        stop: whether patience is exhausted.
    """

    seen: int = 0
    record: int = 0
    best: float = 0.0
    risen: bool = False
    stop: bool = False


# Compiled, because ablation and explorer ask it of thousands of series; online it takes a series of one value.
@compiled(cache=True)
def _followed(smoothed, progress, mode, patience, min_delta):
    seen, record, best, risen, stop = progress
    for value in smoothed:
        if stop:
            break
        seen += 1
        signed = -value if mode == "min" else value
        if mode == "above_zero":
            if not math.isnan(value):
                record, stop = seen, value > 0
        elif signed > best + min_delta or (record == 0 and not math.isnan(value)):
            risen = record > 0 or mode == "min"
            best, record = signed, seen
        elif record > 0 and not risen:
            best = signed if signed < best else best
        elif record > 0 and seen - record >= patience:
            stop = True
    return seen, record, best, risen, stop


def _follow(smoothed: np.ndarray, progress: _Progress, mode: str, patience: int, min_delta: float) -> _Progress:
    """Follow the rule along a smoothed series, NaN where it has no value, from where it had come."""
    # The cache of what was compiled is shared by both names of a clone's `lib`, and so must know no class of either.
    seen, record, best, risen, stop = _followed(smoothed, tuple(progress), mode, patience, min_delta)
    return _Progress(seen, record, float(best), bool(risen), bool(stop))  # of NumPy's where nothing is compiled


class EarlyStopping:
    """The stopping rule online: give it one value a record; it says when to stop and which record to keep.

    Args:
        mode: "max" or "min", the extremum to look for; "above_zero": keep and stop at the first record above 0,
            whatever patience and min_delta.
        window: values in the trailing mean.
        patience: records in a row without improvement after which to stop.
        min_delta: what an improvement must exceed, in units of the signal, at least 0.

    Attributes:
        record: record to keep, counted from 1; None while no smoothed value exists.
        improved: whether the last record is the one to keep.
        stop: whether to stop.
        seen: records taken.

    Raises:
        ParameterError: for another mode, a window or a patience below 1, a min_delta below 0.

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

        A job that may be preempted saves `stopping.state_dict()` beside `best`, and goes on at epoch `stopping.seen`.
    """

    def __init__(self, mode: str, window: int, patience: int, min_delta: float = 0.0):
        _check(mode, window, patience, min_delta)
        self.mode, self.window, self.patience, self.min_delta = mode, int(window), int(patience), float(min_delta)
        self.improved = self._warned = False
        self._recent: deque[float] = deque(maxlen=self.window)
        self._go_on_from(_Progress())

    def _go_on_from(self, progress: _Progress) -> None:
        self._progress = progress
        self.record, self.seen, self.stop = progress.record or None, progress.seen, progress.stop

    def update(self, value: float) -> bool:
        """Take the value of the next record; True means stop. Once it said stop, further values change nothing.

        A value that is NaN or infinite is a record without improvement, and the first of them is warned of; NaN before
        the first value is expected.
        """
        self.improved = False
        if self.stop:
            return True
        value, smoothed, before = float(value), math.nan, self.record
        if math.isfinite(value):
            self._recent.append(value)
            if len(self._recent) == self.window:
                smoothed = math.fsum(self._recent) / self.window
        elif not self._warned and (self._recent or not math.isnan(value)):
            _warn(self.seen + 1, value)
            self._warned = True
        self._go_on_from(_follow(np.array([smoothed]), self._progress, self.mode, self.patience, self.min_delta))
        self.improved = self.record != before
        return self.stop

    def state_dict(self) -> dict[str, Any]:
        """Settings and all that was taken in, as numbers, text and a list: for JSON, or a checkpoint of torch."""
        taken = {"improved": self.improved, "warned": self._warned, "recent": list(self._recent)}
        return self._settings | taken | self._progress._asdict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, with the same decisions at every further record.

        Raises ParameterError for the state of other settings, or what is no state.
        """
        if missing := self.state_dict().keys() - state.keys():
            raise ParameterError(f"state without {', '.join(sorted(missing))}: must be one that state_dict() gave")
        check_as_saved(self._settings, state)
        self.improved, self._warned = state["improved"], state["warned"]
        self._recent = deque(state["recent"], maxlen=self.window)
        self._go_on_from(_Progress(*(state[name] for name in _Progress._fields)))

    @property
    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("mode", "window", "patience", "min_delta")}


class Consensus:
    """The median of the stops of several criteria, online: it stops when enough of them have for it to be known.

    A member that has not stopped keeps its record of now, or a later one; the median, of an even number the lower, is
    known when that can no longer change it. A member whose values have all been the same, or that has had none, has no
    say. If the median never gets known it is that of the records to keep at the end.

    Args:
        members: the stopping of each criterion, by name; at least one.

    Attributes:
        record: record to keep, counted from 1; None while no member has one.
        stop: whether to stop.
        seen: records taken.
        left_out: names of the members without a say so far.
        candidates: records that may yet be the one to keep; snapshots of all others can be dropped.

    Raises ParameterError without any member.
    """

    def __init__(self, members: Mapping[str, EarlyStopping]):
        if not members:
            raise ParameterError("members={}: must be at least one")
        self.members, self.stop, self.seen = dict(members), False, 0
        self._first: dict[str, float] = {}
        self._varied: set[str] = set()

    def update(self, values: Mapping[str, float]) -> bool:
        """Take the value of each member at the next record, by name; True means stop, and nothing changes any more.

        A name that is missing has no value, as NaN.
        """
        if self.stop:
            return True
        self.seen += 1
        for name, member in self.members.items():
            value = float(values.get(name, math.nan))
            member.update(value)
            if math.isfinite(value) and value != self._first.setdefault(name, value):
                self._varied.add(name)
        voters = self._voters
        if voters:
            middle = (len(voters) - 1) // 2
            least: list[float] = sorted(member.record or self.seen + 1 for member in voters)
            most = sorted(float(member.record or 0) if member.stop else math.inf for member in voters)
            self.stop = least[middle] == most[middle]
        return self.stop

    @property
    def _voters(self) -> list[EarlyStopping]:
        return [member for name, member in self.members.items() if name in self._varied]

    @property
    def record(self) -> int | None:
        records = [member.record for member in self._voters if member.record]
        return median_low(records) if records else None

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(name for name in self.members if name not in self._varied)

    @property
    def candidates(self) -> set[int]:
        if self.stop and self.record:
            return {self.record}
        return {member.record for member in self.members.values() if member.record}

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in, for JSON or a checkpoint of torch."""
        members = {name: member.state_dict() for name, member in self.members.items()}
        return {"members": members, "first": self._first, "varied": sorted(self._varied), "seen": self.seen} | {
            "stop": self.stop
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, with the same decisions. Raises ParameterError for other members."""
        if list(state["members"]) != list(self.members):
            raise ParameterError(f"members={list(self.members)}: must be {list(state['members'])}, as in the state")
        for name, member in self.members.items():
            member.load_state_dict(state["members"][name])
        self._first, self._varied = dict(state["first"]), set(state["varied"])
        self.seen, self.stop = state["seen"], state["stop"]


def select_consensus(
    series: Mapping[str, Iterable[float]], members: Mapping[str, EarlyStopping]
) -> tuple[int, int, tuple[str, ...]]:
    """The record that a consensus on finished series would have kept.

    Args:
        series: one number a record of each member, by name, all of shape (n,).
        members: fresh stoppings, as for `Consensus`.

    Returns:
        (record, spent, left_out): as for `select_record`, and the names of the members that had no say.

    Raises:
        ParameterError: where no member has a say.
    """
    consensus = Consensus(members)
    for values in zip(*(series[name] for name in members), strict=True):
        if consensus.update(dict(zip(members, values, strict=True))):
            break
    if consensus.record is None:
        raise ParameterError(f"members={list(members)}: must have a value that is not the same at every record")
    return consensus.record, consensus.seen, consensus.left_out


def smooth(values: Iterable[float], window: int) -> np.ndarray:
    """Trailing mean over the last `window` values; NaN before there are as many, and at records without a value.

    Args:
        values: one number a record, shape (n,); NaN or infinite where a record has no value.
        window: number of values, at least 1.

    Returns:
        Shape (n,).

    Raises:
        ParameterError: for a window below 1.
    """
    check_at_least(1, window=window)
    series = _series(values)
    places = np.flatnonzero(np.isfinite(series))
    found, smoothed = series[places].tolist(), np.full(len(series), np.nan)
    smoothed[places[window - 1 :]] = [math.fsum(found[end - window : end]) for end in range(window, len(found) + 1)]
    return smoothed / window


def select_record(
    values: Iterable[float], mode: str, window: int, patience: int, min_delta: float = 0.0, rule: str = "extremum"
) -> Selection:
    """The record that early stopping on a finished series would have kept.

    The code published with CND differs in details, kept as rule "published": more than `patience` records without
    improvement end the search, and what is kept lies a record after the window's end, at most the last; where records
    at the start have no value it lies so much earlier, for prediction changes at the window's end.

    Args:
        values: one number a record, shape (n,); NaN or infinite where a record has no value.
        mode, window, patience, min_delta: as for `EarlyStopping`.
        rule: "extremum", that of `EarlyStopping`, or "published".

    Returns:
        (record, spent): the chosen record, counted from 1, and the records that a user really trains,
        record + patience, or all n where the patience is never exhausted.

    Raises:
        ParameterError: for parameters out of range, or a window longer than the values that there are.
    """
    _check(mode, window, patience, min_delta)
    check_choice("rule", rule, RULES)
    series, published = _series(values), rule == "published"
    done = _follow(smooth(series, window), _Progress(), mode, int(patience) + published, float(min_delta))
    finite = np.isfinite(series)
    if not done.record:
        raise ParameterError(f"window={window}: must be at most the {finite.sum()} values of the series")
    unexpected = np.flatnonzero(~finite & (~np.isnan(series) | np.logical_or.accumulate(finite)))
    if len(unexpected) and unexpected[0] < done.seen:
        _warn(unexpected[0] + 1, series[unexpected[0]])
    return Selection(_kept(done, rule, int(finite.argmax()), len(series)), done.seen)


def begins_highest(values: Iterable[float], window: int, records: int) -> bool:
    """Whether a smoothed series never rises up to a record, so that a maximum could only be where it begins.

    What a criterion of mode "max" keeps there is no choice of its own.

    Args:
        values: one number a record, shape (n,).
        window: as for `smooth`.
        records: counted from 1.
    """
    smoothed = smooth(values, window)[:records]
    known = smoothed[np.isfinite(smoothed)]
    return not (known[1:] > np.minimum.accumulate(known)[:-1]).any()


def select_smoothed(smoothed: np.ndarray, mode: str, patience: int, rule: str = "extremum", late: int = 0) -> int:
    """The record that `select_record` keeps of a series that `smooth` gave; 0 where it has no value. Checks nothing.

    Args:
        smoothed, mode, patience, rule: as there.
        late: records before the first value of the series that was smoothed; only rule "published" reads it.
    """
    done = _follow(smoothed, _Progress(), mode, patience + (rule == "published"), 0.0)
    return _kept(done, rule, late, len(smoothed))


def _kept(done: _Progress, rule: str, late: int, records: int) -> int:
    return min(done.record + 1 - late, records) if rule == "published" and done.risen else done.record


def _warn(record: int, value: float) -> None:
    warnings.warn(f"value of record {record} is {value}: such a record counts as no improvement", stacklevel=3)


def _series(values: Iterable[float]) -> np.ndarray:
    return np.array([float(value) for value in values])


def _check(mode: str, window: int, patience: int, min_delta: float) -> None:
    check_choice("mode", mode, MODES)
    check_at_least(1, window=window, patience=patience)
    if not isinstance(min_delta, numbers.Real) or not 0 <= min_delta < math.inf:
        raise ParameterError(f"min_delta={min_delta!r}: must be a finite number of at least 0")
