"""Where the signals of a record are read: in the training passes themselves, or in passes made for them.

Training sees every sample once an epoch, so what the network says of it then costs nothing more: predictions as
Label Wave, forgetting events (Toneva et al., ICLR 2019) and the area under the margin (Pleiss et al., NeurIPS 2020)
take them. A sample's value is then up to an epoch old, and seen with dropout, batch statistics and augmentation.
Passes in evaluation mode show the network as it is at the record and cost about a third of training on those samples.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from lib.data.dataset import Dataset
from lib.data.inputs import Inputs
from lib.data.samples import Samples
from lib.latest import Latest
from lib.layers import captured, evaluating
from lib.parameters import Experiment

_EVALUATION_BATCH = 500


class Seen(NamedTuple):
    """What a network put out.

    Attributes:
        logits: on the measured samples, float32, shape (n, K).
        probe_logits: on the known-polluted probe, float32; None where there is none.
        pre_activations: of each recorded layer on the measured samples, shape (n, neurons).
    """

    logits: torch.Tensor
    probe_logits: torch.Tensor | None
    pre_activations: dict[str, torch.Tensor]


class Passes:
    """Passes over the measured samples and the probe in evaluation mode, made at each record."""

    def __init__(
        self, experiment: Experiment, dataset: Dataset, samples: Samples, model: nn.Module, layers: dict[str, int]
    ):
        self._inputs, self._samples, self._model, self._layers = dataset.x_train, samples, model, layers
        self._pooling = experiment.cnd_pooling

    def watching(self) -> AbstractContextManager[None]:
        """The context in which training steps are made: here none of them is watched."""
        return nullcontext()

    def take(self, places: torch.Tensor, logits: torch.Tensor) -> None:
        """Take what a training step on samples at these places of (training samples, probe) has put out: not here."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs of it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""

    def seen(self) -> Seen | None:
        """The network as it is now; in training passes None where not every sample was seen yet."""
        return look(self._model, self._inputs, self._samples, self._layers, self._pooling)


class TrainingPasses(Passes):
    """What the network put out when it last trained on each measured sample and each of the probe."""

    def __init__(
        self, experiment: Experiment, dataset: Dataset, samples: Samples, model: nn.Module, layers: dict[str, int]
    ):
        super().__init__(experiment, dataset, samples, model, layers)
        measured, probe = samples.measured.rows, samples.probe.rows if samples.probe else samples.train.rows[:0]
        device, self._measured = measured.device, len(measured)
        kept = self._measured + len(probe)
        rows = torch.full((len(samples.train) + len(probe),), kept, device=device)
        rows[torch.searchsorted(samples.train.rows, measured)] = torch.arange(len(measured), device=device)
        rows[len(samples.train) :] = torch.arange(self._measured, kept, device=device)
        self._latest = Latest(kept, rows.__getitem__, device)
        self._unseen = len(rows)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Training steps inside are watched."""
        with captured(self._model, *self._layers, pooling=self._pooling, only_training=True) as self._latest.outputs:
            yield

    def take(self, places: torch.Tensor, logits: torch.Tensor) -> None:
        """Keep what a training step on samples at these places of (training samples, probe) has put out."""
        self._latest.take(places, logits=logits)
        self._unseen = max(0, self._unseen - len(places))

    def state_dict(self) -> dict[str, Any]:
        """The latest of each sample, for a checkpoint."""
        return {"latest": self._latest.state_dict(), "unseen": self._unseen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._latest.load_state_dict(state["latest"])
        self._unseen = state["unseen"]

    def seen(self) -> Seen | None:
        """The latest of each sample; None before the end of the first epoch."""
        self._latest.sort_in()
        if self._unseen:
            return None
        n, logits = self._measured, self._latest["logits"]
        pre_activations = {name: self._latest[name][:n] for name in self._layers}
        return Seen(logits[:n], logits[n:] if len(logits) > n else None, pre_activations)


def look(model: nn.Module, inputs: Inputs, samples: Samples, layers: Iterable[str], pooling: str) -> Seen:
    """What a network puts out for the measured samples and the probe in evaluation mode, with some of its layers."""
    with captured(model, *layers, pooling=pooling) as outputs:
        logits = evaluate(model, inputs, samples.measured.rows)
    probe_logits = evaluate(model, inputs, samples.probe.rows) if samples.probe else None
    return Seen(logits, probe_logits, {name: torch.cat(z) for name, z in outputs.items()})


def evaluate(model: nn.Module, inputs: Inputs, rows: torch.Tensor) -> torch.Tensor:
    """Logits on some rows of the inputs in evaluation mode, float32, shape (n, K).

    Signals are read in single precision also where training is in half: it would merge neighbouring values.
    """
    with evaluating(model):
        return torch.cat([model(inputs[batch]) for batch in rows.split(_EVALUATION_BATCH)]).float()
