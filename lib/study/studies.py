"""Which runs belong together: studies, whose runs may be averaged, and their variants."""

import itertools
import re
from dataclasses import dataclass, field

import pandas as pd

from lib.catalogue import DATASETS, NETWORKS
from lib.files import digest
from lib.parameters import Experiment, dataset_label, of_kind

SETTING_OF_A_RUN = of_kind("setting")


@dataclass(frozen=True)
class Variant:
    """Runs of a study that were measured otherwise than its own.

    Attributes:
        changed: the parameters that differ from the study's, with their values; empty where the runs repeat trainings
            of the study with other signals recorded.
        runs: table of `lib.runs.load`.
    """

    changed: dict[str, object]
    runs: pd.DataFrame


@dataclass(frozen=True)
class Study:
    """Runs that differ in noise, rate and seed alone, and variants that are measured otherwise.

    Attributes:
        name: the dataset, followed by as few parameters as tell the studies of that dataset apart.
        runs: table of `lib.runs.load`.
        variants: of this study.
    """

    name: str
    runs: pd.DataFrame
    variants: list[Variant] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The name as texts and tables call it."""
        dataset, _, settings = self.name.partition(" ")
        told = re.sub(r"network=(\w+)", lambda network: NETWORKS.label(network[1]), settings)
        told = told.replace("=", " ").replace("_", " ")
        return f"{DATASETS.label(dataset)}{f' ({told})' if told else ''}"

    @property
    def stem(self) -> str:
        """The name as part of a file name; where that is long or cannot be, the dataset and a hash."""
        dataset, _, settings = self.name.partition(" ")
        told = re.sub("[= ]", "_", settings.replace("network=", ""))
        stem = f"{dataset}-{told}" if settings else dataset
        if len(settings) <= 40 and re.fullmatch(r"[\w.-]+", stem):
            return stem
        plain = re.sub(r"[^\w.-]+", "_", dataset)
        return f"{plain}-{digest(self.name)}"


def studies(table: pd.DataFrame) -> list[Study]:
    """Sort a table of runs into studies.

    Runs that are trained alike are one study with its variants. The study itself are those runs that are measured in
    the way most of them are, but those that hold nothing out before those that do; among equals, in the way nearest to
    the defaults of `Experiment`.

    Args:
        table: of `lib.runs.load`.
    """
    if table.empty:
        return []
    training = [name for name in of_kind("training", "stopping") if name in table.columns]
    measuring = [name for name in of_kind("measuring", "recording") if name in table.columns]
    found = []
    for dataset, rows in table.groupby(table["dataset"].astype(str).map(dataset_label)):
        differing = [name for name in training if rows[name].nunique(dropna=False) > 1]
        telling = _telling(rows, differing)
        for _, trained_alike in _groups(rows, differing):
            settings = " ".join(f"{name}={trained_alike[name].iloc[0]}" for name in telling)
            found.append(_study(f"{dataset} {settings}".strip(), trained_alike, measuring))
    return found


def _study(name: str, runs: pd.DataFrame, measuring: list[str]) -> Study:
    differing = [parameter for parameter in measuring if runs[parameter].nunique(dropna=False) > 1]
    groups = [group for _, group in _groups(runs, differing)]
    defaults, recorded = Experiment(), of_kind("recording")

    def order(group: pd.DataFrame) -> tuple[bool, int, int]:
        departures = sum(group[parameter].iloc[0] != getattr(defaults, parameter) for parameter in differing)
        holds_out = "validation_share" in group and group["validation_share"].iloc[0] != 0
        return holds_out, -group["run"].nunique(), departures

    own, *others = sorted(groups, key=order)
    variants = []
    for group in others:
        values = {name: (group[name].iloc[0], own[name].iloc[0]) for name in differing if name not in recorded}
        changed = {name: value for name, (value, of_study) in values.items() if value != of_study}
        variants.append(Variant(changed, group))
    return Study(name, own, variants)


def _groups(rows: pd.DataFrame, differing: list[str]):
    return rows.groupby(differing, dropna=False, observed=True) if differing else [((), rows)]


def _telling(rows: pd.DataFrame, differing: list[str]) -> list[str]:
    """The fewest of the differing parameters that tell all studies apart; the network before others."""
    if not differing:
        return []
    ordered = sorted(differing, key=lambda name: name != "network")
    wanted = rows.groupby(differing, dropna=False, observed=True).ngroups
    for few in itertools.chain(itertools.combinations(ordered, 1), itertools.combinations(ordered, 2)):
        if rows.groupby(list(few), dropna=False, observed=True).ngroups == wanted:
            return list(few)
    return differing
