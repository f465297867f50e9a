"""Files written whole or not at all, and digests of what tells one thing from another."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it when it is on disk, so that nobody ever sees half of it.

    Args:
        path: of the file.
        write: writes all of it to the path it is given. What it raises is raised, and nothing is left then.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def digest(*parts: object, length: int = 8) -> str:
    """Hexadecimal digits of SHA-256 over bytes, or the text of what is no bytes, one part after the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes | bytearray | memoryview) else f"{part}\0".encode())
    return found.hexdigest()[:length]
