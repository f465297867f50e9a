"""Every notebook is a function: a parameters cell, no outputs, and it runs with small parameters."""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml

from lib.data import load as load_data
from lib.data import news
from lib.data.samples import draw
from lib.grid.execution import execute
from lib.grid.tasks import NOTEBOOKS, read
from lib.paper import ingredients
from lib.parameters import Experiment
from lib.runs import load

pytestmark = pytest.mark.slow

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
ONE_RUN = {"epochs": 2, "window": 1, "patience": 1}
FEW = {"train_samples": 60, "test_samples": 20, "probe_size": 20}


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


def shown(name, tmp_path, **parameters):
    """A dataset's notebook as it was executed: how many pictures it shows, and the lines that it prints.

    After it, its cells could be run once more in the same kernel.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("assert Experiment.from_cell(globals()) == experiment"))
    nbformat.write(notebook, tmp_path / "notebook.ipynb")
    out = tmp_path / "out.ipynb"
    parameters = {"runs_folder": str(tmp_path / "runs"), "data_folder": str(tmp_path), "threads": 1} | parameters
    assert execute(tmp_path / "notebook.ipynb", out, parameters) is None
    pictures, text = 0, ""
    for cell in nbformat.read(out, as_version=4).cells:
        for output in cell.get("outputs", []):
            pictures += "image/png" in output.get("data", {})
            # A kernel may send a printed line in two parts.
            text += (
                output.text if output.get("name") == "stdout" else output.get("data", {}).get("text/html", "") + "\n"
            )
    return pictures, text


def records_printed(text):
    return re.findall(r"^epoch ([\d.]+): test accuracy 0\.\d{3}, wrong labels fitted (?:0\.\d{3}|nan), ", text, re.M)


def test_digits(tmp_path):
    pictures, text = shown("digits", tmp_path, noise="pair", **ONE_RUN)
    assert load(tmp_path / "runs")["noise"].unique().tolist() == ["pair"]
    assert pictures == 5
    assert records_printed(text) == ["0.476", "1", "1.48", "2"]
    assert "1,257 training and 540 test images of shape (1, 8, 8)\n10 classes; 503 training labels are wrong" in text
    again, read_again = shown("digits", tmp_path, noise="pair", **ONE_RUN)
    assert (again, records_printed(read_again)) == (5, [])  # the finished run is read


def test_a_long_run_prints_few_lines(tmp_path):
    _, text = shown("digits", tmp_path, epochs=20, records_per_epoch=2, criteria=["prediction_changes"])
    assert len(records_printed(text)) == 40 // 3
    assert "record/s" not in text


def test_news(tmp_path, newsgroups_folder):
    places = {"data_folder": str(newsgroups_folder)}
    pictures, text = shown("news", tmp_path, epochs=1, records_per_epoch=4, **places)
    assert len(load(tmp_path / "runs")) == 4
    assert pictures == 4
    assert records_printed(text) == ["0.250", "0.500", "0.750", "1.000"]
    posts = re.findall(r"<tr>(.*?)</tr>", text, re.S)
    rows = [re.findall(r">([^<>]*)</td>", row) for row in posts if "</td>" in row][:12]
    assert all(subject and (given != true) == bool(wrong) for subject, given, true, wrong in rows)
    (_, classes), _, names = news.posts(newsgroups_folder)
    experiment = Experiment.read(next((tmp_path / "runs").iterdir()) / "args.json")
    part = ingredients.spread(draw(experiment, load_data(experiment)).train)
    assert [row[2] for row in rows] == [names[classes[place]] for place in part.rows]


@pytest.mark.parametrize(
    ("name", "size", "classes", "pictures", "parameters"),
    [
        ("cifar10", 32, 10, 4, {}),
        ("cifar10", 32, 10, 4, {"noise": "none", "noise_rate": 0, "network": "preact_resnet9"} | FEW),
        ("cifar100", 32, 100, 4, {}),
        ("cifar100", 32, 100, 4, {"dataset": "cifar100_coarse", "validation_share": 0.1}),
        ("tiny_imagenet", 64, 200, 5, {"noise": "pair"}),
    ],
)
def test_image_notebooks_on_a_prepared_file(tmp_path, name, size, classes, pictures, parameters):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, size, size, 3), dtype=np.uint8)
    labels = np.arange(400) % classes
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:200], "y_test": labels[:200]}
    np.savez(tmp_path / f"{name}.npz", **arrays)
    parameters = ONE_RUN | {"train_samples": 200, "test_samples": 100, "noise": "instance"} | parameters
    found, text = shown(name, tmp_path, **parameters)
    table = load(tmp_path / "runs")
    assert len(table) == 2
    told = "{train_samples} of 400 training samples, {test_samples} of 200 test samples".format(**parameters)
    assert table["source"].str.contains(told).all()
    assert found == pictures
    assert records_printed(text) == ["1", "2"]


def test_the_labels_that_people_gave_are_shown_where_they_are_at_hand(tmp_path):
    images, true = np.zeros((400, 32, 32, 3), dtype=np.uint8), np.arange(400) % 10
    names = np.array([f"class{label}" for label in range(10)])
    np.savez(tmp_path / "cifar10.npz", x_train=images, y_train=true, x_test=images, y_test=true, classes=names)
    given = np.where((true == 3) & (np.arange(400) < 200), 5, true)  # half of one class is taken for another
    torch.save({"clean_label": true, "worse_label": given}, tmp_path / "CIFAR-10_human.pt")
    pictures, text = shown("cifar10", tmp_path, train_samples=200, test_samples=100, **ONE_RUN)
    assert pictures == 5
    row = re.search(r"<th>class3</th>\s*<th>class5</th>\s*<td>([\d.]+)</td>\s*<td>([\d.]+)</td>", text)
    assert float(row[1]) == 50
    assert float(row[2]) < 5  # symmetric noise of the same rate, 5 %


def test_wrong_labels_within_a_superclass_are_counted(tmp_path):
    images, true = np.zeros((400, 32, 32, 3), dtype=np.uint8), np.arange(400) % 100
    np.savez(tmp_path / "cifar100.npz", x_train=images, y_train=true, x_test=images, y_test=true)
    given = np.where(true == 1, 32, true)  # an aquarium fish for a flatfish: both are fish
    given = np.where((true == 0) & (np.arange(400) < 200), 1, given)  # apples for fish
    torch.save({"clean_label": true, "noisy_label": given}, tmp_path / "CIFAR-100_human.pt")
    _, text = shown("cifar100", tmp_path, train_samples=200, test_samples=100, **ONE_RUN)
    assert "Within the superclass: of CIFAR-100N 66.7 % of 6 wrong labels" in text


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
    assert run.name.startswith("noisy_digits-unknown-my_network-seed0-")
    assert "Oracle left out: there is no test set" in (tmp_path / "out.ipynb").read_text()


def test_own_data_of_ones_own(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(80, 4)), np.arange(80) % 2
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, y_train_noisy=y[::-1], x_test=x, y_test=y)
    mine = {"dataset": str(tmp_path / "mine.npz"), "noise": "given", "network": "mlp", "probe_size": 10}
    pictures, text = shown("own_data", tmp_path, epochs=3, records_per_epoch=1, window=1, patience=1, **mine)
    assert pictures == 2
    assert "gap" in text
    assert "left out" not in text
    assert load(tmp_path / "runs")["realised_noise_rate"].unique().tolist() == [1]


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


def test_your_loop(tmp_path):
    assert (
        execute(NOTEBOOKS / "your_loop.ipynb", tmp_path / "out.ipynb", {"epochs": 3, "window": 1, "patience": 1})
        is None
    )
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    told = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    for trainer in ("Lightning", "Hugging Face", "skorch", "Ignite", "Keras"):
        assert re.search(rf"{trainer} (stopped after epoch [23]|is missing)", told), trainer
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def test_consensus_is_told_from_the_archived_runs(tmp_path):
    assert execute(NOTEBOOKS / "consensus.ipynb", tmp_path / "out.ipynb", {}) is None
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    told = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert "PC, KPA, Disagreement; window 8, patience 5: 2.08 points" in told


def test_a_misspelt_parameter_is_refused(tmp_path):
    failure = execute(NOTEBOOKS / "digits.ipynb", tmp_path / "out.ipynb", {"noise_rat": 0.2})
    assert failure == "ParameterError: unknown parameter noise_rat=0.2: did you mean 'noise_rate'?"
