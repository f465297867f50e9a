"""The runs of a grid on this machine, several at a time, each in a process of its own."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from lib.grid.execution import STOPPED, remove_leftovers
from lib.grid.tasks import Task
from lib.runs.folder import FAILURE, LOCK, recorded
from lib.runs.interruption import requests
from lib.runs.locks import holder

_PATIENCE = 60.0  # seconds in which a run that was asked to stop must have kept its state
_GLANCE = 0.2  # seconds between looks at the processes
# glibc gives large blocks back to the system as they are freed, and each step of a training frees what it has made.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**34)}


@dataclass
class Outcome:
    """What became of the runs.

    Attributes:
        failures: what went wrong with each that failed, by name.
        signal: the signal that stopped those which neither failed nor finished; None where they all ended.
    """

    failures: dict[str, str] = field(default_factory=dict)
    signal: str | None = None


def run(tasks: Sequence[Task], processes: int, environment: Callable[[int], dict[str, str]] | None = None) -> Outcome:
    """Run the tasks, with a progress bar over their records; a signal stops them, with their state kept.

    Args:
        tasks: what to run; they need not be finished or begun.
        processes: runs at a time.
        environment: further environment variables of the n-th run at a time, by n; None: none.

    Returns:
        The outcome. The reason of a failure is also in the run's folder.
    """
    outcome, waiting = Outcome(), deque(tasks)
    running: dict[int, tuple[Task, subprocess.Popen[str]]] = {}
    seconds = 1 if sys.stderr.isatty() else 60  # in a log a line a minute will do
    ended = records = 0
    bar = tqdm(total=sum(task.experiment.records for task in tasks), unit="record", mininterval=seconds)
    with requests() as request, bar:
        while running or (waiting and not request.signal):
            while waiting and not request.signal and len(running) < processes:
                place = min(set(range(processes)) - running.keys())
                task = waiting.popleft()
                running[place] = task, _begun(task, environment(place) if environment else {})
            places = {process.stdout: place for place, (_, process) in running.items() if process.stdout}
            ending, _, _ = select.select(list(places), [], [], _GLANCE)
            if request.signal and outcome.signal is None:
                outcome.signal, deadline = request.signal, time.monotonic() + _PATIENCE
                for _, process in running.values():
                    process.terminate()
            if outcome.signal and time.monotonic() > deadline:
                for _, process in running.values():
                    process.kill()
            for stream in ending:
                task, process = running.pop(places[stream])
                ended, records = ended + 1, records + recorded(task.experiment.folder)
                if reason := _failure(task, process, stream.read().strip(), stopping=outcome.signal is not None):
                    outcome.failures[task.name] = reason
            bar.set_postfix_str(f"{ended} of {len(tasks)} runs", refresh=False)
            made = sum(recorded(task.experiment.folder) for task, _ in running.values())
            bar.update(records + made - bar.n)
    remove_leftovers()
    return outcome


def _begun(task: Task, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process that executes the notebook of a task; its output ends with it and its kernel."""
    output = task.experiment.folder / task.notebook.name
    asked = [str(task.notebook), str(output), json.dumps(task.experiment.parameters())]
    return subprocess.Popen(
        [sys.executable, "-m", "lib.grid.execution", *asked],
        stdin=subprocess.PIPE,  # its end tells that this process has died
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_MEMORY | os.environ | environment,
        text=True,
        start_new_session=True,  # Ctrl-C comes to this process alone, and is passed on once
    )


def _failure(task: Task, process: subprocess.Popen[str], said: str, stopping: bool) -> str | None:
    """Why a run that has ended failed, noted in its folder; None where it finished, or was asked to stop."""
    with process:
        code = process.wait()
    folder = task.experiment.folder
    (folder / FAILURE).unlink(missing_ok=True)
    if code == 0 or (stopping and code in (STOPPED, -signal.SIGTERM)):
        return None
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    reason = said or f"the process was {how}"
    if holder(folder / LOCK) is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILURE).write_text(reason + "\n")
        except OSError as error:  # of a full disk, or a folder that can only be read
            reason += f" ({error})"
    return reason
