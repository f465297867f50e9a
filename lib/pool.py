"""The runs of a grid on this machine, several at a time, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from tqdm import tqdm

from lib.execution import STOPPED
from lib.grid import Task
from lib.interruption import requests
from lib.locks import holder
from lib.run_folder import FAILURE, LOCK, recorded

_PATIENCE = 60.0  # seconds in which a run that was asked to stop must have kept its state
_GLANCE = 0.2  # seconds between looks at the processes


@dataclass
class Outcome:
    """What became of the runs.

    Attributes:
        failures: what went wrong with each that failed, by name.
        signal: the signal that stopped those which neither failed nor finished; None where they all ended.
    """

    failures: dict[str, str] = field(default_factory=dict)
    signal: str | None = None


class _Worker(NamedTuple):
    task: Task
    process: subprocess.Popen
    said: IO[str]


def run(tasks: Sequence[Task], processes: int, environment: Callable[[int], dict[str, str]] | None = None) -> Outcome:
    """Run the tasks, with a progress bar over their records; a signal stops them, with their state kept.

    Args:
        tasks: what to run; they need not be finished or begun.
        processes: runs at a time.
        environment: further environment variables of the n-th run at a time, by n; None: none.

    Returns:
        The outcome. The reason of a failure is also in the run's folder.
    """
    outcome, waiting, running = Outcome(), deque(tasks), {}
    total = sum(task.experiment.records for task in tasks)
    seconds = 1 if sys.stderr.isatty() else 60  # in a log a line a minute will do
    with requests() as request, tqdm(total=total, unit="record", mininterval=seconds) as bar:
        ended = records = 0
        while (waiting and not request.signal) or running:
            while waiting and len(running) < processes and not request.signal:
                place = min(set(range(processes)) - set(running))
                running[place] = _start(waiting.popleft(), environment(place) if environment else {})
            time.sleep(_GLANCE)
            if request.signal and outcome.signal is None:
                outcome.signal = request.signal
                deadline = time.monotonic() + _PATIENCE
                for worker in running.values():
                    worker.process.terminate()
            for place, worker in list(running.items()):
                if outcome.signal and time.monotonic() > deadline:
                    worker.process.kill()
                if worker.process.poll() is None:
                    continue
                del running[place]
                ended, records = ended + 1, records + recorded(worker.task.experiment.folder)
                if reason := _end(worker, stopping=outcome.signal is not None):
                    outcome.failures[worker.task.name] = reason
            bar.set_postfix_str(f"{ended} of {len(tasks)} runs", refresh=False)
            made = records + sum(recorded(worker.task.experiment.folder) for worker in running.values())
            bar.update(made - bar.n)
    return outcome


def _start(task: Task, environment: dict[str, str]) -> _Worker:
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.execution", str(task.notebook), str(task.experiment.folder / task.notebook.name)],
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
        text=True,
        start_new_session=True,  # Ctrl-C comes here alone, and is passed on once
    )
    try:
        json.dump(task.parameters(), process.stdin)
        process.stdin.close()
    except BrokenPipeError:  # it died at once, which is seen when it is waited for
        pass
    return _Worker(task, process, said)


def _end(worker: _Worker, stopping: bool) -> str | None:
    """Why a run that has ended failed; None where it finished, or was asked to stop."""
    code, folder = worker.process.returncode, worker.task.experiment.folder
    with worker.said as said:
        said.seek(0)
        lines = said.read().split("\n")
    (folder / FAILURE).unlink(missing_ok=True)
    if code == 0 or (stopping and code in (STOPPED, -signal.SIGKILL, -signal.SIGTERM)):
        return None
    killed = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    reason = next((line for line in lines if line.strip()), f"the process was {killed}")
    if holder(folder / LOCK) is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILURE).write_text(reason + "\n")
        except OSError as error:  # of a full disk, or a folder that can only be read
            reason += f" ({error})"
    return reason
