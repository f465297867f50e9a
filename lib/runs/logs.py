"""Archived runs: the raw records of many, compact, a Parquet file for each dataset and network.

A row a record: `run`; `args`, all that its `args.json` held; every column of its `performances.csv`; and `divergence`,
CND in bits of all neurons, in half precision, where it was recorded. What one run has and another has not is null.
"""

import functools
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from lib.checks import DataError

RUN, ARGS_COLUMN, DIVERGENCE_COLUMN = "run", "args", "divergence"


class Archived(NamedTuple):
    """A run in an archive: what its `args.json` held, its records, and its divergences, shape (records, neurons)."""

    description: dict[str, Any]
    records: pa.Table
    divergence: np.ndarray | None


def read(folder: Path) -> dict[str, Archived]:
    """The archived runs of a folder by name; none where it holds no archive. Raises DataError for a damaged file."""
    found: dict[str, Archived] = {}
    for file in sorted(folder.glob("*.parquet")):
        found |= read_file(file)
    return found


def read_file(file: Path) -> dict[str, Archived]:
    """The runs of one archive by name."""
    return _of_file(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _of_file(file: Path, _changed: int) -> dict[str, Archived]:
    try:
        table = parquet.read_table(file).combine_chunks()
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: must be an archive of runs, is damaged ({' '.join(str(error).split())})") from error
    if not {RUN, ARGS_COLUMN, DIVERGENCE_COLUMN} <= set(table.column_names):
        return {}  # somebody's own table
    names = table[RUN].to_numpy(zero_copy_only=False)
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1), len(names)]
    return {names[start]: _run(table.slice(start, end - start)) for start, end in itertools.pairwise(starts)}


def _run(rows: pa.Table) -> Archived:
    bits = rows[DIVERGENCE_COLUMN].combine_chunks()
    divergence = None
    if not bits.null_count:
        divergence = bits.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1).astype(np.float32)
    signals = [name for name in rows.column_names if rows[name].null_count < len(rows)]
    kept = [name for name in signals if name not in (RUN, ARGS_COLUMN, DIVERGENCE_COLUMN)]
    return Archived(json.loads(rows[ARGS_COLUMN][0].as_py()), rows.select(kept), divergence)


def write(runs: dict[str, Archived], file: Path) -> None:
    """Write runs into one file, in the order of their names; the same runs give the same bytes."""
    parts = []
    for name, run in sorted(runs.items()):
        count = len(run.records)
        table = run.records.append_column(RUN, pa.array([name] * count, pa.string()))
        table = table.append_column(ARGS_COLUMN, pa.array([json.dumps(run.description)] * count))
        kind = pa.list_(pa.float16())
        bits: pa.Array = pa.nulls(count, kind)
        if run.divergence is not None:
            offsets = np.arange(count + 1, dtype=np.int32) * run.divergence.shape[1]
            bits = pa.ListArray.from_arrays(
                pa.array(offsets), pa.array(run.divergence.astype(np.float16).ravel()), kind
            )
        parts.append(table.append_column(DIVERGENCE_COLUMN, bits))
    whole = pa.concat_tables(parts, promote_options="default").combine_chunks()
    # Signs and exponents of divergences repeat: with a stream for each byte the file is a fifth smaller.
    split = {f"{DIVERGENCE_COLUMN}.list.element": "BYTE_STREAM_SPLIT"}
    texts = [RUN, ARGS_COLUMN]
    parquet.write_table(
        whole, file, compression="zstd", compression_level=19, use_dictionary=texts, column_encoding=split
    )
