"""Prepared array files: made once, whole or not at all, and mapped straight into memory ever after."""

import logging
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.checks import ParameterError
from lib.files import alone_in, write_whole

_log = logging.getLogger("lib")
_SMALL = 1 << 20  # bytes up to which reading costs nothing
_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name
_ZIP64 = 20  # bytes that sizes of 64 bits add to it
_ALIGNMENT = 64


def prepared(file: Path, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name from a prepared `.npz` file; where it is not there they are computed, and stored for the next run.

    The file is written whole or not at all, by one process while others wait for it; a folder that may not be
    written costs time, not the run. Raises ParameterError for a prepared file that is damaged.
    """
    if not file.exists():
        with alone_in(file.parent):
            if not file.exists():  # another process may have made it meanwhile
                for left_by_a_killed_process in file.parent.glob(f"{file.name}.*.part"):
                    with suppress(OSError):
                        left_by_a_killed_process.unlink()
                arrays = compute()
                try:
                    write_whole(file, lambda part: write(part, arrays))
                except OSError as error:
                    _log.warning("%s not written, it will be computed again: %s", file, error)
                    return arrays
    return read(file)


def write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an uncompressed `.npz` file whose arrays begin at multiples of 64 bytes, so that they can be mapped."""
    with file.open("wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            begins = raw.tell() + _LOCAL_HEADER + len(member.filename) + _ZIP64
            filling = _ALIGNMENT - begins % _ALIGNMENT + _ALIGNMENT
            member.extra = struct.pack("<HH", 0xFFFF, filling - 4) + bytes(filling - 4)
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read(
    file: Path, parameter: str = "data_folder", fault: str = "is damaged; delete it, it will be made again"
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name; large ones that are stored uncompressed and aligned are mapped, not read.

    A mapped array may be written to; the file does not change. Raises ParameterError, which names the parameter and
    tells the fault, for a file that is damaged, or holds Python objects.
    """
    name = ""
    try:
        with zipfile.ZipFile(file) as archive, np.load(file) as stored, file.open("rb") as raw:
            arrays = {}
            for name in stored.files:
                mapped = _mapped(raw, archive.getinfo(f"{name}.npy"))
                arrays[name] = stored[name] if mapped is None else mapped
            return arrays
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, struct.error, zlib.error) as error:
        where = f"{name}: " if name else ""
        raise ParameterError(f"{parameter}: {file} {fault} ({where}{' '.join(str(error).split())})") from error


def _mapped(raw: BinaryIO, member: zipfile.ZipInfo) -> np.ndarray | None:
    """The array of an uncompressed member, mapped copy-on-write; None where it is better read."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size <= _SMALL:
        return None
    raw.seek(member.header_offset)
    name_length, extra_length = struct.unpack("<26xHH", raw.read(_LOCAL_HEADER))
    raw.seek(member.header_offset + _LOCAL_HEADER + name_length + extra_length)
    if np.lib.format.read_magic(raw) != (1, 0):
        return None
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(raw)
    if dtype.hasobject or fortran or raw.tell() % dtype.alignment:
        return None
    return np.memmap(raw, dtype, "c", offset=raw.tell(), shape=shape)
