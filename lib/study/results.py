"""What tables, figures and the report are made of: every study of a runs folder with its stops and statistics."""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from lib.criteria import ORACLE, SETTING, stops
from lib.runs import table as runs
from lib.study import statistics
from lib.study.ranks import Friedman
from lib.study.studies import Study, studies


@dataclass(frozen=True)
class Result:
    """A study, and what is computed of it where it is asked for."""

    study: Study

    @cached_property
    def stops(self) -> pd.DataFrame:
        """See `lib.criteria.stops`."""
        return stops(self.study.runs)

    @cached_property
    def kept(self) -> pd.DataFrame:
        """Epoch and records spent of every criterion over seeds, see `lib.study.statistics.over_seeds`."""
        methods = self.stops[self.stops["criterion"] != ORACLE]
        return statistics.over_seeds(methods, [*SETTING, "criterion"], ("epoch", "spent"))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """See `lib.study.statistics.summary`."""
        return statistics.summary(self.stops, statistics.correlations(self.study.runs))

    @property
    def tested(self) -> bool:
        """Whether there is a test set, and so an oracle and gaps to it."""
        return bool(self.study.runs["test_accuracy"].notna().any())


@dataclass(frozen=True)
class Results:
    """All that a runs folder gives.

    Attributes:
        runs: table of `lib.runs.load`.
        studies: in the order of their names.
    """

    runs: pd.DataFrame
    studies: list[Result]

    @property
    def skipped(self) -> dict[str, str]:
        """Run folders that were left out, and why."""
        return self.runs.attrs["skipped"]

    @property
    def tested(self) -> list[Result]:
        """The studies that have a test set: only there can criteria be compared."""
        return [result for result in self.studies if result.tested]

    @property
    def own_runs(self) -> pd.DataFrame:
        """The runs of the studies themselves, without their variants."""
        return pd.concat([result.study.runs for result in self.studies])

    @cached_property
    def stops(self) -> dict[str, pd.DataFrame]:
        """See `lib.criteria.stops`, of each study that has a test set by its name."""
        return {result.study.name: result.stops for result in self.tested}

    def across(self) -> Friedman:
        """See `lib.study.statistics.across_datasets`; without ranks where no study has a test set."""
        return statistics.across_datasets(self.stops) if self.stops else Friedman(math.nan, math.nan, 0)

    def over_runs(self) -> pd.DataFrame:
        """See `lib.study.statistics.over_runs`."""
        return statistics.over_runs(self.stops)


def results(folder: Path | str) -> Results:
    """Load a runs folder and tell its studies apart; relative paths start at the project root."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was skipped is told by `Results.skipped`
        table = runs.load(folder)
    return Results(table, [Result(study) for study in studies(table)])
