"""The runs of a grid on this machine, several at a time, each in a process of its own."""

import contextlib
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
from typing import Any

from tqdm import tqdm

from lib.grid.execution import STOPPED, remove_leftovers
from lib.grid.tasks import Task
from lib.runs.folder import FAILURE, LOCK, recorded
from lib.runs.interruption import requests
from lib.runs.locks import holder

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


class _Worker:
    """A process that executes the notebook of one task after the other.

    Attributes:
        task: what it is executing; None: nothing.
        said: the stream of its answers, which ends with it and its kernel.
    """

    def __init__(self, environment: dict[str, str]):
        self.task: Task | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lib.grid.execution"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | environment,
            text=True,
            start_new_session=True,  # Ctrl-C comes to this process alone, and is passed on once
        )
        self.said = self.process.stdout

    def begin(self, task: Task) -> None:
        self.task = task
        asked = {"notebook": str(task.notebook), "output": str(task.experiment.folder / task.notebook.name)}
        with contextlib.suppress(BrokenPipeError):  # it has died, which is seen when it is asked for its answer
            self.process.stdin.write(json.dumps(asked | {"parameters": task.parameters()}) + "\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What became of the task, once there is something to read."""
        if line := self.said.readline():
            return json.loads(line)
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        stopped = code in (STOPPED, -signal.SIGTERM)
        return {"failure": f"the process was {how}", "stopped": stopped}

    def end(self) -> None:
        """Let the process end, which it does when nothing more is asked of it."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.said.close()


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
    workers: dict[int, _Worker] = {}
    total = sum(task.experiment.records for task in tasks)
    seconds = 1 if sys.stderr.isatty() else 60  # in a log a line a minute will do
    ended = records = 0
    with requests() as request, tqdm(total=total, unit="record", mininterval=seconds) as bar:
        while (waiting and not request.signal) or any(worker.task for worker in workers.values()):
            for place in range(processes):
                if not waiting or request.signal:
                    break
                if place not in workers:
                    workers[place] = _Worker(environment(place) if environment else {})
                if workers[place].task is None:
                    workers[place].begin(waiting.popleft())
            busy = {worker.said: place for place, worker in workers.items() if worker.task}
            answering, _, _ = select.select(list(busy), [], [], _GLANCE)
            if request.signal and outcome.signal is None:
                outcome.signal, deadline = request.signal, time.monotonic() + _PATIENCE
                for worker in workers.values():
                    worker.process.terminate()
            if outcome.signal and time.monotonic() > deadline:
                for worker in workers.values():
                    worker.process.kill()
            for said in answering:
                worker = workers[busy[said]]
                answer = worker.answer()
                ended, records = ended + 1, records + recorded(worker.task.experiment.folder)
                if reason := _note(worker.task, answer, stopping=outcome.signal is not None):
                    outcome.failures[worker.task.name] = reason
                worker.task = None
                if answer["stopped"] or worker.process.poll() is not None:
                    workers.pop(busy[said]).end()
            bar.set_postfix_str(f"{ended} of {len(tasks)} runs", refresh=False)
            made = sum(recorded(worker.task.experiment.folder) for worker in workers.values() if worker.task)
            bar.update(records + made - bar.n)
        for worker in workers.values():
            worker.end()
    remove_leftovers()
    return outcome


def _note(task: Task, answer: dict[str, Any], stopping: bool) -> str | None:
    """Why a run that has ended failed, noted in its folder; None where it finished, or was asked to stop."""
    folder, reason = task.experiment.folder, answer["failure"]
    (folder / FAILURE).unlink(missing_ok=True)
    if reason is None or (stopping and answer["stopped"]):
        return None
    if holder(folder / LOCK) is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILURE).write_text(reason + "\n")
        except OSError as error:  # of a full disk, or a folder that can only be read
            reason += f" ({error})"
    return reason
