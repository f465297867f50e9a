"""What training is made of: batches, steps and the schedule of the learning rate."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from lib.catalogue import LOSSES
from lib.data import augmentation
from lib.data.dataset import Dataset
from lib.data.samples import Samples
from lib.parameters import Experiment
from lib.seeds import stream
from lib.training.precision import autocast, bfloat16_products


class Step:
    """One step of training on a batch: forward in the precision asked for, backward, update of the weights."""

    def __init__(self, experiment: Experiment, model: nn.Module):
        self.experiment, self.model = experiment, model
        self.loss_function = LOSSES[experiment.loss].work
        self.optimizer = _optimizer(experiment, model)
        self.schedule = make_schedule(experiment, self.optimizer)

    def __call__(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Train on inputs of shape (n, ...) and labels of shape (n,); gives its logits on them."""
        self.optimizer.zero_grad(set_to_none=True)
        with bfloat16_products(self.experiment):
            with autocast(self.experiment):
                logits = self.model(x).float()  # losses are too fine for half precision
                loss = self.loss_function(logits, labels)
            loss.backward()
        self.optimizer.step()
        return logits.detach()


def batches(
    experiment: Experiment, dataset: Dataset, drawn: Samples, epoch: int, first: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """What the network sees in an epoch, labels, and places in (training samples, probe), batch by batch.

    Seed and epoch alone determine them; those before the `first`, counted from 0, are left out.
    """
    drawn_batches = drawn.batches(experiment.batch_size, experiment.seed, epoch)
    if experiment.augmentation == "none":
        yield from ((dataset.x_train[rows], labels, places) for rows, labels, places in drawn_batches[first:])
        return
    total, size = sum(len(batch.rows) for batch in drawn_batches), dataset.x_train.shape[-1]
    rng = stream(experiment.seed, "augmentation", epoch)
    moves = augmentation.draw(experiment.augmentation, total, size, rng, experiment.device)
    moved = zip(drawn_batches, moves.split(len(drawn_batches)), strict=True)
    for (rows, labels, places), moves_of_batch in itertools.islice(moved, first, None):
        yield dataset.x_train.augmented(rows, moves_of_batch), labels, places


def _optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": True}
    if experiment.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=experiment.momentum, **settings)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[experiment.optimizer]
    return kind(model.parameters(), **settings)


def make_schedule(experiment: Experiment, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each epoch; stepped once an epoch."""
    if experiment.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, experiment.epochs)
    return lr_scheduler.MultiStepLR(
        optimizer, experiment.milestones, experiment.decay
    )  # none where the rate is constant
