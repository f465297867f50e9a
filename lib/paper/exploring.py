"""Which finished runs the explorer shows together; `lib.paper.explorer` shows them."""

from collections import Counter
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import pandas as pd

from lib.catalogue import CRITERIA, noise_place
from lib.parameters import REPLAYED, parameter_label
from lib.study.restop import FinishedRun, Settings, finished_runs
from lib.study.studies import studies


class Comparable:
    """Runs of one training, measured alike, under several noises and seeds.

    Attributes:
        runs: all of them.
        noises: kind and rate of each.
        seeds, criteria: those that are there, in order.
    """

    def __init__(self, runs: list[FinishedRun]):
        self.runs = runs
        self.noises = sorted({run.noise for run in runs}, key=lambda noise: (noise_place(noise[0]), *noise))
        self.seeds = sorted({run.seed for run in runs})
        self.criteria = [name for name in CRITERIA if any(name in run.criteria for run in runs)]
        self._with_cnd = [run for run in runs if "cnd" in run.criteria]

    @cached_property
    def estimators(self) -> list[str]:
        """Those of CND, the default first."""
        found = {run.own.estimator for run in self._with_cnd}
        return sorted(found, key=lambda name: (name != Settings.estimator, name))

    @cached_property
    def layers(self) -> list[str]:
        """Those that any run stores, in the order of the network."""
        longest_first = sorted(self._with_cnd, key=lambda run: -len(run.layers))
        return list(dict.fromkeys(layer for run in longest_first for layer in run.layers))

    @cached_property
    def own(self) -> Settings:
        """The settings that most runs were recorded with."""
        return Counter(run.own for run in self._with_cnd or self.runs).most_common(1)[0][0]

    def choose(
        self, settings: Settings, noises: Collection[tuple[str, float]], seeds: Collection[int]
    ) -> list[FinishedRun]:
        """The runs of these noises and seeds that can be compared, by noise and seed.

        For CND they are those of the estimator. A training that was recorded more than once is there once, by the run
        that holds most of what the settings ask for.
        """
        chosen: dict[tuple[tuple[str, float], int], FinishedRun] = {}
        for run in sorted(self.runs, key=lambda run: (settings.layer in run.layers, len(run.layers))):
            other = settings.criterion == "cnd" and run.own.estimator != settings.estimator
            told = settings.criterion in run.criteria or (run.noise, run.seed) not in chosen
            if told and run.noise in noises and run.seed in seeds and not other:
                chosen[run.noise, run.seed] = run
        return [chosen[noise, seed] for noise in self.noises for seed in self.seeds if (noise, seed) in chosen]


def comparable(table: pd.DataFrame, folder: Path | str) -> dict[str, Comparable]:
    """Runs that may be shown together, by name: each study and each of its variants, as tables and figures call them.

    What the explorer itself sets tells no studies apart.

    Args:
        table: of `lib.runs.load`.
        folder: that it was loaded from; relative paths start at the project root.
    """
    runs = {run.parameters["run"]: run for run in finished_runs(table, folder) if run.criteria}
    told = pd.DataFrame([run.parameters for run in runs.values()])
    found = {}
    for study in studies(told.assign(**dict.fromkeys(REPLAYED, ""))):
        for changed, alike in [({}, study.runs), *((variant.changed, variant.runs) for variant in study.variants)]:
            changes = [f"{parameter_label(name)} {value}".replace("_", " ") for name, value in changed.items()]
            found[", ".join([study.title, *changes])] = Comparable([runs[name] for name in alike["run"]])
    return found
