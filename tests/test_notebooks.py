"""Every notebook is a function: a parameters cell, no outputs, and it runs with small parameters."""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from lib.grid.execution import execute
from lib.grid.tasks import NOTEBOOKS, read
from lib.parameters import Experiment
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


def test_kernels_share_no_ports(tmp_path):
    asks = "from ipykernel.connect import get_connection_file\nprint(open(get_connection_file()).read())"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(asks)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python"}
    nbformat.write(notebook, tmp_path / "asks.ipynb")
    assert execute(tmp_path / "asks.ipynb", tmp_path / "out.ipynb", {}) is None
    connection = json.loads(nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[0].outputs[0].text)
    assert connection["transport"] == "ipc"
    assert not Path(connection["ip"]).parent.exists()  # nothing of it is left


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


@pytest.mark.parametrize(
    ("name", "file", "size", "classes"),
    [("cifar10", "cifar10", 32, 10), ("cifar100", "cifar100", 32, 100), ("tiny_imagenet", "tiny_imagenet", 64, 200)],
)
def test_image_notebooks_on_a_prepared_file(tmp_path, name, file, size, classes):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, size, size, 3), dtype=np.uint8)
    labels = np.arange(400) % classes
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:200], "y_test": labels[:200]}
    np.savez(tmp_path / f"{file}.npz", **arrays)
    places = {"data_folder": str(tmp_path), "runs_folder": str(tmp_path / "runs")}
    parameters = ONE_RUN | places | {"train_samples": 200, "test_samples": 100, "noise": "instance", "threads": 1}
    assert execute(NOTEBOOKS / f"{name}.ipynb", tmp_path / "out.ipynb", parameters) is None
    table = load(tmp_path / "runs")
    assert len(table) == 2
    assert table["source"].str.contains("200 of 400 training samples, 100 of 200 test samples").all()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet"])
def test_the_command_of_the_full_experiment_is_one_of_its_grid(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    parameters: dict = {}
    exec(notebook.cells[1].source, parameters)
    command = notebook.cells[0].source.split("papermill notebooks/")[1].replace("\\\n", " ")
    given = re.findall(r"-p (\w+) (\S+)", command)
    parameters |= {key: yaml.safe_load(value) for key, value in given}
    del parameters["__builtins__"]
    experiment = Experiment.from_dict(parameters)
    tasks = read(NOTEBOOKS.parent / "slurm" / f"{name}.yaml")
    assert experiment in [task.experiment for task in tasks]


def test_own_data(tmp_path):
    parameters = {"data_folder": str(tmp_path), "runs_folder": str(tmp_path / "runs"), "epochs": 5}
    assert execute(NOTEBOOKS / "own_data.ipynb", tmp_path / "out.ipynb", parameters) is None
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("rings-symmetric0.4-my_network-seed0-")


def test_bringing_your_own_takes_fewer_than_twenty_lines():
    cells = [cell.source for cell in nbformat.read(NOTEBOOKS / "own_data.ipynb", as_version=4).cells]
    (code,) = (source for source in cells if "models.register(" in source)
    assert len([line for line in code.splitlines() if line.strip()]) < 20


@pytest.mark.parametrize("family", ["divergence", "graph_entropy", "sensitivity"])
def test_explore(tmp_path, family):
    assert execute(NOTEBOOKS / f"explore_{family}.ipynb", tmp_path / "out.ipynb", {"epochs": 2}) is None
    images = [
        output
        for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert images


def test_idea(tmp_path):
    parameters = {"epochs": 6, "figures_folder": str(tmp_path)}
    assert execute(NOTEBOOKS / "idea.ipynb", tmp_path / "out.ipynb", parameters) is None
    assert (tmp_path / "idea.svg").exists()


def test_a_misspelt_parameter_is_refused(tmp_path):
    failure = execute(NOTEBOOKS / "digits.ipynb", tmp_path / "out.ipynb", {"noise_rat": 0.2})
    assert failure == "ParameterError: unknown parameter noise_rat=0.2: did you mean 'noise_rate'?"
