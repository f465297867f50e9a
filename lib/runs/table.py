"""Many run folders as one tidy table."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data import prepared
from lib.parameters import ROOT, Experiment
from lib.runs.folder import ARGS, DIVERGENCE, LOG, PERFORMANCES, WEIGHTS, Contents, read, records_of_many

_OF_A_RUN = (ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS)
_STAMPED = (ARGS, PERFORMANCES)
_CACHE = ".runs.npz"
_CACHED_FROM = 100  # runs; fewer are read faster than anybody notices
_TOGETHER = 200  # runs whose records are parsed together


def load(folder: Path | str) -> pd.DataFrame:
    """All finished runs below a folder as one tidy table.

    What was read is kept in the folder, where it can be written, so that only runs that changed are read again.

    Args:
        folder: holds one run folder a run, such as `runs`; relative paths start at the project root.

    Returns:
        A row a record of each run: `run` (its name), every parameter, `source` of its data, `record`, `epoch` and
        the signals. Folders that are broken or unfinished are skipped with a warning each, and listed with the
        reason in `.attrs["skipped"]`. Without any run the table is empty.
    """
    root = ROOT / folder
    cached, stamps = _read_cache(root), _stamps(root)
    changed = [name for name, stamp in stamps.items() if name not in cached or cached[name][0] != stamp]
    again, found, skipped = _read_again(root, changed), {}, {}
    for name, stamp in stamps.items():
        contents, reason = again[name] if name in again else (cached[name][1], None)
        if reason is None:
            found[name] = stamp, contents
        else:
            skipped[name] = reason
            warnings.warn(f"run {name} skipped: {reason}", stacklevel=2)
    if len(found) >= _CACHED_FROM and (found.keys() & again.keys() or len(found) < len(cached)):
        _write_cache(root, found)
    table = _table([contents for _, contents in found.values()])
    table.attrs["skipped"] = skipped
    return table


def _stamps(root: Path) -> dict[str, list]:
    """Of each folder that holds something of a run what tells whether it has changed, by name."""
    stamps = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name) if root.is_dir() else ():
        if not entry.is_dir():
            continue
        with os.scandir(entry) as inside:
            files = {file.name: file for file in inside if file.name in _OF_A_RUN}
        if files:
            states = (files[name].stat() if name in files else None for name in _STAMPED)
            stamps[entry.name] = [WEIGHTS in files, *(state and [state.st_size, state.st_mtime_ns] for state in states)]
    return stamps


def _read_again(root: Path, names: list[str]) -> dict[str, tuple[Contents | None, str | None]]:
    """What `read` gives of runs, by name."""
    again = {}
    for start in range(0, len(names), _TOGETHER):
        folders = [root / name for name in names[start : start + _TOGETHER]]
        recorded = records_of_many(folders)
        again |= {folder.name: read(folder, recorded.get(folder)) for folder in folders}
    return again


def _table(runs: list[Contents]) -> pd.DataFrame:
    if not runs:
        return pd.DataFrame(columns=["run", "record", "epoch"])
    columns = list(dict.fromkeys(column for run in runs for column in run.columns))
    values = np.empty((sum(len(run.values) for run in runs), len(columns)))
    places: dict[tuple[str, ...], list[int]] = {}
    start = 0
    for run in runs:
        key = tuple(run.columns)
        if key not in places:
            places[key] = [columns.index(column) for column in run.columns]
        part = values[start : start + len(run.values)]
        if len(key) < len(columns):
            part[:] = np.nan
        part[:, places[key]] = run.values
        start += len(run.values)
    constant, counts = pd.DataFrame([run.constant for run in runs]), [len(run.values) for run in runs]
    table = {name: _repeated(column, counts) for name, column in constant.items()}
    table |= {name: values[:, place] for place, name in enumerate(columns)}
    table["record"] = table["record"].astype(np.int32)
    return pd.DataFrame(table, copy=False)


def _repeated(column: pd.Series, counts: list[int]) -> np.ndarray | pd.Categorical:
    """Each value as often as its run has records, in types small enough for a long table: texts as categories."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy()
        small = pd.api.types.is_integer_dtype(column) and (np.abs(values) <= np.iinfo(np.int32).max).all()
        return np.repeat(values.astype(np.int32) if small else values, counts)
    codes, texts = pd.factorize(column, sort=True)
    smallest = codes.astype(np.min_scalar_type(-len(texts)))
    return pd.Categorical.from_codes(np.repeat(smallest, counts), texts)


def _read_cache(root: Path) -> dict[str, tuple[list, Contents]]:
    """What `_write_cache` kept; nothing where it cannot be read or another version wrote it."""
    try:
        stored = prepared.read(root / _CACHE)
        # A mapped array is cut into parts ten times as slowly as a plain view of it.
        index, values = json.loads(stored["index"].tobytes()), np.asarray(stored["values"])
        if index["parameters"] != list(Experiment.__dataclass_fields__):
            return {}
        found, start = {}, 0
        for name, stamp, kind, differing, records in index["runs"]:
            alike, columns = index["kinds"][kind]
            end = start + records * len(columns)
            contents = Contents(alike | differing, columns, values[start:end].reshape(records, len(columns)))
            found[name], start = (stamp, contents), end
        return found
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


def _write_cache(root: Path, found: dict[str, tuple[list, Contents]]) -> None:
    """Keep what was read; of runs of a kind, with the same parameters and columns, only where they differ."""
    kinds: dict[tuple, tuple[int, dict[str, Any]]] = {}
    runs = []
    for name, (stamp, run) in found.items():
        kind, alike = kinds.setdefault((tuple(run.constant), tuple(run.columns)), (len(kinds), run.constant))
        differing = {key: value for key, value in run.constant.items() if value != alike[key]}
        runs.append((name, stamp, kind, differing, len(run.values)))
    alike_and_columns = [(alike, columns) for (_, columns), (_, alike) in kinds.items()]
    parameters = list(Experiment.__dataclass_fields__)
    index = json.dumps({"parameters": parameters, "kinds": alike_and_columns, "runs": runs}).encode()
    values = np.concatenate([run.values.ravel() for _, run in found.values()])
    part = root / f"{_CACHE}.{os.getpid()}.part"
    try:
        prepared.write(part, {"index": np.frombuffer(index, dtype=np.uint8), "values": values})
        part.replace(root / _CACHE)
    except OSError:  # a folder that can only be read is read each time
        part.unlink(missing_ok=True)
