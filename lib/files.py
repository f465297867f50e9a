"""Files that are whole or not there, folders that one process at a time works in, and short digests."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lib.checks import found

_log = logging.getLogger("lib")
LOCK = ".lock"


def digest(content: str | bytes, characters: int = 8) -> str:
    """The first hexadecimal characters of the SHA-256 of a text or of bytes."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:characters]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name in the same folder and rename it, so that nobody ever sees half of it.

    Args:
        path: the file; its folder is made.
        write: writes the content to the path it is given. Where it fails, nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


def there(wanted: Path) -> str:
    """What there is where a file or folder was looked for, as an error says it, with the closest match."""
    place = next(parent for parent in wanted.absolute().parents if parent.is_dir())
    names = (path.name for path in place.iterdir() if not path.name.startswith("."))
    return f"in {place} {found(wanted.name, names)}"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process works in the folder, which is made; where it cannot be locked, go on.

    One thread may enter it again. The lock is the file `.lock`, which stays.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / LOCK, is_singleton=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _log.info("waiting for another process that prepares data in %s", folder)
            lock.acquire()
    except OSError as error:  # a folder that can only be read; files are still written whole
        _log.warning("%s cannot be locked: %s", folder, error)
        lock = None
    try:
        yield
    finally:
        if lock:
            lock.release()


@contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder for what is there for a while, in a folder that this process is alone in.

    It goes at the end, and those of the same name that killed processes left go first.
    """
    for left in folder.glob(f".{name}.*.scratch"):
        shutil.rmtree(left, ignore_errors=True)
    place = folder if os.access(folder, os.W_OK) else None
    with tempfile.TemporaryDirectory(".scratch", f".{name}.", place) as path:
        yield Path(path)
