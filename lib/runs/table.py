"""Many run folders as one tidy table."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather

from lib.files import digest, write_whole
from lib.parameters import Experiment, located
from lib.runs import logs
from lib.runs.folder import ARGS, DIVERGENCE, LOG, PERFORMANCES, WEIGHTS, Contents, constant, read

_OF_A_RUN = (ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS)
_STAMPED = (ARGS, PERFORMANCES)
_CACHE = ".runs.arrow"
_CACHED_FROM = 100  # runs; fewer are read faster than anybody notices
_VERSION = digest(" ".join(Experiment.__dataclass_fields__))


def load(folder: Path | str) -> pd.DataFrame:
    """All finished runs below a folder, and those archived in it, as one tidy table.

    What was read is kept in the folder, where it can be written, so that only runs that changed are read again.

    Args:
        folder: holds one run folder a run, such as `runs`, or archives, as `logs` does; relative paths start at the
            project root.

    Returns:
        A row a record of each run: `run` (its name), every parameter, `source` of its data, `record`, `epoch` and
        the signals. Folders that are broken or unfinished are skipped with a warning each, and listed with the
        reason in `.attrs["skipped"]`. Without any run the table is empty.
    """
    root = located("folder", folder)
    cached, found, skipped = _read_cache(root), {}, {}
    for name, stamp in _stamps(root).items():
        if name in cached and cached[name][0] == stamp:
            found[name] = cached[name]
            continue
        contents, reason = read(root / name)
        if contents and reason is None:
            found[name] = stamp, contents
        else:
            skipped[name] = reason
            warnings.warn(f"run {name} skipped: {reason}", stacklevel=2)
    archived = logs.read(root)
    found |= {name: ([], Contents(constant(name, run.description), run.records)) for name, run in archived.items()}
    if not found:
        table = pd.DataFrame(columns=["run", "record", "epoch"])
    else:
        records = pa.concat_tables([run.records for _, run in found.values()], promote_options="default")
        if not archived and len(found) >= _CACHED_FROM and list(found.values()) != list(cached.values()):
            _write_cache(root, found, records)
        table = _table([run for _, run in found.values()], records)
    table.attrs["skipped"] = skipped
    return table


def _stamps(root: Path) -> dict[str, list[Any]]:
    """Of each folder that holds something of a run what tells whether it has changed, by name."""
    stamps = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name) if root.is_dir() else ():
        if not entry.is_dir():
            continue
        with os.scandir(entry) as inside:
            files = {file.name: file for file in inside if file.name in _OF_A_RUN}
        if files:
            states = [files[name].stat() for name in _STAMPED if name in files]
            sizes_and_times = [[state.st_size, state.st_mtime_ns] for state in states]
            stamps[entry.name] = [_VERSION, WEIGHTS in files, sizes_and_times]
    return stamps


def _table(runs: list[Contents], records: pa.Table) -> pd.DataFrame:
    """Records with the constants of their run, in types small enough for a long table: texts as categories."""
    about, small = pd.DataFrame([run.constant for run in runs]), np.iinfo(np.int32)
    for name, column in about.items():
        if not pd.api.types.is_numeric_dtype(column):
            about[name] = column.astype("category")
        elif pd.api.types.is_integer_dtype(column) and column.between(small.min, small.max).all():
            about[name] = column.astype(np.int32)
    rows = np.repeat(np.arange(len(runs)), [len(run.records) for run in runs])
    repeated = about.take(rows).reset_index(drop=True)
    return pd.concat([repeated, records.to_pandas().astype({"record": np.int32})], axis=1)


def _read_cache(root: Path) -> dict[str, tuple[list[Any], Contents]]:
    """What `_write_cache` kept; nothing where it cannot be read."""
    try:
        records = feather.read_table(root / _CACHE)
        found, start = {}, 0
        for stamp, constant, count in json.loads(records.schema.metadata[b"runs"]):
            found[constant["run"]] = stamp, Contents(constant, records.slice(start, count))
            start += count
        return found
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return {}


def _write_cache(root: Path, found: dict[str, tuple[list[Any], Contents]], records: pa.Table) -> None:
    """Keep what was read: the records of all runs in one file, stamps and constants in its metadata."""
    runs = [(stamp, run.constant, len(run.records)) for stamp, run in found.values()]
    kept = records.combine_chunks().replace_schema_metadata({"runs": json.dumps(runs)})
    with suppress(OSError):  # a folder that can only be read is read each time
        for left_by_a_killed_process in root.glob(f"{_CACHE}.*.part"):
            left_by_a_killed_process.unlink()
        write_whole(root / _CACHE, lambda part: feather.write_feather(kept, part, compression="uncompressed"))
