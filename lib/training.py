"""Training to the end while every signal is recorded."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from tqdm import tqdm

from lib import data, models, samples
from lib.losses import LOSSES
from lib.parameters import Experiment, ParameterError
from lib.recording import RunWriter
from lib.runs import Run
from lib.signals import Recorder, autocast

_log = logging.getLogger("lib")
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def run(experiment: Experiment) -> Run:
    """Carry out the experiment, or read it where its finished run is already there.

    Trains to the last epoch and records every signal. The run folder is written as the run goes on and is whole
    after a crash; an unfinished run starts anew. On CPU the same experiment gives identical numbers, byte for
    byte. The caller's random state, thread count and determinism settings come back afterwards.

    Args:
        experiment: what to run.

    Returns:
        The finished run.

    Raises:
        ParameterError: for parameters that do not fit data, network or machine, before anything is written.
        FileExistsError: if the run folder holds another experiment, or another process is writing it.
        FloatingPointError: if training diverges, so that the network's outputs are no longer finite.
    """
    finished = Run.find(experiment)
    if finished:
        return finished
    device, cards = torch.device(experiment.device), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= cards:
        raise ParameterError(f"device={experiment.device!r}: must be cpu or one of this machine's {cards} CUDA devices")
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
        smallest = min(len(rows) for rows, _ in drawn.batches(experiment.batch_size, experiment.seed, 1))
        if smallest < 2 and any(isinstance(module, _BATCH_NORM) for module in model.modules()):
            raise ParameterError(f"batch_size={experiment.batch_size}: must be at least 2 where there is batch norm")
        with RunWriter(experiment, dataset, drawn) as writer:
            _log.info("%d parameters, CND at layer %s", sum(p.numel() for p in model.parameters()), recorder.layer)
            _train(experiment, dataset, drawn, model, recorder, writer)
            return writer.finish(model)


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


def _train(experiment, dataset, drawn, model, recorder, writer) -> None:
    optimizer = _optimizer(experiment, model)
    loss_function = LOSSES[experiment.loss]
    steps = drawn.batches_per_epoch(experiment.batch_size)
    record_after = [round(steps * k / experiment.records_per_epoch) for k in range(1, experiment.records_per_epoch + 1)]
    measuring, began = 0.0, time.perf_counter()
    with tqdm(total=experiment.records, unit="record", desc=experiment.name, mininterval=1) as progress:
        for epoch in range(1, experiment.epochs + 1):
            model.train()
            for step, (rows, labels) in enumerate(drawn.batches(experiment.batch_size, experiment.seed, epoch), 1):
                optimizer.zero_grad(set_to_none=True)
                with autocast(experiment):
                    loss = loss_function(model(dataset.x_train[rows]), labels)
                loss.backward()
                optimizer.step()
                if step in record_after:
                    start = time.perf_counter()
                    measurement = recorder.record()
                    writer.write(epoch - 1 + step / steps, measurement)
                    measuring += time.perf_counter() - start
                    progress.set_postfix(test=f"{measurement.values['test_accuracy']:.3f}", refresh=False)
                    progress.update()
    total = time.perf_counter() - began
    _log.info(
        "%.2f s an epoch, of which %.2f s measuring (signals and test accuracy)",
        total / experiment.epochs,
        measuring / experiment.epochs,
    )


def _optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.Optimizer:
    settings = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": True}
    if experiment.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=experiment.momentum, **settings)
    return torch.optim.Adam(model.parameters(), **settings)
