"""Training to the end while every signal is recorded."""

import hashlib
import inspect
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from lib import data, models
from lib.catalogue import DATASETS, NETWORKS
from lib.checks import ParameterError
from lib.data import own as own_data
from lib.data import samples
from lib.data.dataset import Dataset
from lib.data.samples import Samples
from lib.parameters import Experiment
from lib.runs.folder import Run
from lib.runs.interruption import requests
from lib.runs.writer import RunWriter
from lib.training.recorder import Recorder
from lib.training.steps import Step, batches

_log = logging.getLogger("lib")
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


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
    checkpoint_seconds = _checkpoint_seconds(checkpoint_seconds)
    own = _own_parts(experiment)
    finished = Run.find(experiment)
    if finished:
        changed = [part for part, state in own.items() if finished.own.get(part, state) != state]
        if changed:
            raise FileExistsError(
                f"{finished.folder}: holds a run of another version of your own {' and '.join(changed)}; remove it, or "
                "name another runs_folder"
            )
        return finished
    _check_device(experiment)
    dataset = data.load(experiment)
    drawn = samples.draw(experiment, dataset)
    steps = drawn.batches_per_epoch(experiment.batch_size)
    if experiment.records_per_epoch > steps:
        raise ParameterError(
            f"records_per_epoch={experiment.records_per_epoch}: must be at most the {steps} batches of an epoch"
        )
    with reproducible(experiment):
        model = models.build(experiment, dataset.x_train.shape[1:], dataset.num_classes)
        recorder = Recorder(experiment, dataset, drawn, model)
        smallest = min(len(batch.rows) for batch in drawn.batches(experiment.batch_size, experiment.seed, 1))
        if smallest < 2 and any(isinstance(module, _BATCH_NORM) for module in model.modules()):
            raise ParameterError(
                f"batch_size={experiment.batch_size}: must leave no batch of a single sample where there is batch norm"
            )
        with RunWriter(experiment, dataset, drawn, recorder.layers, own) as writer:
            if writer.finished:
                return writer.finished
            layers = ", ".join(recorder.layers) or "none"
            _log.info("%d parameters, CND at layer %s", sum(p.numel() for p in model.parameters()), layers)
            training = _Training(experiment, dataset, drawn, model, recorder)
            if writer.state:
                _go_on(training, writer)
            training.run(writer, checkpoint_seconds)
            return writer.finish(model)


def _go_on(training: "_Training", writer: RunWriter) -> None:
    try:
        training.load_state_dict(writer.state)
    except (KeyError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise FileExistsError(
            f"{writer.folder}: holds a checkpoint of another version of this code ({why}); remove it to begin anew"
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
    own = {"dataset": own_data.fingerprint(experiment)} if experiment.own_data else {}
    for part, registered in (("dataset", DATASETS), ("network", NETWORKS)):
        row = registered.get(getattr(experiment, part))
        if row and row.own:
            try:
                own[part] = hashlib.sha256(inspect.getsource(row.work).encode()).hexdigest()[:8]
            except (OSError, TypeError):  # typed at a prompt, or compiled
                own[part] = ""
    return own


def _check_device(experiment: Experiment) -> None:
    device, cards = torch.device(experiment.device), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise ParameterError(f"device={experiment.device!r}: must be cpu or one of this machine's {cards} CUDA devices")
    if experiment.dtype == "bfloat16" and not has_bfloat16(device):
        _log.warning("dtype='bfloat16': %s has no such arithmetic, it is emulated and slow", experiment.device)


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether a device computes in bfloat16, so that mixed precision is faster than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextmanager
def reproducible(experiment: Experiment) -> Iterator[None]:
    """Seed torch and fix what its sums depend on; everything is put back afterwards."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    devices = [] if experiment.device == "cpu" else [torch.device(experiment.device).index or 0]
    with torch.random.fork_rng(devices):
        try:
            torch.set_num_threads(experiment.threads)
            torch.use_deterministic_algorithms(True, warn_only=experiment.device != "cpu")
            torch.manual_seed(experiment.seed)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


class _Training:
    """The loop over epochs, batches and records, whose state can be kept and gone on with between any two batches."""

    def __init__(self, experiment: Experiment, dataset: Dataset, drawn: Samples, model: nn.Module, recorder: Recorder):
        self.experiment, self.dataset, self.drawn = experiment, dataset, drawn
        self.model, self.recorder, self.train_on = model, recorder, Step(experiment, model)
        self.epoch, self.batch, self.record = 1, 0, 0
        self.seconds = {"total": 0.0, "measuring": 0.0}

    def run(self, writer: RunWriter, checkpoint_seconds: float) -> None:
        """Train to the end, or until asked to stop. Raises Interrupted or KeyboardInterrupt then, its state kept."""
        records, steps = self.experiment.records, self.drawn.batches_per_epoch(self.experiment.batch_size)
        per_epoch = self.experiment.records_per_epoch
        record_after = {round(steps * k / per_epoch) for k in range(1, per_epoch + 1)}
        name, kept = self.experiment.name, time.monotonic()
        with (
            tqdm(total=records, initial=self.record, unit="record", desc=name, mininterval=1) as progress,
            self.recorder.watching(),
            requests() as request,
        ):
            while self.epoch <= self.experiment.epochs:
                self.model.train()
                for began, (x, labels, places) in self._timed(self.batch):
                    self.recorder.take(places, self.train_on(x, labels))
                    self.batch += 1
                    if self.batch in record_after:
                        accuracy = self._measure(writer, self.epoch - 1 + self.batch / steps)
                        progress.set_postfix(test=f"{accuracy:.3f}", refresh=False)
                        progress.update()
                    self.seconds["total"] += time.perf_counter() - began
                    if request.signal or time.monotonic() - kept >= checkpoint_seconds:
                        self._keep(writer)
                        request.obey(f"stopped after record {self.record} of {records}; the same call goes on")
                        kept = time.monotonic()
                self.train_on.schedule.step()
                self.epoch, self.batch = self.epoch + 1, 0
        self._log_costs()

    def _timed(self, first: int) -> Iterator[tuple[float, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
        """The batches of the epoch from one of them on, each with the time at which its making began."""
        began = time.perf_counter()
        for batch in batches(self.experiment, self.dataset, self.drawn, self.epoch, first):
            yield began, batch
            began = time.perf_counter()

    def _measure(self, writer: RunWriter, epoch: float) -> float:
        began = time.perf_counter()
        measurement = self.recorder.record()
        writer.write(epoch, measurement)
        self.record += 1
        self.seconds["measuring"] += time.perf_counter() - began
        return measurement.values["test_accuracy"]

    def _keep(self, writer: RunWriter) -> None:
        try:
            writer.checkpoint(self.state_dict())
        except OSError as error:  # the run may well end without it
            _log.warning("no checkpoint after record %d: %s", self.record, error)

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": [self.epoch, self.batch, self.record],
            "model": self.model.state_dict(),
            "optimizer": self.train_on.optimizer.state_dict(),
            "schedule": self.train_on.schedule.state_dict(),
            "recorder": self.recorder.state_dict(),
            "random": torch.get_rng_state(),
            "random_on_device": torch.cuda.get_rng_state(self.experiment.device) if self._on_gpu else None,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.record = state["position"]
        self.model.load_state_dict(state["model"])
        self.train_on.optimizer.load_state_dict(state["optimizer"])
        self.train_on.schedule.load_state_dict(state["schedule"])
        self.recorder.load_state_dict(state["recorder"])
        torch.set_rng_state(state["random"].cpu())
        if self._on_gpu:
            torch.cuda.set_rng_state(state["random_on_device"].cpu(), self.experiment.device)
        self.seconds = state["seconds"]

    @property
    def _on_gpu(self) -> bool:
        return torch.device(self.experiment.device).type == "cuda"

    def _log_costs(self) -> None:
        epochs, records, recorder = self.experiment.epochs, self.experiment.records, self.recorder
        total, measuring = self.seconds["total"], self.seconds["measuring"]
        training, signals = total - measuring - recorder.watched_seconds, sum(recorder.seconds.values())
        _log.info(
            "%.2f s an epoch, of which %.2f s measuring (signals and test accuracy)", total / epochs, measuring / epochs
        )
        each = ", ".join(f"{name} {1000 * spent / records:.1f}" for name, spent in recorder.seconds.items())
        _log.info("signals cost %.1f %% of the training time; ms a record: %s", 100 * signals / training, each)
