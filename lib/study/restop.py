"""Finished runs stopped again under other settings, from what they recorded: nothing is trained.

CND of any stored layer and any quantile follows from the divergences of all neurons, which are sorted once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.catalogue import CRITERIA
from lib.checks import ParameterError, check_choice
from lib.cnd import aggregate
from lib.criteria import oracle
from lib.parameters import located
from lib.runs.folder import DIVERGENCE, divergence_by_layer, layers_of
from lib.stopping import begins_highest, select_record, smooth

_UNREADABLE = (ValueError, OSError, EOFError)  # what reading and stopping a run may raise


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How runs are stopped.

    Attributes:
        criterion: as in `lib.catalogue.CRITERIA`.
        window: records in the trailing mean, at least 1.
        patience: records in a row without improvement, at least 1.
        quantile: of CND over the neurons, in [0, 1]; None: their mean.
        layer: of CND; a run that does not name its layers has one, "".
        estimator: of CND; for other criteria it means nothing, as do quantile and layer.
        rule: of stopping, see `lib.stopping.select_record`.

    Raises ParameterError for an unknown criterion and another quantile.
    """

    criterion: str = "cnd"
    window: int = 5
    patience: int = 10
    quantile: float | None = 0.9
    layer: str = ""
    estimator: str = "histogram"
    rule: str = "extremum"

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
        reason: why there is no record, else empty.
        fallback: whether a maximum was looked for in a signal that never rises.
    """

    signal: np.ndarray
    smoothed: np.ndarray
    record: int | None = None
    spent: int | None = None
    gap: float = math.nan
    reason: str = ""
    fallback: bool = False


class FinishedRun:
    """A finished run, and what it recorded.

    Args:
        folder: of the run.
        parameters: every parameter, as in a row of `lib.runs.load`.
        columns: epoch, test accuracy and criteria at each record, shape (n,).

    Attributes:
        noise: its kind and rate.
        seed: of the run.
        criteria: those that it recorded.
        records: how many there are.
        epoch, test_accuracy: at each record, shape (n,).
        test_accuracy_average: likewise of the averaged weights; None where no average was kept.
        oracle: the best record, counted from 1; None without a test set.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], columns: Mapping[str, np.ndarray]):
        self.folder, self.parameters, self._columns = folder, parameters, columns
        self.criteria = [name for name in parameters["criteria"].split(",") if name in columns]
        self.noise, self.seed = (parameters["noise"], parameters["noise_rate"]), parameters["seed"]
        self.epoch, self.test_accuracy = columns["epoch"], columns["test_accuracy"]
        self.test_accuracy_average = columns.get("test_accuracy_average")
        self.records = len(self.epoch)
        self.oracle = oracle(self.test_accuracy)
        self._sorted: dict[str, np.ndarray] = {}

    @cached_property
    def layers(self) -> dict[str, int]:
        """Neurons of each layer whose divergences are stored, by its name; 0 where the run did not tell."""
        return (layers_of(self.folder) or {"": 0}) if "cnd" in self.criteria else {}

    @cached_property
    def own(self) -> Settings:
        """The settings that the run was recorded with; the criterion is CND."""
        told = self.parameters
        named = told["cnd_layer"] in self.layers
        return Settings(
            window=int(told["window"]),
            patience=int(told["patience"]),
            quantile=float(told["cnd_quantile"]) if told["cnd_aggregation"] == "quantile" else None,
            layer=told["cnd_layer"] if named else list(self.layers or [""])[-1],
            estimator=told["cnd_estimator"],
            rule=told.get("stopping_rule", "extremum"),
        )

    def gap(self, record: int | None) -> float:
        """Percentage points of test accuracy at a record, counted from 1, below the oracle; NaN without a record."""
        if not (record and self.oracle):
            return math.nan
        return 100 * (self.test_accuracy[self.oracle - 1] - self.test_accuracy[record - 1])

    def stopped(self, settings: Settings) -> Outcome:
        """Where the settings stop the run."""
        signal = smoothed = np.full(self.records, np.nan)
        try:
            signal = self.signal(settings)
            smoothed = smooth(signal, settings.window)
            mode = CRITERIA[settings.criterion].mode
            record, spent = select_record(signal, mode, settings.window, settings.patience, rule=settings.rule)
        except _UNREADABLE as error:
            return Outcome(signal, smoothed, reason=str(error))
        fallback = mode == "max" and begins_highest(signal, settings.window, spent)
        return Outcome(signal, smoothed, record, spent, self.gap(record), fallback=fallback)

    def signal(self, settings: Settings) -> np.ndarray:
        """The criterion at each record, shape (n,), not smoothed. Raises ValueError where the run does not tell."""
        name = settings.criterion
        if name not in self.criteria:
            raise ValueError(f"criterion={name!r}: was not recorded")
        if name != "cnd" or self._is_own(settings):
            return self._columns[name]
        if settings.layer not in self.layers:
            raise ValueError(f"layer={settings.layer!r}: must be one that was stored, {', '.join(self.layers)}")
        return aggregate(self._ordered(settings.layer), settings.quantile, ordered=True)

    def tells(self, layer: str | None = None) -> bool:
        """Whether CND of a layer, None: its own, can be had; what it takes is read now, and `signal` need not wait."""
        try:
            self._ordered(self.own.layer if layer is None else layer)
        except (*_UNREADABLE, KeyError):
            return False
        return True

    def _is_own(self, settings: Settings) -> bool:
        """Whether CND was recorded just so; what was recorded is exact, where the divergences are of single precision.

        Where layers are stored by name, and none is named for the signal, args.json does not tell which it is.
        """
        asked = (settings.quantile, settings.layer) == (self.own.quantile, self.own.layer)
        return asked and bool(self.parameters["cnd_layer"] or self.parameters["cnd_stored_layers"] in ("", "all"))

    def _ordered(self, layer: str) -> np.ndarray:
        """The neurons' divergences in rising order, shape (records, neurons)."""
        if layer not in self._sorted:
            try:
                bits = divergence_by_layer(self.folder, self.records)[layer]
            except FileNotFoundError:
                raise ValueError(f"{DIVERGENCE} is missing: CND is there only as {self.own.aggregated}") from None
            self._sorted[layer] = np.sort(bits, axis=1)
        return self._sorted[layer]


def finished_runs(table: pd.DataFrame, folder: Path | str) -> list[FinishedRun]:
    """The runs of a table of `lib.runs.load`, in the order of their names.

    Args:
        table: of `lib.runs.load`.
        folder: that it was loaded from; relative paths start at the project root.
    """
    if table.empty:
        return []
    root = located("folder", folder)
    table = table.sort_values("record", kind="stable", ignore_index=True)
    rows = list(table.groupby("run", sort=True, observed=True).indices.values())
    wanted = ("epoch", "test_accuracy", "test_accuracy_average", *CRITERIA)
    columns = {name: table[name].to_numpy() for name in wanted if name in table}
    parameters = table.iloc[[of_run[0] for of_run in rows]].to_dict("records")
    return [
        FinishedRun(root / told["run"], told, {name: values[of_run] for name, values in columns.items()})
        for of_run, told in zip(rows, parameters, strict=True)
    ]
