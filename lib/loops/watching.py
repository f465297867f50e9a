"""Signals read in the training passes of any loop, at no pass more."""

import inspect
import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.utils.data import DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from .. import processes
from ..averaging import WeightAverage
from ..batches import INDICES, LABELS, Batch, again, call, device_of, logits_of, moved, unwrapped
from ..checks import ParameterError, check_at_least
from ..cnd import aggregate, neuron_divergence
from ..latest import Latest
from ..layers import (
    captured,
    check_layer,
    evaluating,
    is_compiled,
    last_hidden_layer,
    looked_at,
    outside_graphs,
    split_pooling,
)
from ..predictions import ForgettingEvents, PredictionChanges

SIGNALS = {"cnd": "max", "prediction_changes": "min", "forgetting_events": "min", "average_disagreement": "min"}
"""The signals, and which extremum tells when to stop."""
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)
_LARGEST = 2**31  # a larger index is no place in a training set
_NO_INDEX = (
    "index=None: must be the place of each sample in the training set: give batches of (x, y, index), or dicts with "
    "'index', as a dataset in Indexed does, or data= to look at"
)


class Watcher:
    """What training shows of its samples; enter it around every epoch, and ask `compute` at its end.

    Training sees every sample once an epoch, so what the network says of it then costs nothing more; it is up to an
    epoch old, and seen with dropout, batch statistics and augmentation. `look` makes passes in evaluation mode instead.
    Kept are the latest outputs for the first samples that are seen until the first `compute`. Processes that train
    together know the same at its end.

    Args:
        model: any network, wrapped or not, in training mode where it trains.
        num_classes: K.
        layer: whose pre-activations CND is of; None: `lib.layers.last_hidden_layer`.
        pooling: of its maps over their positions, "max" as published or "mean".
        only_predicted: whether for CND only samples count that are predicted as labelled; None: with at most 10
            classes, as published.
        quantile: of the neurons' CND; None: their mean.
        samples: to keep at most; memory is that many pre-activations and logits.
        average: of the weights, where the disagreement with it is asked for.
        every: of so many batches one is given to the average too.

    Attributes:
        layer: the name of the layer; None until the first pass.

    Raises ParameterError.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        layer: str | None = None,
        pooling: str = "max",
        only_predicted: bool | None = None,
        quantile: float | None = 0.9,
        samples: int = 10_000,
        average: WeightAverage | None = None,
        every: int = 16,
    ):
        check_at_least(2, num_classes=num_classes)
        check_at_least(1, samples=samples, every=every)
        if layer:
            check_layer(model, split_pooling(layer)[0])
        self.model, self.layer = model, layer
        self._classes, self._pooling, self._quantile, self._average = num_classes, pooling, quantile, average
        self._only_predicted = num_classes <= 10 if only_predicted is None else only_predicted
        self._samples, self._every = samples, every
        self._hooks, self._outputs = ExitStack(), dict[str, list[torch.Tensor]]()
        self._pass: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._logits: torch.Tensor | None = None
        self._batch, self._entered, self._aside = Batch(None), False, False
        self.reset()

    def reset(self) -> None:
        """Forget everything, as at the beginning, but the layer."""
        self._latest = Latest(self._samples, self._rows, device_of(self.model))
        self._row_of, self._kept, self._open = torch.empty(0, dtype=torch.long), 0, True
        self._changes, self.forgetting = PredictionChanges(), ForgettingEvents()
        self._restart()

    def _restart(self) -> None:
        self._updates = 0
        self._disagreed = torch.zeros(2, dtype=torch.float64, device=device_of(self.model))

    def __enter__(self) -> "Watcher":
        devices = len(self.model.device_ids) if isinstance(self.model, nn.DataParallel) else 1
        if devices > 1:
            raise ParameterError(
                f"model in DataParallel on {devices} devices: must be in DistributedDataParallel, or be given data="
            )
        inner = unwrapped(self.model)
        if is_compiled(self.model) and not self._entered:
            torch.compiler.reset()  # what was compiled before calls no hooks
        self._entered = True
        begin, end = outside_graphs(self._begin, self.model), outside_graphs(self._end, self.model)
        self._hooks.enter_context(inner.register_forward_pre_hook(begin, with_kwargs=True))
        self._hooks.enter_context(inner.register_forward_hook(end))
        self._capture()
        return self

    def __exit__(self, *_error: object) -> None:
        self._hooks.close()
        self._outputs, self._pass, self._logits = {}, None, None

    def _capture(self) -> None:
        if self.layer:
            watched = captured(self.model, self.layer, pooling=self._pooling, only_training=True)
            self._outputs = self._hooks.enter_context(watched)

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]):
        """Before a pass: the index is noted, which few networks take, and in the first one the layer found."""
        own = inspect.signature(module.forward).parameters if kwargs else ()
        index = {name: value for name, value in kwargs.items() if name in INDICES}
        kwargs = {name: value for name, value in kwargs.items() if name not in index or name in own}
        if module.training and not self._aside:
            labels = next((kwargs[name] for name in LABELS if name in kwargs), None)
            beside = [value for name, value in index.items() if name not in own]
            self._batch = Batch(None, labels, next(iter([*beside, *index.values()]), None))
            self._pass, self._logits = (args, kwargs), None
            if self.layer is None:
                self._find(module, args, kwargs)
        return args, kwargs

    def _find(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._aside = True
        named = dict(zip(inspect.signature(module.forward).parameters, args, strict=False)) | kwargs
        inputs: Any = named if kwargs else args[0] if len(args) == 1 else args
        try:
            with torch.random.fork_rng(devices=[]):
                self.layer = last_hidden_layer(module, [Batch(inputs)])
        finally:
            self._aside = False
        self._capture()

    def _end(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if module.training and not self._aside:
            self._logits = logits_of(output).detach()

    def update(self, index: Any = None, logits: Any = None, labels: Any = None) -> None:
        """Take what a training step has put out, after its pass.

        Args:
            index: places of its samples in the training set, integers of shape (n,).
            logits: shape (n, K); None: those that the pass gave.
            labels: as given, so noisy, shape (n,).
            Index and labels that the network was called with by name may be None.

        Raises ParameterError for shapes that do not fit, or without a pass of the network in training mode.
        """
        if self._pass is None or self._logits is None:
            network = type(unwrapped(self.model)).__name__
            raise ParameterError(f"update(): must come after a training pass of the watched {network}, inside `with`")
        index, labels = self._batch.places if index is None else index, self._batch.labels if labels is None else labels
        logits = self._logits if logits is None else logits.detach()
        steps = self._outputs[str(self.layer)]
        if not steps:
            raise ParameterError(f"layer={self.layer!r}: must be a layer that a training pass reaches")
        steps = steps if sum(map(len, steps)) == len(logits) else steps[-1:]
        self._take(index, logits, labels, torch.cat(steps))
        if self._average and (self._updates - 1) % self._every == 0 and len(logits) == len(self._logits):
            args, kwargs = self._pass
            self._compare(logits, lambda network: network(*args, **kwargs))
        for outputs in self._outputs.values():
            outputs.clear()
        self._pass = None

    def look(self, data) -> None:
        """Take what the network as it is now puts out for samples with labels, in evaluation mode.

        Args:
            data: in any form that `lib.batches.batches` takes; where the batches have no index, always in one order. Of
                more samples than are kept, the first; with an index the same ones, wherever they are.

        Raises ParameterError for samples without labels, or that are shuffled.
        """
        shuffled, first = isinstance(_sampler(data), _SHUFFLING), 0
        seen = torch.zeros(self._samples + 1, dtype=torch.bool)  # rows, the last one of samples that are not kept
        self.layer = self.layer or last_hidden_layer(self.model, again(data))
        for batch, z, logits in looked_at(self.model, data, self.layer, pooling=self._pooling):
            if batch.places is None and shuffled:
                raise ParameterError(_NO_INDEX)
            index = torch.arange(first, first + len(z)) if batch.places is None else batch.places
            first += len(z)
            self._take(index, logits, batch.labels, z)
            if self._average:
                inputs = moved(batch.inputs, logits.device)
                self._compare(logits, lambda network, inputs=inputs: call(network, inputs))
            seen[self._rows(torch.as_tensor(index))] = True
            if first >= self._samples if self._open else seen[: self._kept].all():
                break

    def _take(self, index: Any, logits: torch.Tensor, labels: Any, z: torch.Tensor) -> None:
        if index is None or labels is None:
            raise ParameterError(_NO_INDEX if index is None else "labels=None: must be the labels as given")
        index, labels = torch.as_tensor(index), torch.as_tensor(labels, device=logits.device).detach()
        if logits.shape != (len(z), self._classes) or index.shape != labels.shape or index.shape != (len(z),):
            shapes = ", ".join(str(tuple(values.shape)) for values in (index, logits, labels))
            raise ParameterError(
                f"index, logits, labels of shapes {shapes}: must be (n,), (n, {self._classes}), (n,) for the "
                f"n={len(z)} samples of the pass"
            )
        seen = torch.ones_like(labels, dtype=torch.long)
        self._latest.take(index, logits=logits, labels=labels.long(), pre_activations=z, seen=seen)
        self._updates += 1

    def _compare(self, logits: torch.Tensor, called) -> None:
        assert self._average
        with evaluating(self._average.model):
            theirs = logits_of(called(self._average.model)).argmax(dim=1)
        differ = (theirs != logits.argmax(dim=1)).sum()
        self._disagreed += torch.stack([differ, torch.full_like(differ, len(logits))])

    def _rows(self, index: torch.Tensor) -> torch.Tensor:
        """The row of each sample in the tables; until the first epoch ends, new ones are given to new samples."""
        index = index.cpu().long()
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= _LARGEST:
            raise ParameterError(f"index in [{low}, {high}]: must be places in the training set, from 0")
        if high >= len(self._row_of):
            larger = torch.full((max(high + 1, 2 * len(self._row_of)),), self._samples)
            larger[: len(self._row_of)] = self._row_of
            self._row_of = larger
        if self._open:
            new = index[self._row_of[index] == self._samples].unique()[: self._samples - self._kept]
            self._row_of[new] = torch.arange(self._kept, self._kept + len(new))
            self._kept += len(new)
        return self._row_of[index]

    def compute(self) -> dict[str, float]:
        """The signals of the epoch, by name; NaN where there is none yet.

        "cnd" in bits; "prediction_changes" and "forgetting_events" as shares of the samples that are kept, since the
        epoch before; with an average "average_disagreement", the share of the samples given to both on which the
        classes predicted by the network and its average differ. Raises ParameterError where nothing was taken.
        """
        self._latest.sort_in()
        self._share()
        if self._kept == 0:
            raise ParameterError("compute(): must come after update()")
        self._open = False
        logits, labels, z = (self._latest[name][: self._kept] for name in ("logits", "labels", "pre_activations"))
        predicted = logits.argmax(dim=1)
        counted = predicted if self._only_predicted else None
        finite = bool(z.isfinite().all())
        bits = neuron_divergence(z, labels, self._classes, predicted=counted) if finite else torch.tensor([math.nan])
        signals = {
            "cnd": aggregate(bits, self._quantile),
            "prediction_changes": self._changes.update(predicted),
            "forgetting_events": self.forgetting.update(predicted, labels),
        }
        if self._average:
            differ, compared = processes.summed(self._disagreed).tolist()
            signals["average_disagreement"] = differ / compared if compared else math.nan
        self._restart()
        return processes.of_first(signals)

    def _share(self) -> None:
        """Bring together what the processes have seen since the last time."""
        if processes.count() == 1:
            return
        if self._open:
            self._same_rows()
        seen = self._latest["seen"].clone()
        times = processes.summed(seen)
        for name in ("logits", "labels", "pre_activations"):
            table = self._latest[name]
            of_seen = (seen > 0).view(-1, *[1] * (table.ndim - 1))
            total = processes.summed(torch.where(of_seen, table, 0))
            divided = times.clamp(min=1).view(of_seen.shape)
            mean = total / divided if table.is_floating_point() else total // divided
            table.copy_(torch.where(times.view(of_seen.shape) > 0, mean, table))
        self._latest["seen"].zero_()

    def _same_rows(self) -> None:
        """The samples that any process has seen first, in the same rows everywhere."""
        mine = (self._row_of < self._samples).nonzero()[:, 0]
        everyone = torch.cat(processes.gathered(mine)).unique()
        chosen = everyone[torch.linspace(0, len(everyone) - 1, min(self._samples, len(everyone))).long()]
        row_of = torch.full((int(everyone.max()) + 1,), self._samples)
        row_of[chosen] = torch.arange(len(chosen))
        self._latest.rearrange(self._row_of[mine], row_of[mine])
        self._row_of, self._kept = row_of, len(chosen)

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in, for a checkpoint of torch."""
        return {
            "latest": self._latest.state_dict(),
            "row_of": self._row_of,
            "kept": self._kept,
            "open": self._open,
            "layer": self.layer,
            "changes": self._changes.state_dict(),
            "forgetting": self.forgetting.state_dict(),
            "updates": self._updates,
            "disagreed": self._disagreed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        device = self._disagreed.device
        self._latest.load_state_dict(state["latest"])
        self._row_of, self._kept, self._open = state["row_of"].cpu(), state["kept"], state["open"]
        self.layer, self._updates = state["layer"], state["updates"]
        self._changes.load_state_dict(moved(state["changes"], device))
        self.forgetting.load_state_dict(moved(state["forgetting"], device))
        self._disagreed = state["disagreed"].to(device)


watch = Watcher
"""As it reads before a loop: `signals = watch(model, num_classes=10)`, and `with signals:` around each epoch."""


def _sampler(data: Any) -> Any:
    """What puts the samples of a `DataLoader` in order; None of other data."""
    return getattr(getattr(data, "batch_sampler", None), "sampler", None) or getattr(data, "sampler", None)
