"""Many run folders as one tidy table."""

import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.parameters import ROOT, Experiment
from lib.run_folder import ARGS, DIVERGENCE, LOG, PERFORMANCES, WEIGHTS, Contents, read

_OF_A_RUN = (ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS)
_STAMPED = (ARGS, PERFORMANCES)
_CACHE = ".runs.npz"
_CACHED_FROM = 100  # runs; fewer are read faster than anybody notices


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
    cached, found, skipped, changed = _read_cache(root), {}, {}, False
    for name, files in _run_folders(root):
        stamp = [WEIGHTS in files, *(files.get(file) for file in _STAMPED)]
        if name in cached and cached[name][0] == stamp:
            found[name] = cached[name]
            continue
        contents, reason = read(root / name)
        if reason is None:
            found[name], changed = (stamp, contents), True
        else:
            skipped[name] = reason
            warnings.warn(f"run {name} skipped: {reason}", stacklevel=2)
    if len(found) >= _CACHED_FROM and (changed or len(found) < len(cached)):
        _write_cache(root, found)
    table = _table([contents for _, contents in found.values()])
    table.attrs["skipped"] = skipped
    return table


def _run_folders(root: Path) -> list[tuple[str, dict[str, list[int]]]]:
    """Each folder that holds something of a run, and size and time of its files, by name."""
    folders = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name) if root.is_dir() else ():
        if not entry.is_dir():
            continue
        with os.scandir(entry) as inside:
            found = {file.name: file for file in inside if file.name in _OF_A_RUN}
        if found:
            files: dict[str, list[int]] = {name: [] for name in found}
            for name in found.keys() & set(_STAMPED):
                state = found[name].stat()
                files[name] = [state.st_size, state.st_mtime_ns]
            folders.append((entry.name, files))
    return folders


def _table(runs: list[Contents]) -> pd.DataFrame:
    if not runs:
        return pd.DataFrame(columns=["run", "record", "epoch"])
    columns = list(dict.fromkeys(column for run in runs for column in run.columns))
    values = np.full((sum(len(run.values) for run in runs), len(columns)), np.nan)
    places: dict[tuple[str, ...], list[int]] = {}
    start = 0
    for run in runs:
        key = tuple(run.columns)
        if key not in places:
            places[key] = [columns.index(column) for column in run.columns]
        values[start : start + len(run.values), places[key]] = run.values
        start += len(run.values)
    constant, counts = pd.DataFrame([run.constant for run in runs]), [len(run.values) for run in runs]
    table = {name: _repeated(column, counts) for name, column in constant.items()}
    table |= {name: values[:, place] for place, name in enumerate(columns)}
    table["record"] = table["record"].astype(int)
    return pd.DataFrame(table, copy=False)


def _repeated(column: pd.Series, counts: list[int]) -> np.ndarray | pd.Categorical:
    """Each value as often as its run has records; texts as categories, which a long table holds and copies faster."""
    if pd.api.types.is_numeric_dtype(column):
        return np.repeat(column.to_numpy(), counts)
    codes, texts = pd.factorize(column, sort=True)
    smallest = codes.astype(np.min_scalar_type(-len(texts)))
    return pd.Categorical.from_codes(np.repeat(smallest, counts), texts)


def _read_cache(root: Path) -> dict[str, tuple[list, Contents]]:
    """What `_write_cache` kept; nothing where it cannot be read or another version wrote it."""
    try:
        with np.load(root / _CACHE, allow_pickle=False) as stored:
            index, values = json.loads(stored["index"].tobytes()), stored["values"]
        if index["parameters"] != list(Experiment.__dataclass_fields__):
            return {}
        found, start = {}, 0
        for name, stamp, constant, columns, records in index["runs"]:
            end = start + records * len(columns)
            found[name] = (stamp, Contents(constant, columns, values[start:end].reshape(records, len(columns))))
            start = end
        return found
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return {}


def _write_cache(root: Path, found: dict[str, tuple[list, Contents]]) -> None:
    runs = [(name, stamp, run.constant, run.columns, len(run.values)) for name, (stamp, run) in found.items()]
    index: dict[str, Any] = {"parameters": list(Experiment.__dataclass_fields__), "runs": runs}
    values = np.concatenate([run.values.ravel() for _, run in found.values()])
    part = root / f"{_CACHE}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            np.savez(file, index=np.frombuffer(json.dumps(index).encode(), dtype=np.uint8), values=values)
        part.replace(root / _CACHE)
    except OSError:  # a folder that can only be read is read each time
        part.unlink(missing_ok=True)
