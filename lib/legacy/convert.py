"""Results of the described original, imported as run folders.

A legacy folder holds `args.json` and `performances.pkl`, and nothing in it is trusted. A run here has one estimator of
CND, so that a legacy folder becomes a run folder for each of its estimators. What the files do not tell is told in the
`run.log` of each, with what was left out; there are no weights.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.catalogue import CRITERIA
from lib.checks import ParameterError
from lib.cnd import aggregate
from lib.legacy import results as legacy_results
from lib.legacy.arguments import ARGS as LEGACY_ARGS
from lib.legacy.arguments import Description, describe
from lib.legacy.results import RESULTS, Results
from lib.parameters import ROOT
from lib.runs.folder import ARGS, DIVERGENCE, IMPORTED, LOG, PERFORMANCES

_PLACES = ("data_folder", "runs_folder")


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
    """What was imported, and why what was not, by legacy folder."""

    runs: list[Imported]
    failures: dict[Path, str]


def convert(folder: Path | str, runs_folder: Path | str = "runs") -> Outcome:
    """Import every legacy folder at or below a folder; one that cannot be imported does not keep others from it.

    A run that is there already is left as it is, so that importing twice does no harm.

    Args:
        folder: where to look; relative paths start at the working folder.
        runs_folder: where run folders are written; relative paths start at the project root.

    Raises ParameterError where there is no legacy folder.
    """
    found = _legacy_folders(Path(folder))
    if not found:
        raise ParameterError(
            f"folder={str(folder)!r}: must be a folder with {LEGACY_ARGS} and {RESULTS}, or one that holds such"
        )
    outcome = Outcome([], {})
    for one in found:
        try:
            outcome.runs.extend(convert_one(one, runs_folder))
        except (ParameterError, OSError) as error:
            outcome.failures[one] = str(error)
    return outcome


def _legacy_folders(folder: Path) -> list[Path]:
    """Those with results of the original, or with arguments and no results at all, which tells of a lost run."""
    return sorted(
        Path(path)
        for path, _, files in os.walk(folder)
        if RESULTS in files or (LEGACY_ARGS in files and PERFORMANCES not in files)
    )


def convert_one(folder: Path | str, runs_folder: Path | str = "runs") -> list[Imported]:
    """Import one legacy folder; all of its runs or none.

    Args:
        folder: holds `args.json` and `performances.pkl`.
        runs_folder: as for `convert`.

    Raises:
        ParameterError: for files that are damaged, do not fit each other, or ask for code; it names file and field.
        FileExistsError: where a run folder of that name holds another run.
        OSError: for files that cannot be read or written.
    """
    source, root = Path(folder), ROOT / runs_folder
    description = describe(source)
    results = legacy_results.read(source, description)
    estimators, unknown = _estimators(description, results)
    left_out = tuple(map(_printable, (*description.left_out, *results.left_out, *unknown)))
    notes = (*description.notes, *results.notes)
    root.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed, so that a run folder is there as a whole or not at all.
    with tempfile.TemporaryDirectory(prefix=".import-", dir=root) as scratch:
        made = []
        for position, estimator in estimators:
            about = _about(description, results, estimator, str(runs_folder), source)
            target = root / about["name"]
            part = Path(scratch) / target.name
            _write(part, about, results, position, [f"left out: {text}" for text in left_out] + list(notes))
            made.append((part, target))
        new = [_is_new(part, target) for part, target in made]
        for (part, target), wanted in zip(made, new, strict=True):
            if wanted:
                part.rename(target)
    return [Imported(target, source, is_new, left_out, notes) for (_, target), is_new in zip(made, new, strict=True)]


def _estimators(description: Description, results: Results) -> tuple[list[tuple[int | None, str | None]], list[str]]:
    """Position and name of those that become a run, (None, None) for a run without CND; what is left out, in words."""
    if results.divergence is None:
        return [(None, None)], []
    found, left_out = [], []
    for position, (ours, name) in enumerate(description.estimators):
        if ours is None:
            left_out.append(f"CND by {name}, an estimator that is not known here")
        elif np.isnan(results.divergence[position]).all():
            left_out.append(f"CND by {name}, which has no values")
        else:
            found.append((position, ours))
    return found or [(None, None)], left_out


def _about(
    description: Description, results: Results, estimator: str | None, runs_folder: str, source: Path
) -> dict[str, Any]:
    """The content of `args.json`."""
    signals = {*results.signals, *(["cnd"] if estimator else [])}
    parameters = description.parameters | {
        "runs_folder": runs_folder,
        "criteria": [name for name in CRITERIA if name in signals],
        "cnd_stored_layers": ["all"] if estimator else [],
    }
    if estimator:
        parameters["cnd_estimator"] = estimator
    content = json.dumps([description.given, estimator], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    rate = f"{parameters['noise_rate']:g}" if parameters["noise_rate"] else ""
    network = re.sub(r"\W+", "_", parameters["network"])
    stem = f"{parameters['dataset']}-{parameters['noise']}{rate}-{network}-seed{parameters['seed']}"
    versions = dict.fromkeys(("python", "torch", "numpy", "commit", "device"))
    return {
        "name": f"{stem}-{digest}",
        "environment": {**versions, IMPORTED: str(source.resolve())},
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


def _write(folder: Path, about: dict[str, Any], results: Results, position: int | None, remarks: Iterable[str]) -> None:
    folder.mkdir()
    epochs = about["parameters"]["epochs"]
    columns = dict(results.performance) | {"corrupted_accuracy_true": np.full(epochs, np.nan)}
    signals = dict(results.signals)
    if position is not None:
        divergence = results.divergence[position]
        np.save(folder / DIVERGENCE, divergence)
        last, quantile = list(about["layers"].values())[-1], about["parameters"]["cnd_quantile"]
        signals["cnd"] = np.array([_aggregated(row[-last:], quantile) for row in divergence])
    columns |= {name: signals[name] for name in about["parameters"]["criteria"]}
    rows = np.column_stack(list(columns.values())).tolist()
    lines = [",".join(["record", "epoch", *columns])]
    lines += [",".join(map(repr, [record, float(record), *row])) for record, row in enumerate(rows, 1)]
    (folder / PERFORMANCES).write_text("\n".join(lines) + "\n")
    imported = f"imported {epochs} records from {about['environment'][IMPORTED]}"
    (folder / LOG).write_text("".join(f"INFO {line}\n" for line in (imported, *remarks)))
    (folder / ARGS).write_text(json.dumps(about, indent=2) + "\n")


def _printable(text: str) -> str:
    """A text with names from the files in it, without anything that a terminal would obey."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _aggregated(bits: np.ndarray, quantile: float) -> float:
    return float("nan") if np.isnan(bits).any() else aggregate(bits, quantile)


def _is_new(part: Path, target: Path) -> bool:
    """Whether nothing is at the target yet; False where the same run is. Raises FileExistsError for another one."""
    if not target.exists():
        return True
    if _content(part) != _content(target):
        raise FileExistsError(f"{target}: holds another run; remove it, or name another runs folder")
    return False


def _content(folder: Path) -> list | None:
    """What makes the run that a folder holds, wherever it lies or was imported from; None where it cannot be read."""
    try:
        about = json.loads((folder / ARGS).read_text())
        parameters = {name: value for name, value in about["parameters"].items() if name not in _PLACES}
        files = [path.read_bytes() if path.exists() else None for path in (folder / PERFORMANCES, folder / DIVERGENCE)]
        return [about["name"], parameters, about["data"], about["layers"], *files]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
