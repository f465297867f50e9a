"""Runs that are cut short in every way, and go on as if nothing had been."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
from multiprocessing import get_context

import pytest
import torch

from lib.checks import ParameterError
from lib.parameters import Experiment
from lib.runs import checkpoints
from lib.runs import writer as recording
from lib.runs.folder import (
    ARGS,
    CHECKPOINT,
    DIVERGENCE,
    LOCK,
    LOG,
    PERFORMANCES,
    PREVIOUS,
    WEIGHTS,
    WEIGHTS_AVERAGE,
    Run,
)
from lib.runs.interruption import Interrupted
from lib.training import loop as training
from lib.training import run

pytestmark = pytest.mark.slow

OF_AVERAGE = ["prediction_changes_average", "cnd_average"]
LOOKING_BACK = ["prediction_changes_long", "forgetting_events", "area_under_margin", "validation_accuracy_noisy"]
SETTINGS = {
    "epochs": 6,
    "records_per_epoch": 2,
    "window": 2,
    "dropout": 0.2,
    "validation_share": 0.1,
    "changes_over": 3,
    "criteria": [*Experiment().criteria, *LOOKING_BACK],
}
VARIANTS = {
    "sgd": {
        "momentum": 0.9,
        "schedule": "multi_step",
        "milestones": [2, 4],
        "learning_rate": 0.02,
        "signal_passes": "training",
    },
    "adam": {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "criteria": [*Experiment().criteria, *OF_AVERAGE],
    },
    "images": {
        "network": "small_cnn",
        "augmentation": "crop_flip",
        "train_samples": 300,
        "batch_size": 32,
        "average_epochs": 0.0,
        "criteria": ["cnd", "known_polluted_accuracy", *LOOKING_BACK],
    },
}


@pytest.fixture(scope="module", params=list(VARIANTS))
def whole(request, tmp_path_factory):
    """An uninterrupted run."""
    folder = str(tmp_path_factory.mktemp("whole"))
    return run(Experiment(runs_folder=folder, **SETTINGS | VARIANTS[request.param]))


def elsewhere(finished, folder):
    return dataclasses.replace(finished.experiment, runs_folder=str(folder))


def assert_identical(first, second):
    """The same numbers to the last bit, each record once, and nothing of the way there left."""
    for name in (PERFORMANCES, DIVERGENCE):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name
    averaged = first.experiment.average_epochs > 0
    for average in (False, True)[: 1 + averaged]:
        weights = [each.weights(average) for each in (first, second)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert second.performances["record"].tolist() == list(range(1, second.experiment.records + 1))
    assert {path.name for path in second.folder.iterdir()} == {
        *(ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS),
        *([WEIGHTS_AVERAGE] if averaged else []),
    }


def interrupt_after(monkeypatch, records):
    """Ask a run to stop when it has made some records, in mid-epoch or at its end."""
    record = training.Recorder.record

    def interrupting(self, taken=[]):  # noqa: B006
        taken.append(1)
        if len(taken) == records:
            os.kill(os.getpid(), signal.SIGTERM)
        return record(self)

    monkeypatch.setattr(training.Recorder, "record", interrupting)


@pytest.mark.parametrize("records", [1, 4, 7])
def test_a_run_asked_to_stop_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch, records):
    experiment = elsewhere(whole, tmp_path)
    with monkeypatch.context() as patch:
        interrupt_after(patch, records)
        with pytest.raises(Interrupted, match=f"SIGTERM: stopped after record {records} of 12; the same call goes on"):
            run(experiment)
    assert (experiment.folder / CHECKPOINT).exists()
    assert Run.find(experiment) is None
    torch.rand(3)
    assert_identical(whole, run(experiment))
    assert f"go on after record {records}" in (experiment.folder / LOG).read_text()


def test_ctrl_c_saves_and_raises_what_ctrl_c_raises(whole, tmp_path, monkeypatch):
    experiment = elsewhere(whole, tmp_path)
    record = training.Recorder.record
    with monkeypatch.context() as patch:
        patch.setattr(training.Recorder, "record", lambda self: signal.raise_signal(signal.SIGINT) or record(self))
        with pytest.raises(KeyboardInterrupt):
            run(experiment)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert (experiment.folder / CHECKPOINT).exists()
    assert_identical(whole, run(experiment))


def killed_by_itself(experiment, after):
    """Carry out a run, its state kept after every batch, until it has dealt so often with files in its folder."""
    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    seen = []

    def count(event, arguments):
        if event in ("open", "os.rename", "os.remove") and str(experiment.folder) in str(arguments[0]):
            seen.append(event)
            if len(seen) == after:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    run(experiment, 0.0)


def test_kill_9_at_20_random_moments(tmp_path):
    """The run deals with files more often than all kills together wait for."""
    settings = SETTINGS | {"epochs": 25, "records_per_epoch": 3}
    whole = run(Experiment(runs_folder=str(tmp_path / "whole"), **settings))
    experiment = elsewhere(whole, tmp_path / "killed")
    moments, progressed = random.Random(0), set()
    for _ in range(20):
        process = get_context("fork").Process(target=killed_by_itself, args=(experiment, moments.randint(10, 200)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        if state := checkpoints.load(experiment.folder):
            progressed.add(len(state["rows"]))
    assert len(progressed) > 3
    assert Run.find(experiment) is None
    assert_identical(whole, run(experiment))


def stopped(whole, folder, monkeypatch, records=5):
    """The folder of a run that was stopped after some records, with two checkpoints."""
    experiment = elsewhere(whole, folder)
    with monkeypatch.context() as patch:
        interrupt_after(patch, records)
        with pytest.raises(Interrupted):
            run(experiment, 0.0)
    assert (experiment.folder / PREVIOUS).exists()
    return experiment


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_used(whole, tmp_path, monkeypatch, damage):
    experiment = stopped(whole, tmp_path, monkeypatch)
    last = experiment.folder / CHECKPOINT
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    assert_identical(whole, run(experiment))
    log = (experiment.folder / LOG).read_text()
    assert f"{CHECKPOINT} is damaged" in log
    assert "go on after record" in log


def test_where_every_checkpoint_is_damaged_the_run_starts_anew(whole, tmp_path, monkeypatch):
    experiment = stopped(whole, tmp_path, monkeypatch)
    for name in (CHECKPOINT, PREVIOUS):
        (experiment.folder / name).write_bytes(b"no checkpoint")
    assert_identical(whole, run(experiment))


def test_a_truncated_record_line_and_a_lost_file_are_made_whole(whole, tmp_path, monkeypatch):
    experiment = stopped(whole, tmp_path, monkeypatch)
    records = experiment.folder / PERFORMANCES
    records.write_bytes(records.read_bytes()[:-40])
    (experiment.folder / DIVERGENCE).unlink()
    (experiment.folder / ARGS).write_text("{")
    assert_identical(whole, run(experiment))


def test_a_checkpoint_of_other_data_is_not_gone_on_with(whole, tmp_path, monkeypatch):
    experiment = stopped(whole, tmp_path, monkeypatch)
    state = checkpoints.load(experiment.folder)
    state["content"]["data"]["source"] = "other images"
    checkpoints.save(experiment.folder, state)
    assert_identical(whole, run(experiment))
    log = (experiment.folder / LOG).read_text()
    assert "go on" not in log.split("start")[-1]
    assert "WARNING a checkpoint of other data is removed" in log


@pytest.mark.parametrize("place", ["runs_folder", "data_folder"])
def test_a_run_goes_on_wherever_it_and_its_data_lie(whole, tmp_path, monkeypatch, place):
    before, moved = tmp_path / "before", tmp_path / "moved"
    experiment = stopped(whole, before, monkeypatch)
    if place == "runs_folder":
        before.rename(moved)
    experiment = dataclasses.replace(experiment, **{place: str(moved)})
    assert_identical(whole, run(experiment))
    assert "go on after record 5" in (experiment.folder / LOG).read_text()


def test_a_checkpoint_of_another_version_of_the_code_is_named_and_kept(whole, tmp_path, monkeypatch):
    experiment = stopped(whole, tmp_path, monkeypatch)
    state = checkpoints.load(experiment.folder)
    del state["state"]["recorder"]["seconds"]["cnd"]
    checkpoints.save(experiment.folder, state)
    with pytest.raises(FileExistsError, match="holds a checkpoint of another version of this code"):
        run(experiment)
    assert len(checkpoints.load(experiment.folder)["rows"]) == len(state["rows"]) > 0


def test_what_a_run_began_with_stays_in_its_description(whole, tmp_path, monkeypatch):
    experiment = stopped(whole, tmp_path, monkeypatch)
    now = recording.environment("cpu")
    monkeypatch.setattr(recording, "environment", lambda device: now | {"torch": "9.9"})
    finished = run(experiment)
    assert f'"torch": "{torch.__version__}"' in (finished.folder / ARGS).read_text()
    assert f"the run began with torch {torch.__version__}, now it is 9.9" in (finished.folder / LOG).read_text()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_stops_a_run_and_a_free_one_lets_it_go_on(small_disk, tmp_path):
    settings = {"epochs": 20, "window": 2, "criteria": ["cnd", "prediction_changes"]}
    whole = run(Experiment(runs_folder=str(tmp_path / "whole"), signal_samples=50, **settings))
    experiment = elsewhere(whole, small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_030_000))
    with pytest.raises(OSError, match="No space left on device"):
        run(experiment)
    filler.unlink()
    with pytest.raises(OSError, match="No space left on device"):
        run(experiment)  # now the weights have no place
    subprocess.run(["mount", "-o", "remount,size=30m", small_disk], check=True)
    assert_identical(whole, run(experiment))


def test_without_space_for_a_checkpoint_the_run_goes_on(tmp_path, monkeypatch):
    def full(folder, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save", full)
    finished = run(Experiment(runs_folder=str(tmp_path), epochs=2, window=1), 0.0)
    assert "no checkpoint after record 1: [Errno 28] No space left on device" in (finished.folder / LOG).read_text()


def test_a_folder_that_is_read_only_is_said_in_one_line(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        run(Experiment(runs_folder=str(small_disk), epochs=1, window=1))


def test_a_run_finished_meanwhile_by_another_process_is_read(tmp_path, monkeypatch, tiny):
    experiment = Experiment(runs_folder=str(tmp_path), **tiny)
    enter = recording.RunWriter.__enter__
    finished = []

    def another_is_faster(self):
        if not finished:
            finished.append(None)
            finished[0] = run(experiment)
        return enter(self)

    monkeypatch.setattr(recording.RunWriter, "__enter__", another_is_faster)
    assert run(experiment) == finished[0]
    assert (experiment.folder / LOG).read_text().count("start ") == 1
    assert not (experiment.folder / LOCK).exists()


def test_outside_the_main_thread_signals_are_left_as_they_are(tmp_path, tiny):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(Experiment(runs_folder=str(tmp_path), **tiny))))
    thread.start()
    thread.join()
    assert len(results[0].performances) == 3


@pytest.mark.parametrize("wrong", [-1, "soon", float("nan")])
def test_a_wrong_interval(tmp_path, monkeypatch, wrong):
    with pytest.raises(ParameterError, match=r"checkpoint_seconds=.*: must be a number of at least 0"):
        run(Experiment(runs_folder=str(tmp_path)), wrong)
    monkeypatch.setenv("CHECKPOINT_SECONDS", str(wrong))
    with pytest.raises(ParameterError, match="checkpoint_seconds"):
        run(Experiment(runs_folder=str(tmp_path)))
