"""What tables, figures and the report are made of: every study of a runs folder with its stops and statistics."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib import runs, statistics
from lib.criteria import stops
from lib.statistics import Friedman
from lib.studies import Study, studies


@dataclass(frozen=True)
class Result:
    """A study, its `stops` (see `lib.criteria.stops`) and their `summary` (see `lib.statistics.summary`)."""

    study: Study
    stops: pd.DataFrame
    summary: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """All that a runs folder gives.

    Attributes:
        folder: of the runs.
        runs: table of `lib.runs.load`.
        studies: in the order of their names.
    """

    folder: Path | str
    runs: pd.DataFrame
    studies: list[Result]

    @property
    def skipped(self) -> dict[str, str]:
        """Run folders that were left out, and why."""
        return self.runs.attrs["skipped"]

    @property
    def own_runs(self) -> pd.DataFrame:
        """The runs of the studies themselves, without their variants."""
        return pd.concat([result.study.runs for result in self.studies])

    def across(self) -> Friedman:
        """Average ranks over the settings of all studies."""
        return statistics.across_settings(
            pd.concat([result.stops.assign(dataset=result.study.name) for result in self.studies])
        )


def results(folder: Path | str, part: int = 0, parts: int = 1) -> Results:
    """Load and analyse a runs folder; relative paths start at the project root.

    Args:
        folder: of the runs.
        part, parts: of the studies only every parts-th from this one on, where processes share the work.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was skipped is told by `Results.skipped`
        table = runs.load(folder)
    found = []
    for study in studies(table)[part::parts]:
        chosen = stops(study.runs)
        found.append(Result(study, chosen, statistics.summary(chosen, statistics.correlations(study.runs))))
    return Results(folder, table, found)
