"""One process at a time for a folder, on one machine or many that share a file system.

The system itself holds the lock (flock by `filelock`, which NFS passes on) and lets go of it when the process dies, so
that a file left behind locks nothing. Where a file system keeps such locks to each machine, the owner named in the
file and the pulse that it gives tell that a process on another machine is at work.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lib.checks import RunInUse

_PULSE = 10.0  # seconds between the signs of life of an owner
_MISSED = 3  # signs in a row after whose absence an owner on another machine counts as dead
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP)  # of a file system that has none
_ASKING = 1.0  # seconds for which somebody who only asks whether a lock is held may hold it


class Lock:
    """A lock with an owner; use it in a `with` statement.

    Raises RunInUse, which names the owner, where another process holds it; a stale one is taken over. OSError where
    the file system has no locks.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._lock = FileLock(path, timeout=_ASKING, thread_local=False, fallback_to_soft=False)
        self._released = threading.Event()

    def __enter__(self) -> "Lock":
        try:
            self._lock.acquire()
        except Timeout:
            raise _refusal(self.path) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise OSError(
                f"runs_folder: {self.path.parent} must be where files can be locked ({error.strerror}); Lustre, "
                "for one, can be mounted with -o flock"
            ) from error
        try:
            self._check_owner()
            me = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
            self.path.write_text(json.dumps(me) + "\n")
        except BaseException:
            self._lock.release()
            raise
        self._released.clear()
        threading.Thread(target=self._give_signs_of_life, daemon=True).start()
        return self

    def __exit__(self, *_error) -> None:
        self._released.set()
        self.path.unlink(missing_ok=True)
        self._lock.release()

    def _check_owner(self) -> None:
        owner = _owner(self.path)
        if owner is None or owner["host"] == socket.gethostname():
            return
        seen = self.path.stat().st_mtime_ns
        for _ in range(_MISSED):
            if abs(time.time() - seen / 1e9) > 100 * _PULSE:
                return
            time.sleep(_PULSE)
            if self.path.stat().st_mtime_ns != seen:
                raise _refusal(self.path)

    def _give_signs_of_life(self) -> None:
        while not self._released.wait(_PULSE):
            try:
                os.utime(self.path)
            except OSError:
                return


def holder(path: Path) -> str | None:
    """Who holds a lock, in words; None where nobody does."""
    owner = _owner(path)
    if owner is None:
        return None
    try:
        # Not by filelock, which asks by taking the lock for itself, in a folder that may be somebody else's.
        with Path(path).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except BlockingIOError:
        return _in_words(owner)
    except OSError:
        return None
    elsewhere = owner["host"] != socket.gethostname()
    return _in_words(owner) if elsewhere and age < _MISSED * _PULSE else None


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(Path(path).read_text())
        return owner if isinstance(owner, dict) and {"host", "pid", "job"} <= owner.keys() else None
    except (OSError, ValueError):
        return None


def _in_words(owner: dict[str, Any]) -> str:
    job = f", job {owner['job']}" if owner["job"] else ""
    return f"process {owner['pid']} on {owner['host']}{job}"


def _refusal(path: Path) -> RunInUse:
    owner = _owner(path)
    who = f" ({_in_words(owner)})" if owner else ""
    return RunInUse(f"{path.parent}: is being written by another process{who}")
