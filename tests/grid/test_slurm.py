"""The grid on a real Slurm of one node: submitted, cancelled, requeued, killed, out of time; and nothing is lost."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.__main__ import main
from lib.checks import ParameterError
from lib.grid import slurm as cluster
from lib.grid.slurm import Cluster
from lib.grid.tasks import read
from lib.parameters import ROOT, Experiment
from lib.runs.folder import CHECKPOINT, LOCK, LOG, PERFORMANCES, Run
from lib.runs.locks import holder
from lib.training import run
from tests.one_node import OneNode, absent, until
from tests.pausing import Pause

pytestmark = pytest.mark.slow

SMALL = {"epochs": 2, "window": 2, "criteria": ["cnd"]}
ON_ONE_NODE = ["--sbatch=--cpus-per-task=1 --mem=1G"]


@pytest.fixture(scope="module")
def node():
    if reason := absent():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp())
    one = OneNode(folder)
    before = os.environ.get("SLURM_CONF")
    try:
        one.start()
        yield one
    finally:
        one.stop()
        os.environ.pop("SLURM_CONF")
        if before:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def grid(node, tmp_path):
    """Makes a grid file, and the options that say which and where; what is in the queue afterwards is cancelled."""

    def make(parameters, settings=({},)):
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump({"notebook": "digits", "parameters": parameters, "settings": list(settings)}))
        return [str(file), "--runs", str(tmp_path / "runs")]

    yield make
    node.command("scancel", "--me")
    until(lambda: not queue(node), 60)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Submits a grid of one run, which pauses at a record until a signal comes; gives the experiment and the pause."""

    def begin(arguments):
        pause = Pause(tmp_path / "pausing")
        for name, value in pause.environment.items():
            monkeypatch.setenv(name, value)
        (experiment,) = experiments(arguments)
        submit(arguments)
        until(lambda: pause.reached, 240)
        return experiment, pause

    return begin


def queue(node):
    """Number, state, name and reason of the jobs that have not ended."""
    told = node.command("squeue", "--noheader", "--array", "--me", "--states=all", "--format=%i %T %j %r")
    return [line for line in told.splitlines() if line.split()[1] not in cluster.ENDED]


def empty(node, seconds=240, report=False):
    """Wait for the end of the runs, and of the report where asked for.

    Runs that were requeued need not wait the two minutes that Slurm gives them, but for what they left on the node.
    """
    since = {}

    def ended():
        waited_for = 0
        for line in queue(node):
            number, _, name, reason = line.split(maxsplit=3)
            waited_for += report or not name.endswith("report")
            if reason == "BeginTime" and time.monotonic() > since.setdefault(number, time.monotonic()) + 5:
                node.command("scontrol", "update", f"JobId={number}", "StartTime=now")
                del since[number]
        return not waited_for

    until(ended, seconds)


def submit(arguments, *options):
    assert main(["submit", *arguments, *ON_ONE_NODE, *options]) == 0


def experiments(arguments):
    return [task.experiment for task in read(arguments[0], runs_folder=arguments[2])]


def said(arguments, capsys, command="status"):
    capsys.readouterr()
    assert main([command, *arguments]) == 0
    return capsys.readouterr().out


def array_of(node, experiment):
    """Number of the array job that is running."""
    (line,) = (line for line in queue(node) if "_" in line and " RUNNING " in line)
    return line.split("_")[0]


def assert_whole(experiment, tmp_path):
    """The run is there once, with the numbers of one that nothing disturbed."""
    parameters = experiment.parameters() | {"runs_folder": str(tmp_path / "undisturbed")}
    undisturbed, found = run(Experiment.from_dict(parameters)), Run.find(experiment)
    assert (found.folder / PERFORMANCES).read_bytes() == (undisturbed.folder / PERFORMANCES).read_bytes()
    assert np.array_equal(found.divergence, undisturbed.divergence, equal_nan=True)


def test_a_dozen_runs_with_one_that_fails_among_them(node, grid, tmp_path, capsys):
    good = {"seed": [0, 1, 2, 3, 4], "noise_rate": [0.2, 0.4]}
    arguments = grid(SMALL, [good, {"records_per_epoch": 99}, {"learning_rate": 1e9}])
    submit(arguments, "--pack", "3", "--concurrent", "2")
    assert "0 running, 12 waiting" in said(arguments, capsys)
    submit(arguments)
    assert "nothing to submit" in capsys.readouterr().out
    empty(node, report=True)
    *finished, wrong, diverging = experiments(arguments)
    assert all(Run.find(experiment) for experiment in finished)
    report = said(arguments, capsys)
    assert f"failed   {wrong.name}  ParameterError: records_per_epoch=99: must be at most" in report
    assert f"failed   {diverging.name}  FloatingPointError" in report
    assert "10 finished, 0 running, 0 waiting, 2 failed, 0 missing of 12 runs" in report
    jobs = tmp_path / "runs" / ".jobs"
    assert len(list(jobs.glob("*-run-*.log"))) == 4
    assert len(list(jobs.glob("*-report-*.log"))) == 1
    before = {experiment: (experiment.folder / LOG).stat().st_mtime_ns for experiment in finished}
    submit(arguments)
    assert "submitted jobs" in capsys.readouterr().out
    assert len([line for line in queue(node) if "_" in line]) == 2  # what failed, and nothing else
    assert before == {experiment: (experiment.folder / LOG).stat().st_mtime_ns for experiment in finished}


def test_what_is_cancelled_keeps_its_state_and_goes_on(node, grid, begun, tmp_path, capsys):
    arguments = grid(SMALL | {"epochs": 20})
    experiment, _ = begun(arguments)
    node.command("scancel", "--full", "--signal=TERM", array_of(node, experiment))
    node.command("scancel", "--me")
    empty(node)
    assert (experiment.folder / CHECKPOINT).exists()
    assert "goes on from its checkpoint" in said(arguments, capsys)
    submit(arguments)
    empty(node)
    assert_whole(experiment, tmp_path)
    assert "go on after record" in (experiment.folder / LOG).read_text()


def test_near_its_time_limit_a_task_is_requeued_and_goes_on(node, grid, begun, tmp_path):
    arguments = grid(SMALL | {"epochs": 20})
    experiment, _ = begun(arguments)
    node.command("scancel", "--batch", "--signal=USR1", array_of(node, experiment))  # as Slurm does when time is short
    empty(node, 420)
    log = (experiment.folder / LOG).read_text()
    assert "Interrupted: SIGTERM: stopped after record" in log
    assert "go on after record" in log
    assert_whole(experiment, tmp_path)


def test_a_task_that_is_requeued_by_hand_goes_on(node, grid, begun, tmp_path):
    arguments = grid(SMALL | {"epochs": 20})
    experiment, _ = begun(arguments)
    node.command("scontrol", "requeue", f"{array_of(node, experiment)}_0")
    empty(node, 420)
    assert_whole(experiment, tmp_path)


def test_slurmd_killed_and_started_again(node, grid, begun, tmp_path):
    arguments = grid(SMALL | {"epochs": 20})
    experiment, pause = begun(arguments)
    node.kill_slurmd()
    node.start_slurmd()
    pause.end()
    empty(node, 420)
    assert_whole(experiment, tmp_path)


def test_a_kernel_killed_in_a_job(node, grid, begun, capsys):
    arguments = grid(SMALL | {"epochs": 20})
    experiment, _ = begun(arguments)
    os.kill(int(holder(experiment.folder / LOCK).split()[1]), signal.SIGKILL)
    empty(node)
    assert f"failed   {experiment.name}  DeadKernelError: Kernel died" in said(arguments, capsys)


def test_what_slurm_refuses_leaves_nothing_submitted(node, grid, capsys):
    arguments = grid(SMALL)
    assert main(["submit", *arguments, "--sbatch=--partition=nowhere"]) == 2
    assert "error: sbatch: " in capsys.readouterr().err
    assert main(["submit", *arguments, "--sbatch=--no-such-option"]) == 2
    assert not queue(node)


def test_data_that_is_not_there_is_said_by_the_preparation(node, grid, tmp_path, capsys, monkeypatch):
    settings = {"dataset": str(tmp_path / "nowhere.npz"), "network": "mlp", "window": 1, "epochs": 1}
    submit(grid(settings))
    empty(node)
    (log,) = (tmp_path / "runs" / ".jobs").glob("*-prepare-*.log")
    assert "nowhere.npz" in log.read_text()


def test_without_slurm_it_is_said_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = [str(ROOT / "slurm" / "small.yaml"), "--runs", str(tmp_path / "runs")]
    assert main(["submit", *arguments]) == 2
    assert "must be on this machine; without Slurm: python -m lib run" in capsys.readouterr().err
    assert main(["status", *arguments]) == 0


@pytest.fixture
def broken_slurm(tmp_path, monkeypatch):
    """A squeue that Slurm does not answer."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)


def test_where_the_queue_cannot_be_asked_no_run_is_said_to_be_missing(broken_slurm, tmp_path, capsys):
    arguments = [str(ROOT / "slurm" / "small.yaml"), "--runs", str(tmp_path / "runs")]
    for options in (["status"], ["submit", "--dry-run"], ["run", "--dry-run"]):
        assert main([*options, *arguments]) == 0
        told = capsys.readouterr().out
        assert "Slurm's queue could not be asked" in told
        assert "squeue: slurm_load_jobs error: Unable to contact slurm controller" in told
        assert "0 finished, 0 running, 0 waiting, 0 failed, 0 missing, 12 unknown of 12 runs" in told
    assert main(["submit", *arguments]) == 2
    assert capsys.readouterr().err == "error: squeue: slurm_load_jobs error: Unable to contact slurm controller\n"
    assert not list((tmp_path / "runs").glob(".jobs/*.json"))


def test_the_dry_run_submits_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = [str(ROOT / "slurm" / "full.yaml"), "--runs", str(tmp_path / "runs")]
    assert main(["submit", *arguments, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"0 finished, 0 running, 0 waiting, 0 failed, \d+ missing of \d+ runs", told)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gpus: 1", "name in cluster.yaml='gpus': must be one of"),
        ("pack: 0", "pack=0: must be an integer of at least 1"),
        ("time: 8", "time=8: must be text"),
        ("[", "must be a readable YAML file"),
        ("- 1", "must hold names and values"),
    ],
)
def test_wrong_settings_of_the_cluster(tmp_path, content, message):
    file = tmp_path / "cluster.yaml"
    file.write_text(content)
    with pytest.raises(ParameterError) as error:
        Cluster.read(file)
    assert message in str(error.value)


def test_a_gpu_is_asked_for_where_runs_need_one():
    tasks = {name: read(ROOT / "slurm" / f"{name}.yaml") for name in ("small", "cifar10")}
    settings = Cluster.read()
    assert "--gres=gpu:a100:1" in settings.options(tasks["cifar10"])
    assert not any("gres" in option for option in settings.options(tasks["small"]))


def test_runs_that_need_no_gpu_are_an_array_of_their_own():
    tasks = [*read(ROOT / "slurm" / "cifar10.yaml")[:3], *read(ROOT / "slurm" / "small.yaml")[:5]]
    arrays = [[task.experiment.device for task in part] for part in cluster._arrays(tasks, 4)]
    assert arrays == [["cuda"] * 3, ["cpu"] * 4, ["cpu"]]


def test_packed_runs_share_out_the_gpus(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        cluster.pool, "run", lambda tasks, n, device: seen.append([device(i) for i in range(n)]) or DONE
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    tasks = read(ROOT / "slurm" / "small.yaml", runs_folder=str(tmp_path))
    assert [cluster.run_task(tasks, pack=5, index=index) for index in (2, 0)] == [DONE, DONE]
    assert [[place["CUDA_VISIBLE_DEVICES"] for place in places] for places in seen] == [
        ["0", "1"],
        ["0", "1"] * 2 + ["0"],
    ]


DONE = cluster.pool.Outcome()


def test_the_scripts_are_bash():
    for script in (ROOT / "slurm").glob("*.s*"):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
