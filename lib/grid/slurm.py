"""A grid on Slurm: data prepared once, the missing runs as an array, then the report, each waiting for the one before.

What the jobs ask for is set in `slurm/cluster.yaml`; the scripts are beside it.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from lib.checks import NoSlurm, ParameterError, Rule, SlurmError, typed
from lib.grid import pool
from lib.grid.status import status
from lib.grid.tasks import Task, read_tasks, read_yaml, write_tasks
from lib.parameters import ROOT
from lib.runs.locks import Lock

SETTINGS = ROOT / "slurm" / "cluster.yaml"
_AT_LEAST_1 = Rule(lambda v: v >= 1, "an integer of at least 1")
_COMMENT = "memorization:"
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"}
ENDED |= {"NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
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
        content = read_yaml("cluster", file, [field.name for field in fields(cls)])
        return cls(**content | {name: value for name, value in overrides.items() if value is not None})

    def options(self, tasks: Sequence[Task]) -> list[str]:
        """Options of sbatch for an array job of these tasks."""
        given = {
            "gres": self.gpu if any(task.experiment.device.startswith("cuda") for task in tasks) else "",
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
        SlurmError: where Slurm refuses or does not answer; then nothing stays submitted.
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

        def sbatch(script: str, arguments: Sequence[object], *asked: str) -> str:
            output = f"--output={jobs / stem}-{script}-%j.log"
            command = ["sbatch", "--parsable", output, *asked, *further, f"slurm/{script}.sbatch", *map(str, arguments)]
            submitted.append(_slurm(*command).split(";")[0])
            return submitted[-1]

        try:
            prepare = sbatch("prepare", [write_tasks(jobs / f"{stem}.json", missing)], *cluster.place())
            ends = []
            for number, part in enumerate(_arrays(missing, cluster.pack * _largest_array())):
                file, last = write_tasks(jobs / f"{stem}-{number}.json", part), -(-len(part) // cluster.pack) - 1
                about = [f"--array=0-{last}%{cluster.concurrent}", f"--comment={_COMMENT}{cluster.pack}:{file}"]
                after = [f"--dependency=afterok:{prepare}", "--kill-on-invalid-dep=yes"]
                ends.append(sbatch("run", [file, cluster.pack], *cluster.options(part), *about, *after))
            sbatch("report", [runs], *cluster.place(), f"--dependency=afterany:{':'.join(ends)}")
        except SlurmError:
            if submitted:
                _slurm("scancel", *submitted)
            for file in jobs.glob(f"{stem}*.json"):
                file.unlink()
            raise
        return submitted


def queued() -> set[Path]:
    """Folders of the runs that are in Slurm's queue. Raises SlurmError where it does not answer, or NoSlurm."""
    lines = _slurm("squeue", "--noheader", "--array", "--me", "--states=all", "--format=%T|%K|%k").splitlines()
    files: dict[str, Sequence[Task]] = {}
    found: set[Path] = set()
    for line in lines:
        state, index, comment = line.strip().split("|", maxsplit=2)
        if state in ENDED or not comment.startswith(_COMMENT) or not index.isdigit():
            continue
        pack, _, file = comment.removeprefix(_COMMENT).partition(":")
        if file not in files:
            try:
                files[file] = read_tasks(file)
            except ParameterError:  # of a runs folder that was removed since
                files[file] = ()
        found |= {task.experiment.folder for task in _chunk(files[file], int(pack), int(index))}
    return found


def run_task(tasks: Sequence[Task], pack: int, index: int) -> pool.Outcome:
    """Run the missing ones of the runs that share an array task."""
    missing = [task for task in _chunk(tasks, pack, index) if status(task).state != "finished"]
    devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]

    def device_of(place: int) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {}

    return pool.run(missing, max(1, len(missing)), device_of)


def _arrays(tasks: Sequence[Task], size: int) -> Iterator[Sequence[Task]]:
    """The tasks of each array job: no run that needs no GPU waits for one."""
    for gpu in (True, False):
        alike = [task for task in tasks if task.experiment.device.startswith("cuda") == gpu]
        yield from (_chunk(alike, size, index) for index in range(-(-len(alike) // size)))


def _chunk(tasks: Sequence[Task], size: int, index: int) -> Sequence[Task]:
    return tasks[size * index : size * (index + 1)]


def _largest_array() -> int:
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"))
    return int(found[1]) if found else 1001


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoSlurm(f"{command[0]}: must be on this machine; without Slurm: python -m lib run") from error
    if done.returncode:
        raise SlurmError(f"{command[0]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
