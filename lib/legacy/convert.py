"""Results of the described original, imported as run folders.

A legacy folder holds `args.json` and `performances.pkl`, and nothing in it is trusted. A run here has one estimator of
CND, so that a legacy folder becomes a run folder for each of its estimators. What the files do not tell is told in the
`run.log` of each, with what was left out; there are no weights.
"""

import filecmp
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.catalogue import CRITERIA
from lib.checks import ParameterError
from lib.cnd import aggregate
from lib.files import digest
from lib.legacy import arguments, results
from lib.parameters import located
from lib.runs.folder import ARGS, DIVERGENCE, LOG, PERFORMANCES

RESULTS = "performances.pkl"
_COLUMNS = ["record", "epoch", "train_loss", "train_accuracy", "test_accuracy"]
_COLUMNS += ["corrupted_accuracy_given", "corrupted_accuracy_true"]  # those of every run; the others are criteria


class Imported(NamedTuple):
    """An imported run: its folder, the legacy folder, and whether it was not there before.

    In words, `left_out` tells what of the legacy folder is not in it, and `notes` how the rest was understood.
    """

    folder: Path
    source: Path
    new: bool
    left_out: list[str]
    notes: list[str]


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
    for path, _, files in sorted(os.walk(folder)):
        # With results of the original, or with arguments and no results at all, which tells of a lost run.
        if RESULTS not in files and (ARGS not in files or PERFORMANCES in files):
            continue
        try:
            outcome.runs.extend(convert_one(path, runs_folder))
        except arguments.UnknownDataset as error:
            outcome.left_out[Path(path)] = str(error)
        except (ParameterError, OSError) as error:
            outcome.failures[Path(path)] = str(error)
    if not any(outcome):
        raise ParameterError(
            f"folder={str(folder)!r}: must be a folder with {ARGS} and {RESULTS}, or one that holds such"
        )
    return outcome


def convert_one(folder: Path | str, runs_folder: Path | str = "runs") -> list[Imported]:
    """Import one legacy folder, all of its runs or none, to a runs folder as for `convert`.

    Raises ParameterError, which names file and field, for files that are damaged, do not fit each other, or ask for
    code; UnknownDataset for a dataset that is not known here; FileExistsError where a run folder of that name holds
    another run; OSError for files that cannot be read or written.
    """
    root, path = located("runs_folder", runs_folder), Path(folder) / ARGS
    try:
        told = arguments.read(path)
        path = Path(folder) / RESULTS
        series, divergences = results.read(path, told)
    except ParameterError as error:
        raise type(error)(_printable(f"{path}: {error}")) from error
    left_out = [_printable(text) for text in told.left_out]
    told.about["parameters"]["runs_folder"] = str(runs_folder)
    log = [f"imported {told.about['parameters']['epochs']} records from {path.parent.resolve()}"]
    log += [*(f"left out: {text}" for text in left_out), *told.notes]
    root.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed, so that a run folder is there as a whole or not at all.
    with tempfile.TemporaryDirectory(prefix=".import-", dir=root) as scratch:
        runs = []
        for estimator, bits in divergences.items() or [(None, None)]:
            made = _write(Path(scratch), told, series, estimator, bits)
            (made / LOG).write_text("".join(f"INFO {line}\n" for line in log))
            runs.append(Imported(root / made.name, path.parent, _is_new(made, root / made.name), left_out, told.notes))
        for run in runs:
            if run.new:
                (Path(scratch) / run.folder.name).rename(run.folder)
    return runs


def _write(
    parent: Path, told: arguments.Arguments, series: dict[str, np.ndarray], estimator: str | None, bits: Any
) -> Path:
    """Write the run folder of an estimator of CND, whose divergences are given; of a run without CND where none is."""
    parameters, layers = dict(told.about["parameters"]), told.about["layers"]
    if estimator:
        parameters |= {"cnd_estimator": estimator, "cnd_stored_layers": ["all"]}
        last = bits[:, -list(layers.values())[-1] :]
        cnd = [np.nan if np.isnan(row).any() else aggregate(row, parameters["cnd_quantile"]) for row in last]
        series = series | {"cnd": np.array(cnd)}
    parameters["criteria"] = [name for name in CRITERIA if name in series]
    rate = f"{parameters['noise_rate']:g}" if parameters["noise_rate"] else ""
    network = re.sub(r"\W+", "_", parameters["network"])
    version = digest(json.dumps([told.given, estimator], sort_keys=True))
    name = f"{parameters['dataset']}-{parameters['noise']}{rate}-{network}-seed{parameters['seed']}-{version}"
    about = {"name": name, **told.about, "parameters": parameters, "layers": layers if estimator else {}}
    folder = parent / name
    folder.mkdir()
    (folder / ARGS).write_text(json.dumps(about, indent=2) + "\n")
    epochs = np.arange(1, parameters["epochs"] + 1)
    table = pd.DataFrame({"record": epochs, "epoch": epochs.astype(float), **series})
    table = table.reindex(columns=[*_COLUMNS, *parameters["criteria"]])
    table.to_csv(folder / PERFORMANCES, index=False, na_rep="nan")
    if estimator:
        np.save(folder / DIVERGENCE, bits)
    return folder


def _is_new(made: Path, target: Path) -> bool:
    """Whether nothing is at the target yet; False where the same run is. Raises FileExistsError for another one."""
    if not target.exists():
        return True
    recorded = [path.name for path in made.iterdir() if path.name not in (ARGS, LOG)]  # those tell the legacy folder
    if not (target / ARGS).exists() or filecmp.cmpfiles(made, target, recorded, shallow=False)[0] != recorded:
        raise FileExistsError(f"{target}: holds another run; remove it, or name another runs folder")
    return False


def _printable(text: str) -> str:
    """A text with names from the files in it, short, in one line, without anything that a terminal would obey."""
    text = text if len(text) <= 1000 else f"{text[:500]} ... {text[-500:]}"
    return text if text.isprintable() else ascii(text)[1:-1]
