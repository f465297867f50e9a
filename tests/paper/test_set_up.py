"""What the report tells of set-up, data, versions, and what is missing."""

import pytest

from lib.grid import tasks as grid
from lib.grid.tasks import NOTEBOOKS
from lib.parameters import Experiment
from lib.runs import table as runs
from lib.study.studies import studies
from tests.cells import defined

report = defined("report")
FULL = NOTEBOOKS.parent / "slurm" / "full.yaml"


@pytest.fixture(scope="module")
def found(study_folder):
    return studies(runs.load(study_folder))


def test_the_set_up_has_every_parameter_and_what_is_varied(found):
    table = report.set_up(found).set_index("Parameter")["Digits"]
    assert len(table) == len(Experiment.__dataclass_fields__) - 2  # the folders are no set-up
    assert (table["noise rate"], table["seed"], table["epochs"]) == ("0.2, 0.4", "0, 1", "4")
    assert table["glove file"] == "–"


def test_what_all_studies_share_is_told_once(found):
    table = report.set_up(found).assign(Other=lambda table: table["Digits"].where(table["Parameter"] != "epochs", "9"))
    differing, shared = report.common(table)
    assert differing["Parameter"].tolist() == ["epochs"]
    assert len(shared) == len(table) - 1


def test_data_and_layers_come_from_the_run_folders(found, study_folder):
    (row,) = report.data_of(found, study_folder).to_dict("records")
    assert (row["Training samples"], row["Test samples"], row["Classes"]) == (1257, 540, 10)
    assert "(512)" in row["Layers recorded (neurons)"]
    assert "load_digits" in row["Source"]


def test_environments_count_runs(found, study_folder):
    (row,) = report.environments(found[0].runs, study_folder).to_dict("records")
    assert row["runs"] == 4
    assert {"python", "torch", "numpy", "commit", "device"} <= set(row)


def test_missing_runs_are_counted_by_grid():
    demo = grid.read(FULL.parent / "demo.yaml")
    there = [task.name for task in demo if task.experiment.noise != "pair"]
    table = report.missing(there, FULL).set_index("Grid")
    assert table.loc["slurm/demo.yaml"].tolist() == [18, 15, "pair 40%"]
    assert table.loc["slurm/cifar10.yaml", "Missing"] == "all"
    assert set(table.index) == {f"slurm/{file.name}" for file in grid.files(FULL)}
