"""What is measured at each record: performance, and the signals that may tell when to stop."""

import math
import time
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lib.catalogue import LOSSES
from lib.checks import ParameterError
from lib.data.dataset import Dataset
from lib.data.samples import Samples
from lib.layers import captured, check_layer, evaluating, hidden_layers
from lib.parameters import Experiment
from lib.training.passes import PASSES, Seen, evaluate
from lib.training.signals import SIGNALS, Divergence, View, share

_PERFORMANCE = (
    "train_loss",
    "train_accuracy",
    "test_accuracy",
    "corrupted_accuracy_given",
    "corrupted_accuracy_true",
)


class Measurement(NamedTuple):
    """One record.

    Attributes:
        values: a number for each column.
        divergence: of each neuron, layer after layer, NaN where there is none yet; None where CND is not asked for.
    """

    values: dict[str, float]
    divergence: np.ndarray | None


class Recorder:
    """Measures a network; columns without a value at a record hold NaN.

    What is measured of training samples is read in the passes that `signal_passes` names, test accuracy and all else
    in evaluation mode. Give every training step to `take`, inside `watching`.

    Columns: train_loss, train_accuracy (measured training samples, labels as given), test_accuracy,
    corrupted_accuracy_given and corrupted_accuracy_true (corrupted measured samples against the given and the
    true labels; memorization is the rise of the first), then one column for each criterion asked for.
    `layers` holds the neurons of each layer whose pre-activations are taken, in their order; `seconds` what each signal
    has cost so far, with what it shares with others under "passes"; `watched_seconds` the part of that which fell
    between records.
    Accuracies are shares in [0, 1]; losses and log-likelihoods are in nats. Raises ParameterError for a network
    that does not fit the data, or a `cnd_layer` that it lacks.
    """

    def __init__(self, experiment: Experiment, dataset: Dataset, samples: Samples, model: nn.Module):
        self.experiment, self.dataset, self.samples, self.model = experiment, dataset, samples, model
        self.layers: dict[str, int] = {}
        self._signal_layer: str | None = None
        asked = set(experiment.criteria)
        self._signals = [kind(experiment, dataset, samples) for kind in SIGNALS if asked.intersection(kind.columns)]
        self.seconds = {"passes": 0.0, **{type(signal).__name__: 0.0 for signal in self._signals}}
        self.watched_seconds = 0.0
        self._check_network()
        self._passes = PASSES[experiment.signal_passes](experiment, dataset, samples, model, self.layers)

    def _check_network(self) -> None:
        """A trial forward pass on two samples, so that what does not fit is said before anything is written."""
        x = self.dataset.x_train[:2]
        network, shape = self.experiment.network, tuple(x.shape[1:])
        try:
            with evaluating(self.model):
                logits = self.model(x)
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise ParameterError(f"network={network!r}: must take samples of shape {shape}; {why}") from error
        expected = (len(x), self.dataset.num_classes)
        if logits.shape != expected:
            raise ParameterError(
                f"network={network!r}: must give logits of shape {expected}, not {tuple(logits.shape)}"
            )
        if any(signal.needs_layer for signal in self._signals):
            self._find_layers(x)

    def _find_layers(self, x: torch.Tensor) -> None:
        """Which layers are recorded, and how many neurons each has."""
        hidden = hidden_layers(self.model, x)
        self._signal_layer = self.experiment.cnd_layer or hidden[-1]
        stored = self.experiment.cnd_stored_layers
        names = [*(hidden if stored == ("all",) else stored)]
        if self._signal_layer not in names:
            names.append(self._signal_layer)
        # In the order of the network, so that the last one stored is the last one hidden.
        names.sort(key=lambda name: hidden.index(name) if name in hidden else len(hidden))
        for name in names:
            check_layer(self.model, name, "cnd_layer" if name == self._signal_layer else "cnd_stored_layers")
        with captured(self.model, *names) as outputs, evaluating(self.model):
            self.model(x)
        for name in names:
            parameter = "cnd_layer" if name == self._signal_layer else "cnd_stored_layers"
            if len(outputs[name]) != 1:
                raise ParameterError(f"{parameter}={name!r}: must be a layer that a forward pass reaches once")
            self.layers[name] = outputs[name][0].shape[1]

    def watching(self) -> AbstractContextManager[None]:
        """The context in which training steps are made."""
        return self._passes.watching()

    def take(self, places: torch.Tensor, logits: torch.Tensor) -> None:
        """Note a training step on samples at some places of (training samples, probe), and its logits, shape (n, K)."""
        began = time.perf_counter()
        self._passes.take(places, logits)
        spent = time.perf_counter() - began
        self.watched_seconds += spent
        self.seconds["passes"] += spent

    def state_dict(self) -> dict[str, Any]:
        """What is kept from record to record, and the seconds spent, for a checkpoint."""
        return {
            "passes": self._passes.state_dict(),
            "signals": {type(signal).__name__: signal.state_dict() for signal in self._signals},
            "seconds": self.seconds,
            "watched_seconds": self.watched_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._passes.load_state_dict(state["passes"])
        for signal in self._signals:
            signal.load_state_dict(state["signals"][type(signal).__name__])
        self.seconds, self.watched_seconds = state["seconds"], state["watched_seconds"]

    def record(self) -> Measurement:
        """Measure the network as it is now. Raises FloatingPointError where its outputs are not finite."""
        began = time.perf_counter()
        seen = self._passes.seen()
        self.seconds["passes"] += time.perf_counter() - began
        predicted = seen.logits.argmax(dim=1) if seen else None
        values = self._performance(seen, predicted)
        view = View(self.model, seen, predicted, self._signal_layer, self._on_training_samples)
        for signal in self._signals:
            began = time.perf_counter()
            measured = signal(view) if seen or not signal.of_passes else {}
            self.seconds[type(signal).__name__] += time.perf_counter() - began
            asked = [name for name in signal.columns if name in self.experiment.criteria]
            values |= {name: measured.get(name, math.nan) for name in asked}
        return Measurement(values, self._divergence(seen))

    def _performance(self, seen: Seen | None, predicted: torch.Tensor | None) -> dict[str, float]:
        test_accuracy = self._test_accuracy()
        if seen is None:
            return {name: math.nan for name in _PERFORMANCE} | {"test_accuracy": test_accuracy}
        part = self.samples.measured
        as_given, as_true = predicted == part.given, predicted == part.true
        loss = LOSSES[self.experiment.loss](seen.logits, part.given)
        self._check_finite(loss)  # which is finite only where all logits are
        corrupted = share(as_given[part.corrupted]), share(as_true[part.corrupted])
        return dict(zip(_PERFORMANCE, (loss.item(), share(as_given), test_accuracy, *corrupted), strict=True))

    def _divergence(self, seen: Seen | None) -> np.ndarray | None:
        signal = next((signal for signal in self._signals if isinstance(signal, Divergence)), None)
        if signal is None:
            return None
        return signal.bits if seen else np.full(sum(self.layers.values()), np.nan)

    def _check_finite(self, outputs: torch.Tensor) -> None:
        if not torch.isfinite(outputs).all():
            raise FloatingPointError(
                "outputs of the network are no longer finite: training diverged, "
                f"lower learning_rate={self.experiment.learning_rate}"
            )

    def _on_training_samples(self, rows: torch.Tensor) -> torch.Tensor:
        return evaluate(self.experiment, self.model, self.dataset.x_train, rows)

    def _test_accuracy(self) -> float:
        rows = torch.arange(len(self.dataset.y_test), device=self.dataset.y_test.device)
        logits = evaluate(self.experiment, self.model, self.dataset.x_test, rows)
        self._check_finite(logits)
        return share(logits.argmax(dim=1) == self.dataset.y_test)
