"""A grid on Slurm: data prepared once, the missing runs as an array, then the report, each waiting for the one before.

What the jobs ask for is set in `slurm/cluster.yaml`; the scripts are beside it.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lib import data
from lib.catalogue import NOISES
from lib.checks import ParameterError, Rule, check_choice, typed
from lib.data import samples
from lib.grid import pool
from lib.grid.execution import STOPPED
from lib.grid.status import status
from lib.grid.tasks import Task, read_tasks, write_tasks
from lib.parameters import ROOT, Experiment
from lib.runs.locks import Lock

SETTINGS = ROOT / "slurm" / "cluster.yaml"
_AT_LEAST_1 = Rule(lambda v: v >= 1, "an integer of at least 1")
_OF_DATA = ("dataset", "data_folder", "image_size", "glove_file")
_COMMENT = "memorization:"
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
"""States of Slurm's jobs that will not run again; all others, also that of being requeued, are in the queue."""


@dataclass(frozen=True)
class Cluster:
    """What jobs ask for; the comments of `slurm/cluster.yaml` say what each setting is. Raises ParameterError."""

    gpu: str = "gpu:a100:1"
    partition: str = ""
    account: str = ""
    time: str = "08:00:00"
    cpus_per_task: int = 4
    memory: str = "16G"
    concurrent: int = 50
    pack: int = 1
    notice: int = 120

    def __post_init__(self):
        for field in fields(self):
            rule = _AT_LEAST_1 if field.type is int else None
            object.__setattr__(self, field.name, typed(field.name, getattr(self, field.name), field.type, rule))

    @classmethod
    def read(cls, file: Path = SETTINGS, **overrides: int | None) -> "Cluster":
        """The settings of a file; overrides that are None count for nothing. Raises ParameterError."""
        try:
            content = yaml.safe_load(file.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ParameterError(f"{file}: must be a readable YAML file: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ParameterError(f"{file}: must hold names and values")
        for name in content:
            check_choice(f"name in {file.name}", str(name), [field.name for field in fields(cls)])
        return cls(**content | {name: value for name, value in overrides.items() if value is not None})

    def options(self, tasks: Sequence[Task]) -> list[str]:
        """Options of sbatch for an array job of these tasks."""
        gpu = self.gpu if any(task.experiment.device.startswith("cuda") for task in tasks) else ""
        given = {
            "gres": gpu,
            "time": self.time,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.memory,
            "signal": f"B:USR1@{self.notice}",
        }
        return [*self.place(), *(f"--{name}={value}" for name, value in given.items() if value)]

    def place(self) -> list[str]:
        """Options of sbatch that say where, and on whose account, a job runs."""
        return [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(self, name))]


def submit(grid: Path, tasks: Sequence[Task], cluster: Cluster, options: str = "") -> list[str]:
    """Submit what is missing or failed, and neither running nor waiting already.

    Args:
        grid: the grid file, after which the jobs are named.
        tasks: its tasks.
        cluster: what the jobs ask for.
        options: further options of sbatch, which overrule those of `cluster`.

    Returns:
        Numbers of the jobs: preparation, arrays, report. Empty where there is nothing to submit.

    Raises:
        ParameterError: where sbatch refuses; then nothing stays submitted.
    """
    runs = ROOT / tasks[0].experiment.runs_folder
    jobs = runs / ".jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    with Lock(jobs / "submit.lock"):
        waiting = queued()
        missing = [task for task in tasks if status(task, waiting).state in ("missing", "failed")]
        if not missing:
            return []
        stem = f"{grid.stem}-{datetime.now():%Y%m%d-%H%M%S-%f}"
        further, submitted = shlex.split(options), []
        arrays = []
        for number, part in enumerate(_arrays(missing, cluster.pack * _largest_array())):
            file = jobs / f"{stem}-{number}.json"
            write_tasks(file, part)
            arrays.append((file, part))

        def sbatch(script: str, arguments: list[str], *asked: str) -> str:
            output = f"--output={jobs / stem}-{script}-%j.log"
            job = _slurm("sbatch", "--parsable", output, *asked, *further, f"slurm/{script}.sbatch", *arguments)
            submitted.append(job.split(";")[0])
            return submitted[-1]

        try:
            everything = jobs / f"{stem}.json"
            write_tasks(everything, missing)
            prepare = sbatch("prepare", [str(everything)], *cluster.place())
            ends = []
            for file, part in arrays:
                last = -(-len(part) // cluster.pack) - 1
                about = [f"--array=0-{last}%{cluster.concurrent}", f"--comment={_COMMENT}{cluster.pack}:{file}"]
                after = [f"--dependency=afterok:{prepare}", "--kill-on-invalid-dep=yes"]
                asked = [*cluster.options(part), *about, *after]
                ends.append(sbatch("run", [str(file), str(cluster.pack)], *asked))
            sbatch("report", [str(runs)], *cluster.place(), f"--dependency=afterany:{':'.join(ends)}")
        except ParameterError:
            if submitted:
                _slurm("scancel", *submitted)
            raise
        return submitted


def queued() -> set[Path]:
    """Folders of the runs that are in Slurm's queue. Raises ParameterError where Slurm does not answer."""
    lines = _slurm("squeue", "--noheader", "--array", "--me", "--states=all", "--format=%T|%K|%k").splitlines()
    files: dict[str, list[list[Task]]] = {}
    found: set[Path] = set()
    for line in lines:
        state, index, comment = line.strip().split("|", maxsplit=2)
        if state in ENDED or not comment.startswith(_COMMENT) or not index.isdigit():
            continue
        pack, _, file = comment.removeprefix(_COMMENT).partition(":")
        if comment not in files:
            try:
                files[comment] = list(_pieces(read_tasks(file), int(pack)))
            except ParameterError:  # of a runs folder that was removed since
                files[comment] = []
        found |= {task.experiment.folder for chunk in files[comment][int(index) : int(index) + 1] for task in chunk}
    return found


def prepare(tasks: Sequence[Task]) -> dict[str, str]:
    """Download and prepare the data of the tasks, once each. Returns what went wrong, by dataset."""
    failures = {}
    for experiment in _datasets(tasks):
        print(f"preparing {experiment.dataset}", flush=True)
        try:
            dataset = data.load(experiment)
            samples.draw(experiment, dataset)
        except Exception as error:  # its runs will say the same; those on other data are not to wait for it
            failures[experiment.dataset] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return failures


def _datasets(tasks: Sequence[Task]) -> list[Experiment]:
    """One experiment for each dataset, and for each kind of human labels."""
    distinct: dict[tuple[Any, ...], Experiment] = {}
    for task in tasks:
        experiment = task.experiment
        human = experiment.noise if NOISES[experiment.noise].people_of else ""
        distinct.setdefault((*(getattr(experiment, name) for name in _OF_DATA), human), experiment)
    return list(distinct.values())


def run_task(tasks: Sequence[Task], pack: int, index: int) -> int:
    """Run the missing ones of the runs that share an array task. Returns the exit status, see `lib.__main__`."""
    chunk = list(_pieces(tasks, pack))[index]
    missing = [task for task in chunk if status(task).state != "finished"]
    devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]

    def device_of(place: int) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {}

    outcome = pool.run(missing, max(1, len(missing)), device_of)
    for name, failure in outcome.failures.items():
        print(f"failed {name}: {failure}", file=sys.stderr)
    if outcome.signal:
        return STOPPED
    return 1 if outcome.failures else 0


def _arrays(tasks: Sequence[Task], size: int) -> Iterator[Sequence[Task]]:
    """The tasks of each array job: no run that needs no GPU waits for one."""
    for gpu in (True, False):
        yield from _pieces([task for task in tasks if task.experiment.device.startswith("cuda") == gpu], size)


def _pieces(tasks: Sequence[Task], size: int) -> Iterator[Sequence[Task]]:
    return (tasks[start : start + size] for start in range(0, len(tasks), size))


def _largest_array() -> int:
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"))
    return int(found[1]) if found else 1001


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ParameterError(f"{command[0]}: must be on this machine; without Slurm: python -m lib run") from error
    if done.returncode:
        raise ParameterError(f"{command[0]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
