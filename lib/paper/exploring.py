"""Finished runs stopped again under other settings, fast enough to follow a slider; `lib.paper.explorer` shows them.

Nothing is trained: the signals are recorded, and CND of any layer and quantile follows from the divergences of all
neurons, which are sorted once.
"""

import json
import math
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.checks import ParameterError, check_choice
from lib.criteria import CRITERIA
from lib.parameters import REPLAYED, Experiment, dataset_label, of_kind
from lib.runs.folder import ARGS, DIVERGENCE
from lib.stopping import select_record, smooth
from lib.study.ablation import sorted_quantile

# Runs that differ in nothing else are shown together: what is trained on, and how a training is looked at.
_VARIED = {*of_kind("place", "setting"), *REPLAYED}

_SMALL = 2**21  # bytes of the divergences of a run, all layers of which are kept
_UNREADABLE = (ValueError, OSError, EOFError)  # what reading and stopping a run may raise


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How runs are stopped.

    Attributes:
        criterion: as in `lib.criteria.CRITERIA`.
        window: records in the trailing mean, at least 1.
        patience: records in a row without improvement, at least 1.
        quantile: of CND over the neurons, in [0, 1]; None: their mean.
        layer: of CND; a run that does not name its layers has one, "".
        estimator: of CND; for other criteria it means nothing, as do quantile and layer.

    Raises ParameterError for an unknown criterion and another quantile.
    """

    criterion: str = "cnd"
    window: int = 5
    patience: int = 10
    quantile: float | None = 0.9
    layer: str = ""
    estimator: str = "histogram"

    def __post_init__(self):
        check_choice("criterion", self.criterion, list(CRITERIA))
        if self.quantile is not None and not 0 <= self.quantile <= 1:
            raise ParameterError(f"quantile={self.quantile}: must be a number in [0, 1], or None for the mean")

    @property
    def aggregated(self) -> str:
        """How texts say what makes one number of the neurons."""
        how = "mean" if self.quantile is None else f"{100 * self.quantile:g} % quantile"
        return f"{how} of {f'layer {self.layer}' if self.layer else 'all neurons'}"


class Outcome(NamedTuple):
    """A run under some settings.

    Attributes:
        signal, smoothed: a value a record, shape (n,), NaN where there is none.
        record: the record to keep, counted from 1; None where the criterion can choose none.
        spent: records that are trained to know it.
        gap: percentage points of test accuracy below the oracle; NaN without a record.
        late: records after the oracle's; NaN without a record.
        reason: why there is no record, else empty.
    """

    signal: np.ndarray
    smoothed: np.ndarray
    record: int | None = None
    spent: int | None = None
    gap: float = math.nan
    late: float = math.nan
    reason: str = ""


class Recorded:
    """A finished run, and what it recorded.

    Args:
        folder: of the run.
        parameters: its name (run) and every parameter.
        columns: epoch, test accuracy and criteria at each record, shape (n,).
    """

    def __init__(self, folder: Path, parameters: dict[str, Any], columns: dict[str, np.ndarray]):
        self.folder, self.parameters, self._columns = folder, parameters, columns
        self.criteria = [name for name in parameters["criteria"].split(",") if name in columns]
        self.noise = (parameters["noise"], parameters["noise_rate"])
        self.seed = int(parameters["seed"])
        self.epoch, self.test_accuracy = columns["epoch"], columns["test_accuracy"]
        self.records = len(self.epoch)
        known = np.where(np.isnan(self.test_accuracy), -1, self.test_accuracy)
        self.oracle = int(known.argmax()) + 1
        self._sorted: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._last: tuple = (None, None)

    @cached_property
    def layers(self) -> dict[str, int]:
        """Neurons of each layer whose divergences are stored, by its name."""
        if "cnd" not in self.criteria:
            return {}
        return json.loads((self.folder / ARGS).read_text()).get("layers") or {"": 0}

    @cached_property
    def own(self) -> Settings:
        """The settings that the run was recorded with."""
        told = self.parameters
        named = told["cnd_layer"] in self.layers
        return Settings(
            window=int(told["window"]),
            patience=int(told["patience"]),
            quantile=float(told["cnd_quantile"]) if told["cnd_aggregation"] == "quantile" else None,
            layer=told["cnd_layer"] if named else list(self.layers or [""])[-1],
            estimator=told["cnd_estimator"],
        )

    def gap(self, record: int) -> float:
        """Percentage points of test accuracy at a record, counted from 1, below the oracle."""
        return 100 * (self.test_accuracy[self.oracle - 1] - self.test_accuracy[record - 1])

    def stopped(self, settings: Settings) -> Outcome:
        """Where the settings stop the run."""
        signal = smoothed = np.full(self.records, np.nan)
        try:
            signal, smoothed = self._smoothed(settings)
            mode = CRITERIA[settings.criterion].mode
            record, spent = select_record(signal, mode, settings.window, settings.patience)
        except _UNREADABLE as error:
            return Outcome(signal, smoothed, reason=str(error))
        return Outcome(signal, smoothed, record, spent, self.gap(record), record - self.oracle)

    def _smoothed(self, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
        """The signal and its trailing mean, the last of which are kept for other values of the patience."""
        asked = replace(settings, patience=1)
        if asked != self._last[0]:
            signal = self.signal(settings)
            self._last = asked, (signal, smooth(signal, settings.window))
        return self._last[1]

    def signal(self, settings: Settings) -> np.ndarray:
        """The criterion at each record, shape (n,), not smoothed. Raises ValueError where the run does not tell."""
        name = settings.criterion
        if name not in self.criteria:
            raise ValueError(f"criterion={name!r}: was not recorded")
        if name != "cnd" or self._is_own(settings):
            return self._columns[name]
        if settings.layer not in self.layers:
            raise ValueError(f"layer={settings.layer!r}: must be one that was stored, {', '.join(self.layers)}")
        ordered, mean = self._ordered(settings.layer)
        return mean if settings.quantile is None else sorted_quantile(ordered, settings.quantile)

    def prepare(self, layer: str) -> None:
        """Read and sort the divergences now, so that the first move of a slider is as fast as the next."""
        with suppress(*_UNREADABLE, KeyError):
            self._ordered(layer)

    def _is_own(self, settings: Settings) -> bool:
        """Whether CND was recorded just so; what was recorded is exact, where the divergences are of single precision.

        Where layers are stored by name, and none is named for the signal, args.json does not tell which it is.
        """
        asked = (settings.quantile, settings.layer) == (self.own.quantile, self.own.layer)
        return asked and bool(self.parameters["cnd_layer"] or self.parameters["cnd_stored_layers"] in ("", "all"))

    def _ordered(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """The neurons' divergences in rising order, shape (records, neurons), and their mean."""
        if layer not in self._sorted:
            bits, end = self._bits(), 0
            for name, neurons in self.layers.items():
                part, end = bits[:, end : end + neurons or None], end + neurons
                if name == layer or bits.nbytes <= _SMALL:
                    self._sorted[name] = np.sort(part, axis=1), part.mean(axis=1, dtype=np.float64)
        return self._sorted[layer]

    def _bits(self) -> np.ndarray:
        try:
            bits = np.load(self.folder / DIVERGENCE)
        except FileNotFoundError:
            raise ValueError(f"{DIVERGENCE} is missing: CND is there only as {self.own.aggregated}") from None
        neurons = sum(self.layers.values()) or bits.shape[-1]
        if bits.shape != (self.records, neurons) or not neurons:
            raise ValueError(f"{DIVERGENCE} has shape {bits.shape}: must be {(self.records, neurons)}")
        return bits


class Comparable:
    """Runs of one training under several noises and seeds.

    Attributes:
        runs: all of them.
        noises: (noise, rate), in order.
        seeds, criteria, estimators, layers: those that are there, in order.
        own: the settings that most runs were recorded with.
    """

    def __init__(self, runs: list[Recorded]):
        self.runs = runs
        self.noises = sorted({run.noise for run in runs})
        self.seeds = sorted({run.seed for run in runs})
        self.criteria = [name for name in CRITERIA if any(name in run.criteria for run in runs)]

    @cached_property
    def estimators(self) -> list[str]:
        found = {run.own.estimator for run in self._with_cnd}
        return sorted(found, key=lambda name: (name != "histogram", name))

    @cached_property
    def layers(self) -> list[str]:
        longest_first = sorted(self._with_cnd, key=lambda run: -len(run.layers))
        return list(dict.fromkeys(layer for run in longest_first for layer in run.layers))

    @cached_property
    def own(self) -> Settings:
        return Counter(run.own for run in self._with_cnd or self.runs).most_common(1)[0][0]

    @property
    def _with_cnd(self) -> list[Recorded]:
        return [run for run in self.runs if "cnd" in run.criteria]

    def choose(self, settings: Settings, noises: Collection[tuple[str, float]], seeds: Collection[int]):
        """The runs of these noises and seeds that can be compared, a list of `Recorded` by setting and seed.

        For CND they are those of the estimator. A training that was recorded more than once is there once, by the run
        that holds most of what the settings ask for.
        """
        chosen: dict[tuple, Recorded] = {}
        for run in sorted(self.runs, key=lambda run: (settings.layer in run.layers, len(run.layers))):
            other = settings.criterion == "cnd" and run.own.estimator != settings.estimator
            if run.noise in noises and run.seed in seeds and not other:
                key = (*run.noise, run.seed)
                if settings.criterion in run.criteria or key not in chosen:
                    chosen[key] = run
        return [chosen[key] for key in sorted(chosen)]


def comparable(table: pd.DataFrame, folder: Path) -> dict[str, Comparable]:
    """Runs that may be shown together, by name: the dataset, and what they have apart from others of it.

    Args:
        table: of `lib.runs.load`.
        folder: that it was loaded from.
    """
    if table.empty:
        return {}
    table = table.sort_values(["run", "record"], kind="stable").reset_index(drop=True)
    starts = np.flatnonzero(table["run"].ne(table["run"].shift()))
    ends = dict(zip(starts, [*starts[1:], len(table)], strict=True))
    values = {name: table[name].to_numpy() for name in ("epoch", "test_accuracy", *CRITERIA) if name in table}

    def recorded(start: int, parameters: dict[str, Any]) -> Recorded:
        columns = {name: column[start : ends[start]] for name, column in values.items()}
        return Recorded(folder / parameters["run"], parameters, columns)

    groups: dict[tuple, list[Recorded]] = {}
    for start, parameters in zip(starts, table.iloc[starts].to_dict("records"), strict=True):
        key = (parameters[name] for name in Experiment.__dataclass_fields__ if name not in _VARIED)
        groups.setdefault(tuple(key), []).append(recorded(start, parameters))
    return {name: Comparable(runs) for name, runs in _named(groups.values()) if any(run.criteria for run in runs)}


def _named(groups: Collection[list[Recorded]]) -> list[tuple[str, list[Recorded]]]:
    """Each group, the largest of a dataset first, and its name: what sets it apart from that first one.

    One parameter is enough where no other group of the dataset shares its value.
    """
    names = sorted(Experiment.__dataclass_fields__.keys() - _VARIED, key=lambda name: (name != "network", name))
    by_dataset: dict[str, list[list[Recorded]]] = {}
    for group in sorted(groups, key=len, reverse=True):
        by_dataset.setdefault(dataset_label(group[0].parameters["dataset"]), []).append(group)
    named = []
    for dataset, ordered in sorted(by_dataset.items()):
        told = [group[0].parameters for group in ordered]
        for group, of_group in zip(ordered, told, strict=True):
            apart = [name for name in names if of_group[name] != told[0][name]]
            alone = [name for name in apart if [other[name] for other in told].count(of_group[name]) == 1]
            named.append((", ".join([dataset, *(f"{name}={of_group[name]}" for name in alone[:1] or apart)]), group))
    return named
