"""Prepared array files: made once, whole or not at all, and mapped straight into memory ever after."""

import fcntl
import logging
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lib.checks import ParameterError

_log = logging.getLogger("lib")
_SMALL = 1 << 20  # bytes up to which reading costs nothing
_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name


def prepared(file: Path, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from a prepared file; where it is not there they are computed, and stored for the next run.

    The file is written whole or not at all, by one process while others wait for it; a folder that may not be
    written costs time, not the run.

    Args:
        file: path of the `.npz` file.
        compute: gives the arrays by name.

    Raises:
        ParameterError: for a prepared file that is damaged.
    """
    if file.exists():
        return read(file)
    with _alone_in(file.parent):
        if file.exists():  # another process made it meanwhile
            return read(file)
        arrays = compute()
        part = file.with_name(f"{file.stem}.{os.getpid()}.part.npz")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(part, **arrays)
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            _log.warning("%s not written, it will be computed again: %s", file, error)
            return arrays
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return read(file)


def read(
    file: Path, parameter: str = "data_folder", fault: str = "is damaged; delete it, it will be made again"
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name; large ones that are stored uncompressed are mapped, not read.

    A mapped array may be written to; the file does not change.

    Args:
        file: path of the file.
        parameter, fault: what the error names and says.

    Raises:
        ParameterError: for a file that is damaged, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(file) as archive, np.load(file) as stored, file.open("rb") as raw:
            arrays = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                mapped = _mapped(file, raw, member) if member.filename.endswith(".npy") else None
                arrays[name] = stored[name] if mapped is None else mapped
            return arrays
    except (ValueError, EOFError, zipfile.BadZipFile, struct.error) as error:
        why = " ".join(str(error).split())
        raise ParameterError(f"{parameter}: {file} {fault} ({why})") from error


def _mapped(file: Path, raw, member: zipfile.ZipInfo) -> np.ndarray | None:
    """The array of an uncompressed member, mapped copy-on-write; None where it is better read."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size <= _SMALL:
        return None
    raw.seek(member.header_offset)
    name_length, extra_length = struct.unpack("<26xHH", raw.read(_LOCAL_HEADER))
    raw.seek(member.header_offset + _LOCAL_HEADER + name_length + extra_length)
    version = np.lib.format.read_magic(raw)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(raw)
    if dtype.hasobject or fortran or raw.tell() % dtype.alignment:
        return None
    return np.memmap(file, dtype, "c", offset=raw.tell(), shape=shape)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process prepares data in the folder; where it cannot be locked, go on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems lock no folders; files are still written whole
            _log.warning("%s cannot be locked: %s", folder, error)
        yield
    finally:
        os.close(handle)
