import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from lib.checks import RunInUse
from lib.parameters import ROOT
from lib.runs import locks
from lib.runs.locks import Lock, holder

HOLD = """
import sys, time
from lib.runs.locks import Lock
with Lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(99)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.lock"


@pytest.fixture
def another(path):
    """A process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_named_and_its_death_frees_the_lock(path, another):
    who = f"process {another.pid} on {socket.gethostname()}"
    assert holder(path) == who
    with pytest.raises(RunInUse, match=f"is being written by another process \\({who}\\)"), Lock(path):
        pass
    another.send_signal(signal.SIGKILL)
    another.wait()
    assert path.exists()
    assert holder(path) is None
    with Lock(path):
        assert holder(path) == f"process {os.getpid()} on {socket.gethostname()}"
    assert not path.exists()
    assert holder(path) is None


def test_the_job_is_named(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with Lock(path):
        assert holder(path).endswith(", job 7")


def test_who_only_asks_keeps_nobody_out(path, monkeypatch):
    monkeypatch.setattr(locks, "_ASKING", 60.0)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.1, file.close).start()
        with Lock(path):
            assert holder(path) == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_lock_is_had_by_one_of_many_at_a_time(path):
    inside, most, refused = [0], [0], [0]

    def work():
        for _ in range(20):
            try:
                with Lock(path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.001)
                    inside[0] -= 1
            except FileExistsError:
                refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


@pytest.fixture
def elsewhere(path, monkeypatch):
    """The lock of a process on another machine, whose own lock does not reach this one; it is alive where `signs`."""
    signs = []
    monkeypatch.setattr(locks.time, "sleep", lambda _seconds: os.utime(path) if signs else None)
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "12"}))
    return signs


def test_an_owner_on_another_machine_that_gives_signs_of_life_holds_the_lock(path, elsewhere):
    elsewhere.append("alive")
    with pytest.raises(RunInUse, match="process 1 on elsewhere, job 12"), Lock(path):
        pass
    assert holder(path) == "process 1 on elsewhere, job 12"
    assert path.exists()


def test_an_owner_on_another_machine_without_a_sign_of_life_is_dead(path, elsewhere):
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_holder_gives_signs_of_life(path, monkeypatch):
    monkeypatch.setattr(locks, "_PULSE", 0.02)
    with Lock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_file_locks_nothing(path, content):
    path.write_text(content)
    assert holder(path) is None
    with Lock(path):
        pass


def test_a_file_system_without_locks_is_named(path, monkeypatch):
    def missing(*_arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    def broken(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error"):
        Lock(path).__enter__()
    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(
        OSError, match=r"runs_folder: .* must be where files can be locked \(Function not implemented\)"
    ):
        Lock(path).__enter__()
