"""What became of the runs of a grid, told by their folders and, where there is Slurm, by its queue."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from lib.grid.tasks import Task
from lib.runs.folder import ARGS, CHECKPOINT, FAILURE, LOCK, PREVIOUS, Run, recorded
from lib.runs.locks import holder

STATES = ("finished", "running", "waiting", "failed", "missing")
"""In this order: done; being written now; in Slurm's queue; begun without an end; not begun."""
UNKNOWN = "unknown"
"""State of a run that may be in Slurm's queue, which could not be asked."""


class Status(NamedTuple):
    """A run's name, its state, one of `STATES` or `UNKNOWN`, and what there is to say about it."""

    name: str
    state: str
    reason: str


def status(task: Task, waiting: Collection[Path] | None = ()) -> Status:
    """The state of a run; `waiting` holds the folders of those in Slurm's queue, None where it could not be asked."""
    experiment, folder = task.experiment, task.experiment.folder
    try:
        if Run.find(experiment):
            return Status(task.name, "finished", "")
    except FileExistsError as error:
        return Status(task.name, "failed", str(error))
    begun, made = (folder / ARGS).exists(), f"record {recorded(folder)} of {experiment.records}"
    if who := holder(folder / LOCK):
        return Status(task.name, "running", f"{made}, {who}")
    if waiting is None or folder in waiting:
        return Status(task.name, UNKNOWN if waiting is None else "waiting", made if begun else "")
    if (folder / FAILURE).exists():
        return Status(task.name, "failed", (folder / FAILURE).read_text().strip())
    if begun:
        kept = (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()
        then = "goes on from its checkpoint" if kept else "starts anew"
        return Status(task.name, "failed", f"stopped without a word after {made}; {then}")
    return Status(task.name, "missing", "")


def table(statuses: Iterable[Status]) -> str:
    """A line for each run that is running or failed, and the number of runs in each state."""
    statuses = list(statuses)
    told = [f"{one.state:8} {one.name}  {one.reason}" for one in statuses if one.state in ("running", "failed")]
    return "\n".join([*told, counts(statuses)])


def counts(statuses: Iterable[Status]) -> str:
    """The number of runs in each state, in words."""
    found = Counter(one.state for one in statuses)
    states = STATES + ((UNKNOWN,) if found[UNKNOWN] else ())
    return ", ".join(f"{found[state]} {state}" for state in states) + f" of {found.total()} runs"
