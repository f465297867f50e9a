"""Results of the described original, imported as run folders.

A legacy folder holds `args.json` and `performances.pkl`, and nothing in it is trusted. A run here has one estimator of
CND, so that a legacy folder becomes a run folder for each of its estimators. What the files do not tell is told in the
`run.log` of each, with what was left out; there are no weights.
"""

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.catalogue import CRITERIA
from lib.checks import ParameterError
from lib.cnd import aggregate
from lib.legacy.arguments import Description, UnknownDataset, describe
from lib.legacy.results import COLUMNS, read
from lib.parameters import ROOT, expanded
from lib.runs.folder import ARGS, DIVERGENCE, IMPORTED, LOG, PERFORMANCES

RESULTS = "performances.pkl"


class Imported(NamedTuple):
    """An imported run.

    Attributes:
        folder: the run folder.
        source: the legacy folder.
        new: whether it was not there before.
        left_out: what of the legacy folder is not in it, in words.
        notes: how the rest was understood, in words.
    """

    folder: Path
    source: Path
    new: bool
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


class Outcome(NamedTuple):
    """What was imported; by legacy folder why what was left out, on datasets unknown here, and why what failed."""

    runs: list[Imported]
    left_out: dict[Path, str]
    failures: dict[Path, str]


def convert(folder: Path | str, runs_folder: Path | str = "runs") -> Outcome:
    """Import every legacy folder at or below a folder; one that cannot be imported does not keep others from it.

    A run that is there already is left as it is, so that importing twice does no harm.

    Args:
        folder: where to look; relative paths start at the working folder.
        runs_folder: where run folders are written; relative paths start at the project root.

    Raises ParameterError where there is no legacy folder.
    """
    outcome = Outcome([], {}, {})
    # With results of the original, or with arguments and no results at all, which tells of a lost run.
    found = [
        Path(path)
        for path, _, files in os.walk(folder)
        if RESULTS in files or (ARGS in files and PERFORMANCES not in files)
    ]
    if not found:
        raise ParameterError(
            f"folder={str(folder)!r}: must be a folder with {ARGS} and {RESULTS}, or one that holds such"
        )
    for one in sorted(found):
        try:
            outcome.runs.extend(convert_one(one, runs_folder))
        except UnknownDataset as error:
            outcome.left_out[one] = str(error)
        except (ParameterError, OSError) as error:
            outcome.failures[one] = str(error)
    return outcome


def convert_one(folder: Path | str, runs_folder: Path | str = "runs") -> list[Imported]:
    """Import one legacy folder; all of its runs or none.

    Args:
        folder: holds `args.json` and `performances.pkl`.
        runs_folder: as for `convert`.

    Raises:
        ParameterError: for files that are damaged, do not fit each other, or ask for code; it names file and field.
        UnknownDataset: for a dataset that is not known here.
        FileExistsError: where a run folder of that name holds another run.
        OSError: for files that cannot be read or written.
    """
    source, root = Path(folder), ROOT / expanded("runs_folder", str(runs_folder))
    with _named(source / ARGS) as path:
        description = describe(path)
    with _named(source / RESULTS) as path:
        results = read(path, description)
    left_out = tuple(map(_printable, description.left_out + results.left_out))
    notes = tuple(description.notes + results.notes)
    log = [f"imported {description.parameters['epochs']} records from {source.resolve()}"]
    log += [*(f"left out: {text}" for text in left_out), *notes]
    root.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed, so that a run folder is there as a whole or not at all.
    with tempfile.TemporaryDirectory(prefix=".import-", dir=root) as scratch:
        runs = []
        for estimator, bits in results.divergences.items() or [("", None)]:
            about = _about(description, {*results.series, *(["cnd"] if estimator else [])}, estimator)
            about["parameters"]["runs_folder"] = str(runs_folder)
            about["environment"][IMPORTED] = str(source.resolve())
            _write(Path(scratch) / about["name"], about, results.series, bits, log)
            target = root / about["name"]
            runs.append(Imported(target, source, _is_new(Path(scratch) / target.name, target), left_out, notes))
        for run in runs:
            if run.new:
                (Path(scratch) / run.folder.name).rename(run.folder)
    return runs


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """A file that errors name."""
    try:
        yield path
    except ParameterError as error:
        raise type(error)(f"{path}: {error}") from error


def _about(description: Description, signals: set[str], estimator: str) -> dict[str, Any]:
    """The content of `args.json`; without an estimator of CND, of a run without CND."""
    parameters = description.parameters | {
        "criteria": [name for name in CRITERIA if name in signals],
        "cnd_stored_layers": ["all"] if estimator else [],
    }
    if estimator:
        parameters["cnd_estimator"] = estimator
    digest = hashlib.sha256(json.dumps([description.given, estimator or None], sort_keys=True).encode()).hexdigest()[:8]
    rate = f"{parameters['noise_rate']:g}" if parameters["noise_rate"] else ""
    network = re.sub(r"\W+", "_", parameters["network"])
    return {
        "name": f"{parameters['dataset']}-{parameters['noise']}{rate}-{network}-seed{parameters['seed']}-{digest}",
        "environment": dict.fromkeys(("python", "torch", "numpy", "commit", "device")),
        "parameters": parameters,
        "data": {
            "source": f"{parameters['dataset']}, imported from results of the described original",
            "classes": [str(label) for label in range(description.num_classes)],
            "train_samples": description.train_samples,
            "test_samples": None,
            "realised_noise_rate": description.realised_noise_rate,
        },
        "layers": description.layers if estimator else {},
        "own": {},
    }


def _write(
    folder: Path, about: dict[str, Any], series: dict[str, np.ndarray], bits: np.ndarray | None, log: list[str]
) -> None:
    """Write a run folder; bits, float32, shape (epochs, neurons of all layers), are its CND."""
    folder.mkdir()
    epochs, signals = range(1, about["parameters"]["epochs"] + 1), series
    if bits is not None:
        np.save(folder / DIVERGENCE, bits)
        last, quantile = list(about["layers"].values())[-1], about["parameters"]["cnd_quantile"]
        cnd = [math.nan if np.isnan(row).any() else aggregate(row, quantile) for row in bits[:, -last:]]
        signals = series | {"cnd": np.array(cnd)}
    columns = {name: signals.get(name, math.nan) for name in (*COLUMNS, *about["parameters"]["criteria"])}
    table = pd.DataFrame({"record": epochs, "epoch": map(float, epochs), **columns})
    table.to_csv(folder / PERFORMANCES, index=False, na_rep="nan")
    (folder / LOG).write_text("".join(f"INFO {line}\n" for line in log))
    (folder / ARGS).write_text(json.dumps(about, indent=2) + "\n")


def _printable(text: str) -> str:
    """A text with names from the files in it, without anything that a terminal would obey."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _is_new(made: Path, target: Path) -> bool:
    """Whether nothing is at the target yet; False where the same run is. Raises FileExistsError for another one."""
    if target.exists() and _records(made) != _records(target):
        raise FileExistsError(f"{target}: holds another run; remove it, or name another runs folder")
    return not target.exists()


def _records(folder: Path) -> list[bytes | None]:
    files = (folder / PERFORMANCES, folder / DIVERGENCE)
    return [(folder / ARGS).exists(), *(path.read_bytes() if path.exists() else None for path in files)]
