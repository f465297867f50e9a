"""An experiment carried out: a training to its end, recorded in a run folder, that may be cut short and goes on."""

import inspect
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.catalogue import CRITERIA, DATASETS, LOSSES, NETWORKS, NOISES, Catalogue
from lib.checks import ParameterError
from lib.data import own
from lib.files import digest
from lib.parameters import Experiment
from lib.runs.folder import Run
from lib.runs.interruption import requests
from lib.runs.writer import RunWriter
from lib.training.loop import Record, Training

_CATALOGUES: dict[str, Catalogue[Any]] = {"dataset": DATASETS, "noise": NOISES, "network": NETWORKS, "loss": LOSSES}
_log = logging.getLogger("lib")


def run(experiment: Experiment, checkpoint_seconds: float | None = None) -> Run:
    """Carry out the experiment, or read it where its finished run is already there.

    Trains to the last epoch and records every signal. The run folder is written as the run goes on; whatever ends the
    process, the same call goes on from the last checkpoint. On CPU the same experiment gives identical numbers, byte
    for byte, however often it was interrupted. SIGTERM, SIGUSR1 and Ctrl-C write a checkpoint and then stop the run.
    The caller's random state, thread count and determinism settings come back afterwards.

    Args:
        experiment: what to run.
        checkpoint_seconds: how often the state is written, at least 0, which is after every batch; None: what the
            environment variable CHECKPOINT_SECONDS says, else every 300 seconds.

    Returns:
        The finished run.

    Raises:
        ParameterError: for parameters that do not fit data, network or machine, before anything is written.
        FileExistsError: if the run folder holds another experiment, one on another version of the user's own data or
            network, or one that another process is writing.
        Interrupted: if asked to stop by a signal, or KeyboardInterrupt for Ctrl-C; the state is kept.
        FloatingPointError: if training diverges, so that the network's outputs are no longer finite.
    """
    checkpoint_seconds = _checkpoint_seconds(checkpoint_seconds)  # before any work
    if finished := _finished(experiment, _own_parts(experiment)):
        return finished
    bar = {"total": experiment.records, "unit": "record", "desc": experiment.name, "mininterval": 1}
    with Recording(Training(experiment), checkpoint_seconds) as records, tqdm(**bar) as progress:
        for record in records:
            shown = "train" if math.isnan(record.values["test_accuracy"]) else "test"
            progress.set_postfix({shown: f"{record.values[f'{shown}_accuracy']:.3f}"}, refresh=False)
            progress.update(record.number - progress.n)
    return records.run


class Recording:
    """A training recorded in its run folder, where it goes on if it was cut short; iterate it in a `with` statement:

        with Recording(training) as records:
            for record in records:
                print(record.epoch, record.values["test_accuracy"])
        records.finished.performances

    Only records that are new are given; where the finished run is already there, none. Arguments and errors as for
    `run`, and the training must not have begun.

    Attributes:
        finished: the run once it is finished; else None.
    """

    def __init__(self, training: Training, checkpoint_seconds: float | None = None):
        self.training, self._seconds = training, _checkpoint_seconds(checkpoint_seconds)
        own_parts = _own_parts(training.experiment)
        self.finished, self._entered = _finished(training.experiment, own_parts), ExitStack()
        self._writer = RunWriter(training.experiment, training.about, training.layers, own_parts)

    def __enter__(self) -> "Recording":
        if self.finished:
            return self
        with ExitStack() as entered:
            writer = entered.enter_context(self._writer)
            self.finished = writer.finished
            if writer.state:
                _go_on(self.training, writer.state, writer.folder)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._entered.__exit__(*error)

    @property
    def run(self) -> Run:
        """The finished run. Raises RuntimeError before the end."""
        if self.finished is None:
            raise RuntimeError(f"{self.training.experiment.name} is not finished: iterate to the end first")
        return self.finished

    def __iter__(self) -> Iterator[Record]:
        if self.finished:
            return
        training, writer = self.training, self._writer
        weights, layers = sum(p.numel() for p in training.model.parameters()), ", ".join(training.layers) or "none"
        _log.info("%d parameters, CND at layer %s", weights, layers)
        records, kept = training.experiment.records, time.monotonic()
        with requests() as request:
            while writer.records < records:
                # Closed before the caller goes on, who may draw random numbers.
                with closing(training.steps()) as steps:
                    for record in steps:
                        if record:
                            writer.write(record.epoch, record.values, record.divergence)
                        if request.signal or time.monotonic() - kept >= self._seconds:
                            writer.checkpoint(training.state_dict())
                            request.obey(f"stopped after record {writer.records} of {records}; the same call goes on")
                            kept = time.monotonic()
                        if record:
                            break
                assert record
                yield record
        _log.info(training.costs())
        average = training.average.model.state_dict() if training.average else None
        self.finished = writer.finish(training.model.state_dict(), average)


def _finished(experiment: Experiment, own_parts: dict[str, str]) -> Run | None:
    finished = Run.find(experiment)
    if finished and (changed := [part for part, now in own_parts.items() if finished.own.get(part, now) != now]):
        raise FileExistsError(
            f"{finished.folder}: holds a run of another version of your own {' and '.join(changed)}; remove it, or "
            "name another runs_folder"
        )
    return finished


def _go_on(training: Training, state: dict[str, Any], folder: Path) -> None:
    try:
        training.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise FileExistsError(
            f"{folder}: holds a checkpoint of another version of this code ({why}); remove it to begin anew"
        ) from error


def _checkpoint_seconds(seconds: float | None) -> float:
    given = os.environ.get("CHECKPOINT_SECONDS", "300") if seconds is None else seconds
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise ParameterError(f"checkpoint_seconds={given!r}: must be a number of at least 0")
    return value


def _own_parts(experiment: Experiment) -> dict[str, str]:
    """What is the user's own, data or code, and what tells whether it has changed: parameters name it, no more."""
    parts = {"dataset": own.fingerprint(experiment)} if experiment.own_data else {}
    named = {part: (getattr(experiment, part), rows) for part, rows in _CATALOGUES.items()}
    named |= {f"criterion {name}": (name, CRITERIA) for name in experiment.criteria}
    for part, (name, rows) in named.items():
        row = rows.get(name)
        if row and row.own:
            try:
                parts[part] = digest(inspect.getsource(row.work))
            except (OSError, TypeError):  # typed at a prompt, or compiled
                parts[part] = ""
    return parts
