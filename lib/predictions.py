"""Predictions of a network, and signals read off them from record to record.

`PredictionChanges`, `ForgettingEvents` and `AreaUnderMargin` have `update`, `compute` and `reset`, as torchmetrics has
it, and `compute` gives a number that any logger takes. They are no `torchmetrics.Metric`: Lightning resets one after
every epoch, which would take away the record that the next is compared with.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from . import processes
from .arrays import to_tensor
from .batches import batches, call, device_of, logits_of, moved, unwrapped
from .checks import check_at_least
from .layers import evaluating


def predict(model: nn.Module, data, batch_size: int = 1000) -> torch.Tensor:
    """Predicted classes, int64 of shape (n,), of the `logits` of a network; arguments and errors as for these."""
    return torch.cat([values.argmax(dim=1) for values in _logits(model, data, batch_size)])


def logits(model: nn.Module, data, batch_size: int = 1000) -> torch.Tensor:
    """Logits of a network in evaluation mode; the model is left as it was.

    Args:
        model: any network, wrapped or not.
        data: samples in any form that `lib.batches.batches` takes.
        batch_size: inputs in one forward pass, where they are not in batches already.

    Returns:
        Shape (n, K), on the network's device.

    Raises:
        ParameterError: for data of another form, or without a sample.
    """
    return torch.cat(list(_logits(model, data, batch_size)))


def _logits(model: nn.Module, data, batch_size: int) -> Iterator[torch.Tensor]:
    inner, device = unwrapped(model), device_of(model)
    for batch in batches(data, batch_size):
        with evaluating(model):
            yield logits_of(call(inner, moved(batch.inputs, device)))


def changes(previous, current) -> float:
    """Share of samples whose predicted class differs from the previous record.

    The signal of "Label Wave" (Yuan et al., ICLR 2024, arXiv 2502.07551), as a share instead of a count.

    Args:
        previous, current: predicted classes, both of shape (n,), arrays or tensors, n at least 1.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: if the shapes differ or no sample is given.
    """
    before, now = to_tensor(previous), to_tensor(current)
    _check_alike(before, now)
    return (before != now).double().mean().item()


def _check_alike(before: torch.Tensor, now: torch.Tensor) -> None:
    if before.shape != now.shape or before.ndim != 1 or len(before) == 0:
        raise ValueError(
            f"predictions of shapes {tuple(before.shape)} and {tuple(now.shape)}: must be (n,) twice, n > 0"
        )


class _Looking:
    """What looks back at earlier records: all its attributes are what a checkpoint must keep.

    Of processes that train together each updates its own with its own samples, the same in each record.
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Forget all records."""
        self._total, self._number = 0.0, 0

    def compute(self) -> float:
        """The value of the last record, as the mean over the samples of all processes; NaN where there is none yet.

        Processes that train together must all ask for it.
        """
        totals, numbers = zip(*processes.gathered((self._total, self._number)), strict=True)
        return sum(totals) / sum(numbers) if any(numbers) else math.nan

    def _known(self, values: torch.Tensor) -> torch.Tensor:
        """The values of a record, shape (n,), which `compute` is asked for from now on."""
        self._total, self._number = values.sum().item(), len(values)
        return values

    def state_dict(self) -> dict[str, Any]:
        """What it keeps, for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        vars(self).update(state)


class PredictionChanges(_Looking):
    """Share of samples whose predicted class was not the same at all of the last records.

    Args:
        over: records back to which predictions are compared, k at least 1; for 1 it is `changes`.

    Raises ParameterError.
    """

    def __init__(self, over: int = 1):
        check_at_least(1, over=over)
        self._over = over
        super().__init__()

    def reset(self) -> None:
        """Forget all records."""
        super().reset()
        self._last: list[torch.Tensor] = []

    def update(self, predicted) -> float:
        """Take the predicted classes of a record, shape (n,); the share in [0, 1], NaN before there are k + 1 records.

        Raises ValueError if the shape differs from that of the record before.
        """
        now = to_tensor(predicted)
        if self._last:
            _check_alike(self._last[-1], now)
        self._last = [*self._last[-self._over :], now.clone()]
        if len(self._last) <= self._over:
            return float("nan")
        changed = torch.stack([record != now for record in self._last]).any(dim=0)
        return self._known(changed.double()).mean().item()


class ForgettingEvents(_Looking):
    """Example forgetting (Toneva et al., ICLR 2019): a sample is forgotten where its prediction turns wrong again.

    Attributes:
        counts: forgetting events of each sample so far, int64, shape (n,).
        learned: whether a sample has ever been predicted as labelled, shape (n,); the unforgettable samples are those
            learned with a count of 0.
    """

    def reset(self) -> None:
        """Forget all records."""
        super().reset()
        self.counts: torch.Tensor | None = None
        self.learned: torch.Tensor | None = None
        self._was_right: torch.Tensor | None = None

    def update(self, predicted, labels) -> float:
        """Take the predicted classes of a record and the labels as given, both of shape (n,).

        Returns the share of samples forgotten since the record before, in [0, 1]; NaN at the first. Raises ValueError
        for shapes that differ.
        """
        predicted, labels = to_tensor(predicted), to_tensor(labels)
        _check_alike(predicted, labels)
        right = predicted == labels.to(predicted.device)
        if self._was_right is None:
            self.counts, self.learned, self._was_right = torch.zeros_like(predicted, dtype=torch.int64), right, right
            return float("nan")
        _check_alike(self._was_right, right)
        forgotten = self._was_right & ~right
        self.counts = self.counts + forgotten
        self.learned = self.learned | right
        self._was_right = right
        return self._known(forgotten.double()).mean().item()


class AreaUnderMargin(_Looking):
    """Area under the margin of every sample (Pleiss et al., NeurIPS 2020).

    The margin is the logit of the label as given less the largest other logit; the area is its mean over the records.
    Wrongly labelled samples tend to have a low one. `compute` gives the mean of the areas.
    """

    def reset(self) -> None:
        """Forget all records."""
        super().reset()
        self._sum: torch.Tensor | None = None
        self._records = 0

    def update(self, logits, labels) -> torch.Tensor:
        """Take the logits of a record, shape (n, K), K at least 2, and the labels as given, shape (n,).

        Returns the area of every sample so far, in logits, float64, shape (n,). Raises ValueError for shapes that do
        not fit.
        """
        logits, labels = to_tensor(logits).double(), to_tensor(labels)
        if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} and labels of {tuple(labels.shape)}: must be (n, K) and (n,)"
            )
        if self._sum is not None and self._sum.shape != labels.shape:
            raise ValueError(f"labels of shape {tuple(labels.shape)}: must be {tuple(self._sum.shape)} as before")
        own = labels.to(logits.device).long()[:, None]
        others = logits.scatter(1, own, -torch.inf)
        margin = logits.gather(1, own).squeeze(1) - others.amax(dim=1)
        self._sum = margin if self._sum is None else self._sum + margin
        self._records += 1
        return self._known(self._sum / self._records)
