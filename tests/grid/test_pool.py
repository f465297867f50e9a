"""Grids on this machine: what is missing is run, failures are named, and nothing is lost when they are cut short."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
import yaml

from lib.__main__ import main
from lib.grid.execution import STOPPED, execute
from lib.grid.tasks import read
from lib.parameters import ROOT, Experiment
from lib.runs import load
from lib.runs.checkpoints import CHECKPOINT
from lib.runs.folder import FAILURE, LOCK, PERFORMANCES, Run
from lib.runs.locks import Lock, holder
from lib.training import run
from tests.one_node import until

SMALL = {"epochs": 1, "window": 1, "criteria": ["cnd"], "optimizer": "sgd", "learning_rate": 0.1}
LONG = SMALL | {"epochs": 400}


@pytest.fixture
def grid(tmp_path):
    """Makes a grid file, and the options that say which and where."""

    def make(parameters, settings=({},)):
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump({"notebook": "digits", "parameters": parameters, "settings": list(settings)}))
        return [str(file), "--runs", str(tmp_path / "runs")]

    return make


def started(arguments):
    command = [sys.executable, "-m", "lib", "run", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def experiments(arguments):
    return [task.experiment for task in read(arguments[0], runs_folder=arguments[2])]


def test_runs_what_is_missing_and_only_that(grid, tmp_path, capsys):
    arguments = grid(SMALL | {"seed": [0, 1]})
    assert main(["run", *arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("missing  digits-") == 2
    assert "0 finished, 0 running, 0 waiting, 0 failed, 2 missing of 2 runs" in said
    assert main(["run", *arguments, "--processes", "2"]) == 0
    assert load(tmp_path / "runs")["run"].nunique() == 2
    assert {path.name for path in (tmp_path / "runs").glob("*/*.ipynb")} == {"digits.ipynb"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["run", *arguments]) == 0
    assert "2 of 2 runs are there, 0 to run" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}


def test_a_run_that_fails_is_named_with_its_reason_and_the_others_finish(grid, tmp_path, capsys):
    arguments = grid(SMALL, [{}, {"learning_rate": 1e9}, {"records_per_epoch": 99, "window": 2}])
    assert main(["run", *arguments, "--processes", "2"]) == 1
    error = capsys.readouterr().err
    good, diverging, wrong = experiments(arguments)
    assert f"failed {diverging.name}: FloatingPointError: " in error
    assert f"failed {wrong.name}: ParameterError: records_per_epoch=99: must be at most the 20 batches" in error
    assert Run.find(good)
    assert main(["status", *arguments]) == 0
    said = capsys.readouterr().out
    assert f"failed   {diverging.name}  FloatingPointError: outputs of the network are no longer finite" in said
    assert f"failed   {wrong.name}  ParameterError: records_per_epoch=99" in said
    assert "1 finished, 0 running, 0 waiting, 2 failed, 0 missing of 3 runs" in said


def test_ctrl_c_keeps_everything_and_the_same_command_goes_on(grid):
    arguments = grid(LONG | {"seed": [0, 1]}, [{}, {"epochs": 1}])
    first = experiments(arguments)[0]
    process = started(arguments)
    until(lambda: (first.folder / PERFORMANCES).exists(), 180)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "what is done is kept, the same command goes on" in error
    assert (first.folder / CHECKPOINT).exists()
    assert not (first.folder / LOCK).exists()  # the kernel is gone as well
    assert not (first.folder / FAILURE).exists()
    assert sum(Run.find(experiment) is None for experiment in experiments(arguments)) == 4


def test_a_stopped_run_goes_on_to_the_same_numbers(grid, tmp_path, capsys):
    arguments = grid(SMALL | {"epochs": 60})
    (experiment,) = experiments(arguments)
    process = started(arguments)
    until(lambda: (experiment.folder / PERFORMANCES).exists(), 180)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == STOPPED
    main(["status", *arguments])
    assert "goes on from its checkpoint" in capsys.readouterr().out
    assert main(["run", *arguments]) == 0
    whole = run(Experiment.from_dict(SMALL | {"epochs": 60, "runs_folder": str(tmp_path / "whole")}))
    resumed = Run.find(experiment)
    assert (resumed.folder / PERFORMANCES).read_bytes() == (whole.folder / PERFORMANCES).read_bytes()
    assert "go on after record" in (resumed.folder / "run.log").read_text()


def test_a_kernel_that_is_killed_is_a_failure_with_its_reason(grid, capsys):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments)
    until(lambda: (experiment.folder / PERFORMANCES).exists(), 180)
    kernels = [one for one in psutil.Process(process.pid).children(recursive=True) if "ipykernel" in str(one.cmdline())]
    assert kernels
    for kernel in kernels:
        kernel.kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"failed {experiment.name}: DeadKernelError: Kernel died" in error
    assert (experiment.folder / FAILURE).read_text() == "DeadKernelError: Kernel died\n"


def test_a_worker_that_is_killed_is_a_failure_with_its_reason(grid):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments)
    until(lambda: (experiment.folder / PERFORMANCES).exists(), 180)
    (worker,) = (one for one in psutil.Process(process.pid).children() if "lib.grid.execution" in one.cmdline())
    worker.kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"failed {experiment.name}: the process was killed by SIGKILL" in error


def test_status_tells_who_is_running_and_what_died(grid, capsys):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments)
    until(lambda: (experiment.folder / PERFORMANCES).exists(), 180)
    main(["status", *arguments])
    said = capsys.readouterr().out
    assert f"running  {experiment.name}  record " in said
    assert "of 400, process " in said
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.communicate(timeout=120)
    until(lambda: holder(experiment.folder / LOCK) is None, 10)
    main(["status", *arguments])
    assert "stopped without a word after record" in capsys.readouterr().out


def test_a_run_that_another_process_writes_is_left_to_it(grid, capsys):
    arguments = grid(SMALL)
    (experiment,) = experiments(arguments)
    experiment.folder.mkdir(parents=True)
    with Lock(experiment.folder / LOCK):
        assert main(["run", *arguments]) == 0
    assert "1 of 1 runs are there, 0 to run" in capsys.readouterr().out


def test_a_notebook_that_fails_gives_its_error_and_not_a_traceback(tmp_path):
    failure = execute(ROOT / "notebooks" / "digits.ipynb", tmp_path / "out.ipynb", {"noise_rate": 3.0})
    assert failure == "ParameterError: noise_rate=3.0: must be a number in [0, 1)"


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    assert "File exists" in execute(ROOT / "notebooks" / "digits.ipynb", tmp_path / "file" / "out.ipynb", {})
