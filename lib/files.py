"""Files that are whole or not there, and short digests."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


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
