"""What is measured at each record: performance, and the signals that may tell when to stop."""

import time
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lib.checks import ParameterError
from lib.dataset import Dataset
from lib.layers import captured, check_layer, evaluating, hidden_layers
from lib.losses import LOSSES
from lib.measures import SIGNALS, Divergence, View, share
from lib.parameters import Experiment
from lib.samples import Samples

_EVALUATION_BATCH = 500


class Measurement(NamedTuple):
    """One record.

    Attributes:
        values: a number for each column.
        divergence: of each neuron, layer after layer; None where CND is not asked for.
    """

    values: dict[str, float]
    divergence: np.ndarray | None


class Recorder:
    """Measures a network, always in evaluation mode; columns without a value at a record hold NaN.

    Columns: train_loss, train_accuracy (measured training samples, labels as given), test_accuracy,
    corrupted_accuracy_given and corrupted_accuracy_true (corrupted measured samples against the given and the
    true labels; memorization is the rise of the first), then one column for each criterion asked for.
    `layers` holds the neurons of each layer whose pre-activations are taken, in their order; `seconds` what each signal
    has cost so far, with the passes over samples that it shares with others under "forward".
    Accuracies are shares in [0, 1]; losses and log-likelihoods are in nats. Raises ParameterError for a network
    that does not fit the data, or a `cnd_layer` that it lacks.
    """

    def __init__(self, experiment: Experiment, dataset: Dataset, samples: Samples, model: nn.Module):
        self.experiment, self.dataset, self.samples, self.model = experiment, dataset, samples, model
        self.layers: dict[str, int] = {}
        self._signal_layer: str | None = None
        asked = set(experiment.criteria)
        self._signals = [kind(experiment, dataset, samples) for kind in SIGNALS if asked.intersection(kind.columns)]
        self.seconds = {"forward": 0.0, **{type(signal).__name__: 0.0 for signal in self._signals}}
        self._check_network()

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
        for name in names:
            check_layer(self.model, name, "cnd_layer" if name == self._signal_layer else "cnd_stored_layers")
        with captured(self.model, *names) as outputs, evaluating(self.model):
            self.model(x)
        for name in names:
            parameter = "cnd_layer" if name == self._signal_layer else "cnd_stored_layers"
            if len(outputs[name]) != 1:
                raise ParameterError(f"{parameter}={name!r}: must be a layer that a forward pass reaches once")
            self.layers[name] = outputs[name][0].shape[1]

    def record(self) -> Measurement:
        """Measure the network as it is now. Raises FloatingPointError where its outputs are not finite."""
        part, began = self.samples.measured, time.perf_counter()
        with captured(self.model, *self.layers) as outputs:
            logits = self._logits(self.dataset.x_train, part.rows)
        if not torch.isfinite(logits).all():
            raise FloatingPointError(
                "outputs of the network are no longer finite: training diverged, "
                f"lower learning_rate={self.experiment.learning_rate}"
            )
        self.seconds["forward"] += time.perf_counter() - began
        predicted = logits.argmax(dim=1)
        values = {
            "train_loss": LOSSES[self.experiment.loss](logits, part.given).item(),
            "train_accuracy": share(predicted == part.given),
            "test_accuracy": self._test_accuracy(),
            "corrupted_accuracy_given": share((predicted == part.given)[part.corrupted]),
            "corrupted_accuracy_true": share((predicted == part.true)[part.corrupted]),
        }
        pre_activations = {name: torch.cat(z) for name, z in outputs.items()}
        view = View(self.model, logits, predicted, pre_activations, self._signal_layer, self._on_training_samples)
        for signal in self._signals:
            began = time.perf_counter()
            measured = signal(view)
            self.seconds[type(signal).__name__] += time.perf_counter() - began
            values |= {name: measured[name] for name in signal.columns if name in self.experiment.criteria}
        divergence = next((signal.bits for signal in self._signals if isinstance(signal, Divergence)), None)
        return Measurement(values, divergence)

    def _on_training_samples(self, rows: torch.Tensor) -> torch.Tensor:
        return self._logits(self.dataset.x_train, rows)

    def _logits(self, inputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        with evaluating(self.model), autocast(self.experiment):
            return torch.cat([self.model(inputs[batch]) for batch in rows.split(_EVALUATION_BATCH)]).float()

    def _test_accuracy(self) -> float:
        rows = torch.arange(len(self.dataset.y_test), device=self.dataset.y_test.device)
        return share(self._logits(self.dataset.x_test, rows).argmax(dim=1) == self.dataset.y_test)


def autocast(experiment: Experiment) -> torch.autocast:
    """The context in which the experiment's network computes: mixed precision where its dtype is bfloat16."""
    kind = torch.device(experiment.device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=experiment.dtype == "bfloat16")
