"""The state of a run on disk, so that it can go on where it was.

A checkpoint is written under another name and renamed when it is whole; the one before it is kept, and used where the
last one is damaged, as a digest at its end tells.
"""

import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from lib.files import write_whole
from lib.runs.folder import CHECKPOINT, PREVIOUS

_DIGEST_BYTES = hashlib.sha256().digest_size
_log = logging.getLogger("lib")


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers, texts, and lists and dictionaries of such. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content, last = buffer.getbuffer(), folder / CHECKPOINT

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        if last.exists():
            last.replace(folder / PREVIOUS)

    write_whole(last, write)


def load(folder: Path, device: str = "cpu") -> dict[str, Any] | None:
    """The state of the last whole checkpoint of a folder, its tensors on a device; None where there is none."""
    for name in (CHECKPOINT, PREVIOUS):
        try:
            content = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            _log.warning("%s is damaged", name)
            continue
        try:
            return torch.load(io.BytesIO(body), map_location=device, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError) as error:  # of another version
            _log.warning("%s cannot be read: %s", name, str(error).partition("\n")[0])
    return None


def remove(folder: Path) -> None:
    """Remove the checkpoints of a folder."""
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
