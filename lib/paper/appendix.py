"""The set-up in full, and what is missing, from the run folders and the grids."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from lib.catalogue import noise_title
from lib.grid import tasks as grid
from lib.parameters import PLACES, ROOT, Experiment, parameter_label
from lib.runs.folder import IMPORTED, description
from lib.study.studies import Study


def setup(studies: Iterable[Study]) -> pd.DataFrame:
    """Every parameter of every study: a row a parameter, a column a study; what a study varies is listed."""
    columns = {}
    for study in studies:
        shown = {}
        for name in Experiment.__dataclass_fields__:
            if name not in PLACES and name in study.runs:
                values = study.runs[name].drop_duplicates().tolist()
                shown[parameter_label(name)] = ", ".join(_told(value) for value in _ordered(values))
        columns[study.title] = shown
    return pd.DataFrame(columns).rename_axis("Parameter").reset_index().fillna("")


def common(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table of `setup`: parameters in which studies differ, and (parameter, value) of those that all share."""
    values = table.drop(columns="Parameter")
    if values.shape[1] == 1:
        return table, table[:0]
    same = values.nunique(axis=1) == 1
    shared = pd.DataFrame({"Parameter": table.loc[same, "Parameter"], "Value": values[same].iloc[:, 0]})
    return table[~same], shared


def data(studies: Iterable[Study], folder: Path | str) -> pd.DataFrame:
    """Samples, classes, recorded layers and source of each study, as its first run folder tells them."""
    rows = []
    for study in studies:
        told = description(ROOT / folder / study.runs["run"].iloc[0])
        about = told["data"]
        layers = ", ".join(f"{name or 'last hidden'} ({neurons})" for name, neurons in told.get("layers", {}).items())
        rows.append(
            {
                "Study": study.title,
                "Training samples": about.get("train_samples") or "",
                "Test samples": about.get("test_samples") or "",
                "Classes": len(about.get("classes", ())) or "",
                "Layers recorded (neurons)": layers,
                "Source": about["source"],
            }
        )
    return pd.DataFrame(rows)


def environments(runs: pd.DataFrame, folder: Path | str) -> pd.DataFrame:
    """With what the runs were made: a row for each combination of versions, commit and device, and how many runs."""
    rows = [description(ROOT / folder / name)["environment"] for name in runs["run"].unique()]
    table = pd.DataFrame(rows).drop(columns=IMPORTED, errors="ignore").fillna("unknown").astype(str)
    return table.value_counts().rename("runs").reset_index()


def missing(there: Iterable[str], plan: Path) -> pd.DataFrame:
    """How many runs of a grid are there: a row a grid file that it includes, or itself.

    Args:
        there: names of finished runs.
        plan: a grid file.

    Returns:
        grid, planned, there, and what is missing in words.
    """
    names, rows = set(there), []
    for file in grid.files(plan):
        tasks = grid.read(file)
        lacking = [task.experiment for task in tasks if task.name not in names]
        noises = dict.fromkeys(noise_title(one.noise, one.noise_rate) for one in lacking)
        told = "all" if len(lacking) == len(tasks) else ", ".join(noises)
        row = {"Grid": f"slurm/{file.name}", "Planned": len(tasks), "There": len(tasks) - len(lacking), "Missing": told}
        rows.append(row)
    return pd.DataFrame(rows)


def _ordered(values: list[Any]) -> list[Any]:
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace(",", ", ") if value != "" else "–"
