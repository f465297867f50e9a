"""Finished runs are added to the logs, from which the paper is rebuilt without training."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.checks import DataError
from lib.files import write_whole
from lib.parameters import dataset_label, located
from lib.runs import logs
from lib.runs.folder import ARGS, DIVERGENCE, IMPORTED, description, records, unfinished
from lib.runs.logs import Archived


class Outcome(NamedTuple):
    """Names of the runs that were added and that were there, and of those refused the reason."""

    added: list[str]
    there: list[str]
    refused: dict[str, str]


def archive(runs_folder: Path | str, logs_folder: Path | str = "logs") -> Outcome:
    """Add the finished runs of a folder to the logs; those that are there stay as they are.

    Args:
        runs_folder: holds run folders; relative paths start at the project root.
        logs_folder: a file for each dataset and network is written whole, or not at all.

    Raises DataError where there is no run folder.
    """
    runs, target = (located("folder", folder) for folder in (runs_folder, logs_folder))
    folders = sorted(path.parent for path in runs.glob(f"*/{ARGS}"))
    if not folders:
        raise DataError(f"runs={str(runs_folder)!r}: must hold run folders, found none in {runs}")
    outcome, archived = Outcome([], [], {}), logs.read(target)
    new: dict[str, dict[str, Archived]] = defaultdict(dict)
    for folder in folders:
        name = folder.name
        if name in archived:
            outcome.there.append(name)
        elif reason := _refusal(folder):
            outcome.refused[name] = reason
        else:
            about, bits = description(folder), folder / DIVERGENCE
            parameters = about["parameters"]
            stem = f"{dataset_label(parameters['dataset'])}-{parameters['network']}"
            divergence = np.load(bits) if bits.exists() else None
            new[stem][name] = Archived(about, records(folder), divergence)
            outcome.added.append(name)
    for stem, added in new.items():
        file = target / f"{stem}.parquet"
        together = (logs.read_file(file) if file.exists() else {}) | added
        write_whole(file, partial(logs.write, together))
    return outcome


def _refusal(folder: Path) -> str | None:
    """Why a run is not archived; None where it may be."""
    if reason := unfinished(folder):
        return reason
    environment = description(folder).get("environment", {})
    commit = environment.get("commit")
    if IMPORTED in environment or (commit and not commit.endswith("-dirty")):
        return None
    return f"made by a checkout that was changed ({commit or 'no commit'}), so that nobody can repeat it"
