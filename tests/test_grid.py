import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from lib import grid
from lib.checks import ParameterError
from lib.grid import Grid, main
from lib.parameters import ROOT, Experiment
from lib.runs import load

SMALL = {"epochs": 1, "window": 1, "criteria": ["cnd"], "optimizer": "sgd", "learning_rate": 0.1}


def write(tmp_path, **content):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_lists_expand_to_all_combinations(tmp_path):
    file = write(
        tmp_path,
        notebook="digits",
        parameters={"seed": [0, 1], "criteria": ["cnd", "prediction_changes"]},
        settings=[{"noise": "none", "noise_rate": 0}, {"noise": "symmetric", "noise_rate": [0.2, 0.4]}],
    )
    expanded = Grid.read(file, runs_folder="r")
    assert [(e.noise, e.noise_rate, e.seed) for e in expanded.experiments] == [
        ("none", 0, 0),
        ("none", 0, 1),
        ("symmetric", 0.2, 0),
        ("symmetric", 0.4, 0),
        ("symmetric", 0.2, 1),
        ("symmetric", 0.4, 1),
    ]
    assert {e.runs_folder for e in expanded.experiments} == {"r"}
    assert expanded.experiments[0].criteria == ("cnd", "prediction_changes")


def test_the_grids_of_the_study():
    demo = Grid.read(ROOT / "slurm" / "demo.yaml").experiments
    assert len(demo) == 15
    settings = {("none", 0), ("symmetric", 0.2), ("symmetric", 0.4), ("symmetric", 0.6), ("pair", 0.4)}
    assert {(e.noise, e.noise_rate) for e in demo} == settings
    news = Grid.read(ROOT / "slurm" / "news.yaml").experiments
    assert {(e.patience, e.window, e.cnd_quantile) for e in news} == {(100, 4, 0.1)}
    assert {e.noise_rate for e in news} == {0.2, 0.4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"notebook": "digit"}, "notebook='digit': must be one of"),
        ({"notebook": "digits", "settings": {"noise": "pair"}}, "settings a list of such"),
        ({"notebook": "digits", "parameters": [1]}, "parameters must be names and values"),
        ({"notebook": "digits", "parameters": {1: 2}}, "unknown parameter 1=2"),
        ({"notebook": "digits", "parameters": {"seed": []}}, "seed=[]: must be a value or a list of at least one"),
        ({"notebook": "digits", "parameters": {"learning_rate": "1e-4"}}, "must be a finite number above 0, not text"),
        ({"notebook": "digits", "paramters": {}}, "did you mean 'parameters'?"),
        (
            {"notebook": "digits", "parameters": {"noise_rate": [0.2, 1.2]}},
            "noise_rate=1.2: must be a number in [0, 1)",
        ),
    ],
)
def test_a_wrong_grid_is_one_line_before_anything_runs(tmp_path, capsys, content, message):
    assert main([str(write(tmp_path, **content)), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_wrong_files_and_processes(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere.yaml")]) == 2
    assert main([str(ROOT / "slurm" / "demo.yaml"), "--processes", "0"]) == 2
    assert "processes=0: must be an integer of at least 1" in capsys.readouterr().err
    (tmp_path / "list.yaml").write_text("notebook: [")
    assert main([str(tmp_path / "list.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ParameterError, match="must name notebook"):
        Grid.read(tmp_path / "list.yaml")


def test_runs_what_is_missing_and_only_that(tmp_path, capsys):
    file = write(tmp_path, notebook="digits", parameters={"seed": [0, 1]} | SMALL)
    arguments = [str(file), "--runs", str(tmp_path / "runs"), "--processes", "2"]
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("missing  digits-") == 2
    assert main(arguments) == 0
    table = load(tmp_path / "runs")
    assert table["run"].nunique() == 2
    executed = {path.name for path in (tmp_path / "runs").glob("*/*.ipynb")}
    assert executed == {"digits.ipynb"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(arguments) == 0
    assert "2 of 2 runs are there, 0 to run" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}


def test_a_run_that_fails_is_named_and_the_others_finish(tmp_path, capsys):
    file = write(tmp_path, notebook="digits", parameters=SMALL, settings=[{}, {"learning_rate": 1e9}])
    assert main([str(file), "--runs", str(tmp_path / "runs")]) == 1
    error = capsys.readouterr().err
    failed = Experiment.from_dict(SMALL | {"learning_rate": 1e9}).name
    assert f"failed {failed}: FloatingPointError: " in error
    assert "training diverged" in error
    with pytest.warns(UserWarning, match="skipped: unfinished: 0 of 1 records"):
        assert load(tmp_path / "runs")["run"].nunique() == 1


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path):
    parameters = SMALL | {"epochs": 400, "seed": [0, 1]}
    file = write(tmp_path, notebook="digits", parameters=parameters, settings=[{}, {"epochs": 1}])
    command = [sys.executable, "-m", "lib.grid", str(file), "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    records = Experiment.from_dict(SMALL | {"epochs": 400, "runs_folder": str(tmp_path / "runs")}).folder
    while not (records / "performances.csv").exists():
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in error
    begun = records / "performances.csv"
    written = begun.stat().st_size
    time.sleep(1)
    assert begun.stat().st_size == written  # the kernel is gone as well
    assert len(Grid.read(file, runs_folder=str(tmp_path / "runs")).missing()) == 4


def test_a_notebook_that_fails_gives_its_error_and_not_a_traceback(tmp_path):
    failure = grid.execute(ROOT / "notebooks" / "digits.ipynb", tmp_path / "out.ipynb", {"noise_rate": 3.0})
    assert failure == "ParameterError: noise_rate=3.0: must be a number in [0, 1)"
