"""Every notebook is a function: a parameters cell, no outputs, and it runs with small parameters."""

import nbformat
import pytest

from lib.grid import NOTEBOOKS, execute
from lib.runs import load

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
ONE_RUN = {"epochs": 2, "window": 1, "patience": 1}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_committed_without_outputs_and_with_parameters_first(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].metadata.get("tags") == ["parameters"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].cell_type == "markdown"


def test_digits(tmp_path):
    parameters = ONE_RUN | {"runs_folder": str(tmp_path / "runs"), "noise": "pair"}
    assert execute(NOTEBOOKS / "digits.ipynb", tmp_path / "out.ipynb", parameters) is None
    assert load(tmp_path / "runs")["noise"].unique().tolist() == ["pair"]
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    images = [
        output for cell in executed.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(images) == 2


def test_news(tmp_path, newsgroups_folder):
    parameters = {
        "data_folder": str(newsgroups_folder),
        "runs_folder": str(tmp_path / "runs"),
        "epochs": 1,
        "records_per_epoch": 4,
        "threads": 1,
    }
    assert execute(NOTEBOOKS / "news.ipynb", tmp_path / "out.ipynb", parameters) is None
    assert len(load(tmp_path / "runs")) == 4


def test_idea(tmp_path):
    parameters = {"epochs": 6, "figures_folder": str(tmp_path)}
    assert execute(NOTEBOOKS / "idea.ipynb", tmp_path / "out.ipynb", parameters) is None
    assert (tmp_path / "idea.svg").exists()


def test_a_misspelt_parameter_is_refused(tmp_path):
    failure = execute(NOTEBOOKS / "digits.ipynb", tmp_path / "out.ipynb", {"noise_rat": 0.2})
    assert failure == "ParameterError: unknown parameter noise_rat=0.2: did you mean 'noise_rate'?"
