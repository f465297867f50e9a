"""Training to the end while every signal is recorded."""

import hashlib
import inspect
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from lib import augmentation, data, models, own_data, samples
from lib.checks import ParameterError
from lib.dataset import Dataset
from lib.losses import LOSSES
from lib.parameters import Experiment
from lib.passes import autocast
from lib.recording import RunWriter
from lib.runs import Run
from lib.samples import Samples
from lib.seeds import stream
from lib.signals import Recorder

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
        FileExistsError: if the run folder holds another experiment, one on another version of the user's own data or
            network, or one that another process is writing.
        FloatingPointError: if training diverges, so that the network's outputs are no longer finite.
    """
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
            layers = ", ".join(recorder.layers) or "none"
            _log.info("%d parameters, CND at layer %s", sum(p.numel() for p in model.parameters()), layers)
            _train(experiment, dataset, drawn, model, recorder, writer)
            return writer.finish(model)


def _own_parts(experiment: Experiment) -> dict[str, str]:
    """What is the user's own, data or code, and what tells whether it has changed: parameters name it, no more."""
    own = {"dataset": own_data.fingerprint(experiment)} if experiment.own_data else {}
    for part, registered in (("dataset", data.LOADERS), ("network", models.NETWORKS)):
        function = registered.get(getattr(experiment, part))
        if function and not function.__module__.startswith("lib."):
            try:
                own[part] = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:8]
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


class Step:
    """One step of training on a batch: forward in the precision asked for, backward, update of the weights."""

    def __init__(self, experiment: Experiment, model: nn.Module):
        self.experiment, self.model = experiment, model
        self.loss_function = LOSSES[experiment.loss]
        self.optimizer = _optimizer(experiment, model)
        self.schedule = _schedule(experiment, self.optimizer)

    def __call__(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Train on inputs of shape (n, ...) and labels of shape (n,); gives its logits on them."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.experiment):
            logits = self.model(x).float()  # losses are too fine for half precision
            loss = self.loss_function(logits, labels)
        loss.backward()
        self.optimizer.step()
        return logits.detach()


def _train(experiment, dataset, drawn, model, recorder, writer) -> None:
    train_on = Step(experiment, model)
    steps = drawn.batches_per_epoch(experiment.batch_size)
    record_after = [round(steps * k / experiment.records_per_epoch) for k in range(1, experiment.records_per_epoch + 1)]
    measuring, began = 0.0, time.perf_counter()
    with (
        tqdm(total=experiment.records, unit="record", desc=experiment.name, mininterval=1) as progress,
        recorder.watching(),
    ):
        for epoch in range(1, experiment.epochs + 1):
            model.train()
            for step, (x, labels, places) in enumerate(batches(experiment, dataset, drawn, epoch), 1):
                recorder.take(places, train_on(x, labels))
                if step in record_after:
                    start = time.perf_counter()
                    measurement = recorder.record()
                    writer.write(epoch - 1 + step / steps, measurement)
                    measuring += time.perf_counter() - start
                    progress.set_postfix(test=f"{measurement.values['test_accuracy']:.3f}", refresh=False)
                    progress.update()
            train_on.schedule.step()
    total, signals = time.perf_counter() - began, sum(recorder.seconds.values())
    training = total - measuring - recorder.watched_seconds
    _log.info(
        "%.2f s an epoch, of which %.2f s measuring (signals and test accuracy)",
        total / experiment.epochs,
        measuring / experiment.epochs,
    )
    each = ", ".join(f"{name} {1000 * spent / experiment.records:.1f}" for name, spent in recorder.seconds.items())
    _log.info("signals cost %.1f %% of the training time; ms a record: %s", 100 * signals / training, each)


def batches(
    experiment: Experiment, dataset: Dataset, drawn: Samples, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """What the network sees in an epoch, labels, and places in (training samples, probe), batch by batch.

    Seed and epoch alone determine them.
    """
    drawn_batches = drawn.batches(experiment.batch_size, experiment.seed, epoch)
    if experiment.augmentation == "none":
        yield from ((dataset.x_train[rows], labels, places) for rows, labels, places in drawn_batches)
        return
    total, size = sum(len(batch.rows) for batch in drawn_batches), dataset.x_train.shape[-1]
    rng = stream(experiment.seed, "augmentation", epoch)
    moves = augmentation.draw(experiment.augmentation, total, size, rng, experiment.device)
    for (rows, labels, places), moves_of_batch in zip(drawn_batches, moves.split(len(drawn_batches)), strict=True):
        yield dataset.x_train.augmented(rows, moves_of_batch), labels, places


def _optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.Optimizer:
    settings = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": True}
    if experiment.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=experiment.momentum, **settings)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[experiment.optimizer]
    return kind(model.parameters(), **settings)


def _schedule(experiment: Experiment, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each epoch; stepped once an epoch."""
    if experiment.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, experiment.epochs)
    milestones = experiment.milestones if experiment.schedule == "multi_step" else ()
    return lr_scheduler.MultiStepLR(optimizer, list(milestones), experiment.decay)
