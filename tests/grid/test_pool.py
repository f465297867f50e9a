"""Grids on this machine: what is missing is run, failures are named, and nothing is lost when they are cut short."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import yaml

from lib.__main__ import main
from lib.checks import NoSlurm
from lib.grid import pool, slurm
from lib.grid.execution import STOPPED, execute
from lib.grid.tasks import NOTEBOOKS, Task, read
from lib.parameters import ROOT, Experiment
from lib.runs import load
from lib.runs.folder import (
    ARGS,
    CHECKPOINT,
    DIVERGENCE,
    FAILURE,
    LOCK,
    LOG,
    PERFORMANCES,
    WEIGHTS,
    WEIGHTS_AVERAGE,
    Run,
)
from lib.runs.locks import Lock, holder
from lib.training import run
from tests.one_node import until
from tests.pausing import Pause

pytestmark = pytest.mark.slow

SMALL = {"epochs": 1, "window": 1, "criteria": ["cnd"], "optimizer": "sgd", "learning_rate": 0.1}
LONG = SMALL | {"epochs": 12}


@pytest.fixture
def grid(tmp_path):
    """Makes a grid file, and the options that say which and where."""

    def make(parameters, settings=({},)):
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump({"notebook": "digits", "parameters": parameters, "settings": list(settings)}))
        return [str(file), "--runs", str(tmp_path / "runs")]

    return make


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    """What is installed on the machine does not change what `status` says."""

    def absent():
        raise NoSlurm

    monkeypatch.setattr(slurm, "queued", absent)


@pytest.fixture
def started(tmp_path):
    """Begins `python -m lib run` in a process of its own, and returns it when its first run pauses at a record."""

    def begin(arguments, **environment):
        pause = Pause(tmp_path / "pausing")
        process = subprocess.Popen(
            [sys.executable, "-m", "lib", "run", *arguments],
            cwd=ROOT,
            env=os.environ | pause.environment | environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until(lambda: pause.reached, 180)
        return process

    return begin


def parts(process):
    """The processes of a command, with their parents: itself, its worker, its kernel."""
    command = psutil.Process(process.pid)
    (worker,) = command.children()
    (kernel,) = worker.children()
    return {"command": command, "worker": worker, "kernel": kernel}


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


def test_ctrl_c_keeps_everything_and_the_same_command_goes_on(grid, started):
    arguments = grid(LONG | {"seed": [0, 1]}, [{}, {"epochs": 1}])
    first = experiments(arguments)[0]
    process = started(arguments)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "what is done is kept, the same command goes on" in error
    assert (first.folder / CHECKPOINT).exists()
    assert not (first.folder / LOCK).exists()  # the kernel is gone as well
    assert not (first.folder / FAILURE).exists()
    assert sum(Run.find(experiment) is None for experiment in experiments(arguments)) == 4


def test_a_stopped_run_goes_on_to_the_same_numbers(grid, started, tmp_path, capsys):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == STOPPED
    main(["status", *arguments])
    assert "goes on from its checkpoint" in capsys.readouterr().out
    assert main(["run", *arguments]) == 0
    whole = run(Experiment.from_dict(LONG | {"runs_folder": str(tmp_path / "whole")}))
    resumed = Run.find(experiment)
    assert (resumed.folder / PERFORMANCES).read_bytes() == (whole.folder / PERFORMANCES).read_bytes()
    assert "go on after record" in (resumed.folder / "run.log").read_text()


@pytest.mark.parametrize(
    ("part", "reason"),
    [("kernel", "DeadKernelError: Kernel died"), ("worker", "the process was killed by SIGKILL")],
)
def test_a_part_that_is_killed_is_a_failure_with_its_reason(grid, started, part, reason):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments)
    parts(process)[part].kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"failed {experiment.name}: {reason}" in error
    assert (experiment.folder / FAILURE).read_text() == f"{reason}\n"


@pytest.fixture
def temporary():
    """A temporary folder for other processes, of a path short enough for sockets in it."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("killed", [["kernel"], ["worker"], ["command"], ["command", "worker", "kernel"]])
def test_after_kill_9_nothing_is_left_and_no_process_outlives_its_parent(grid, started, temporary, killed):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments, TMPDIR=str(temporary))
    assert list(temporary.iterdir())
    all_of_them = parts(process)
    for name in killed:
        all_of_them[name].kill()
    process.communicate(timeout=120)
    _, alive = psutil.wait_procs(all_of_them.values(), timeout=120)
    assert alive == []
    assert holder(experiment.folder / LOCK) is None
    if killed == ["command"]:
        assert (experiment.folder / CHECKPOINT).exists()  # there was time to keep the state
        assert not (experiment.folder / FAILURE).exists()
    if len(killed) == 3:  # nobody was left to tidy up: the next run does
        (experiment.folder / f"{PERFORMANCES}.1.part").write_text("half")
        command = [sys.executable, "-m", "lib", "run", *arguments]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)}, check=True, timeout=180)
        assert Run.find(experiment)
        written = {path.name for path in experiment.folder.iterdir()}
        assert written == {ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS, WEIGHTS_AVERAGE, "digits.ipynb"}
    assert list(temporary.iterdir()) == []


def test_status_tells_who_is_running_and_what_died(grid, started, capsys):
    arguments = grid(LONG)
    (experiment,) = experiments(arguments)
    process = started(arguments)
    main(["status", *arguments])
    said = capsys.readouterr().out
    assert f"running  {experiment.name}  record " in said
    assert f"of {LONG['epochs']}, process " in said
    for one in parts(process).values():
        one.kill()
    process.communicate(timeout=120)
    until(lambda: holder(experiment.folder / LOCK) is None, 60)
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


def test_runs_keep_the_memory_that_a_step_frees(monkeypatch):
    seen = {}
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    monkeypatch.setattr(pool.subprocess, "Popen", lambda _command, env, **_how: seen.update(env))
    pool._begun(Task(NOTEBOOKS / "digits.ipynb", Experiment()), {"OWN": "1"})
    assert int(seen["MALLOC_MMAP_THRESHOLD_"]) > 2**30
    assert (seen["MALLOC_TRIM_THRESHOLD_"], seen["OWN"]) == ("7", "1")  # who sets it has a reason
