"""One training, to be iterated record by record; `lib.training.experiment` carries it out in a run folder."""

import logging
import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lib import data, models
from lib.averaging import WeightAverage
from lib.checks import ParameterError
from lib.data import samples
from lib.parameters import Experiment
from lib.training.precision import has_bfloat16
from lib.training.recorder import Recorder
from lib.training.steps import Step, batches

_log = logging.getLogger("lib")
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Record(NamedTuple):
    """What was measured after some of the training.

    Attributes:
        number: of the record, counted from 1.
        epoch: passes made over the training data, a fraction within an epoch.
        values: a number for each column, see `lib.training.recorder.Recorder`.
        divergence: CND in bits of each neuron, layer after layer; None where CND is not asked for.
    """

    number: int
    epoch: float
    values: dict[str, float]
    divergence: np.ndarray | None


class Training:
    """Data, noisy labels and network of an experiment, and the loop over its epochs and batches.

    Iterate it for its records; what else is computed meanwhile, and the random state of the caller, change nothing:

        training = Training(Experiment(epochs=10))
        for record in training:
            print(record.epoch, record.values["test_accuracy"])

    Between any two records, and in `steps` between any two batches, its state can be kept and gone on with.

    Attributes:
        experiment, dataset, samples, model: what is trained, and on what.
        average: of the weights, `lib.averaging.WeightAverage`; None where none is kept.
        layers: neurons of each layer whose divergences are recorded, in their order.

    Raises ParameterError for parameters that do not fit data, network or machine.
    """

    def __init__(self, experiment: Experiment):
        _check_device(experiment)
        self.experiment, self.dataset = experiment, data.load(experiment)
        self.samples = samples.draw(experiment, self.dataset)
        self._batches = self.samples.batches_per_epoch(experiment.batch_size)
        if experiment.records_per_epoch > self._batches:
            raise ParameterError(
                f"records_per_epoch={experiment.records_per_epoch}: must be at most the {self._batches} batches of an "
                "epoch"
            )
        with reproducible(experiment):
            self.model = models.build(experiment, self.dataset.x_train.shape[1:], self.dataset.num_classes)
            reach = experiment.average_epochs * self._batches
            self.average = WeightAverage(self.model, reach) if reach else None
            averaged = self.average.model if self.average else None
            self._recorder = Recorder(experiment, self.dataset, self.samples, self.model, averaged)
            self._random: list[torch.Tensor] | None = self._random_now()
        smallest = min(len(batch.rows) for batch in self.samples.batches(experiment.batch_size, experiment.seed, 1))
        if smallest < 2 and any(isinstance(module, _BATCH_NORM) for module in self.model.modules()):
            raise ParameterError(
                f"batch_size={experiment.batch_size}: must leave no batch of a single sample where there is batch norm"
            )
        self.layers = self._recorder.layers
        self._step = Step(experiment, self.model)
        self._epoch, self._batch, self._record = 1, 0, 0
        self._seconds = {"total": 0.0, "measuring": 0.0, "average": 0.0}

    @property
    def about(self) -> dict[str, Any]:
        """What is known of the data: source, classes, numbers of samples, realised noise rate (None: nobody knows)."""
        rate = self.samples.train.rate
        return {
            "source": self.dataset.source,
            "classes": list(self.dataset.classes),
            "train_samples": len(self.samples.train),
            "test_samples": len(self.dataset.y_test),
            "realised_noise_rate": None if math.isnan(rate) else rate,
        }

    def __iter__(self) -> Iterator[Record]:
        while self._record < self.experiment.records:
            with closing(self.steps()) as steps:
                record = next(filter(None, steps))
            yield record

    def steps(self) -> Generator[Record | None, None, None]:
        """Train on, batch by batch: after each its record, or None where there is none after it.

        Until the end, or until it is closed, torch's random state, threads and determinism are those of the training.
        Raises FloatingPointError if training diverges, so that the network's outputs are no longer finite.
        """
        per_epoch = self.experiment.records_per_epoch
        record_after = {round(self._batches * k / per_epoch) for k in range(1, per_epoch + 1)}
        with self._surroundings(), self._recorder.watching():
            while self._epoch <= self.experiment.epochs:
                self.model.train()
                began = time.perf_counter()
                for x, labels, places in batches(self.experiment, self.dataset, self.samples, self._epoch, self._batch):
                    self._recorder.take(places, self._step(x, labels))
                    self._update_average()
                    self._batch += 1
                    record = self._measure() if self._batch in record_after else None
                    self._seconds["total"] += time.perf_counter() - began
                    if self._batch == self._batches:
                        self._step.schedule.step()
                        self._epoch, self._batch = self._epoch + 1, 0
                    yield record
                    began = time.perf_counter()

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        with reproducible(self.experiment):
            self._set_random(self._random or self._random_now())
            self._random = None  # the state is torch's own until the end
            try:
                yield
            finally:
                self._random = self._random_now()

    def _update_average(self) -> None:
        if self.average:
            began = time.perf_counter()
            self.average.update()
            self._seconds["average"] += time.perf_counter() - began

    def _measure(self) -> Record:
        began = time.perf_counter()
        measured = self._recorder.record()
        self._record += 1
        self._seconds["measuring"] += time.perf_counter() - began
        return Record(self._record, self._epoch - 1 + self._batch / self._batches, *measured)

    def _random_now(self) -> list[torch.Tensor]:
        device = torch.device(self.experiment.device)
        of_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return [torch.get_rng_state(), *of_device]

    def _set_random(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0].cpu())
        for state in states[1:]:
            torch.cuda.set_rng_state(state.cpu(), self.experiment.device)

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from, for a checkpoint."""
        return {
            "position": [self._epoch, self._batch, self._record],
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self._step.optimizer.state_dict(),
            "schedule": self._step.schedule.state_dict(),
            "recorder": self._recorder.state_dict(),
            "random": self._random or self._random_now(),
            "seconds": self._seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; not while `steps` is being iterated."""
        self._epoch, self._batch, self._record = state["position"]
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self._step.optimizer.load_state_dict(state["optimizer"])
        self._step.schedule.load_state_dict(state["schedule"])
        self._recorder.load_state_dict(state["recorder"])
        self._random, self._seconds = state["random"], state["seconds"]

    def costs(self) -> str:
        """What training and each signal have cost, in words."""
        recorder, (total, measuring, average) = self._recorder, self._seconds.values()
        epochs, records = self.experiment.epochs, self.experiment.records
        training, signals = total - measuring - average - recorder.watched_seconds, sum(recorder.seconds.values())
        each = ", ".join(f"{name} {1000 * spent / records:.1f}" for name, spent in recorder.seconds.items())
        return (
            f"{total / epochs:.2f} s an epoch, of which {measuring / epochs:.2f} s measuring (signals, test accuracy); "
            f"signals cost {100 * signals / training:.1f} % of the training time, averaging the weights "
            f"{100 * average / training:.1f} %; ms a record: {each}"
        )


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


def _check_device(experiment: Experiment) -> None:
    device, cards = torch.device(experiment.device), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise ParameterError(f"device={experiment.device!r}: must be cpu or one of this machine's {cards} CUDA devices")
    if experiment.dtype == "bfloat16" and not has_bfloat16(device):
        _log.warning("dtype='bfloat16': %s has no such arithmetic, so it is no faster than float32", experiment.device)
