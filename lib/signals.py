"""What is measured at each record: performance, and the signals that may tell when to stop."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib.checks import ParameterError
from lib.cnd import neuron_divergence
from lib.dataset import Dataset
from lib.layers import captured, check_layer, evaluating, hidden_layers
from lib.losses import LOSSES
from lib.parameters import Experiment
from lib.predictions import changes
from lib.samples import Part, Samples

_EVALUATION_BATCH = 500


class Measurement(NamedTuple):
    """One record: a number for each column, and the divergence of each neuron, layer after layer (None without CND)."""

    values: dict[str, float]
    divergence: np.ndarray | None


class Recorder:
    """Measures a network, always in evaluation mode; columns without a value at a record hold NaN.

    Columns: train_loss, train_accuracy (measured training samples, labels as given), test_accuracy,
    corrupted_accuracy_given and corrupted_accuracy_true (corrupted measured samples against the given and the
    true labels; memorization is the rise of the first), then one column for each criterion asked for.
    `layers` holds the neurons of each layer whose divergences are recorded, in their order.
    Accuracies are shares in [0, 1]; losses and log-likelihoods are in nats. Raises ParameterError for a network
    that does not fit the data, or a `cnd_layer` that it lacks.
    """

    def __init__(self, experiment: Experiment, dataset: Dataset, samples: Samples, model: nn.Module):
        self.experiment, self.dataset, self.samples, self.model = experiment, dataset, samples, model
        self.layers: dict[str, int] = {}
        self._signal_layer: str | None = None
        self._previous: torch.Tensor | None = None
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
        if "cnd" in self.experiment.criteria:
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
        asked = self.experiment.criteria
        part = self.samples.measured
        with captured(self.model, *self.layers) as outputs:
            logits = self._logits(self.dataset.x_train, part.rows)
        if not torch.isfinite(logits).all():
            raise FloatingPointError(
                "outputs of the network are no longer finite: training diverged, "
                f"lower learning_rate={self.experiment.learning_rate}"
            )
        predicted = logits.argmax(dim=1)
        values = {
            "train_loss": LOSSES[self.experiment.loss](logits, part.given).item(),
            "train_accuracy": _share(predicted == part.given),
            "test_accuracy": self._test_accuracy(),
            "corrupted_accuracy_given": _share((predicted == part.given)[part.corrupted]),
            "corrupted_accuracy_true": _share((predicted == part.true)[part.corrupted]),
        }
        divergence = None
        if "cnd" in asked:
            by_layer = {name: self._divergence(torch.cat(z), predicted, part) for name, z in outputs.items()}
            values["cnd"] = float(np.quantile(by_layer[self._signal_layer], self.experiment.cnd_quantile))
            divergence = np.concatenate(list(by_layer.values()))
        if "prediction_changes" in asked:
            values["prediction_changes"] = math.nan if self._previous is None else changes(self._previous, predicted)
            self._previous = predicted
        values |= self._known_polluted() | self._validation()
        return Measurement(values, divergence)

    def _logits(self, inputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        with evaluating(self.model), autocast(self.experiment):
            return torch.cat([self.model(inputs[batch]) for batch in rows.split(_EVALUATION_BATCH)]).float()

    def _test_accuracy(self) -> float:
        rows = torch.arange(len(self.dataset.y_test), device=self.dataset.y_test.device)
        return _share(self._logits(self.dataset.x_test, rows).argmax(dim=1) == self.dataset.y_test)

    def _divergence(self, z: torch.Tensor, predicted: torch.Tensor, part: Part) -> np.ndarray:
        labels = part.given
        if self.experiment.cnd_filter == "predicted_as_labelled":
            as_labelled = predicted == labels
            z, labels = z[as_labelled], labels[as_labelled]
        if len(labels) == 0:
            return np.full(z.shape[1], np.nan)
        bits = neuron_divergence(
            z, labels, self.dataset.num_classes, self.experiment.cnd_bins, self.experiment.cnd_weights
        )
        return bits.cpu().numpy()

    def _known_polluted(self) -> dict[str, float]:
        probe = self.samples.probe
        if probe is None:
            return {}
        logits = self._logits(self.dataset.x_train, probe.rows)
        values = {
            "known_polluted_accuracy": _share(logits.argmax(dim=1) == probe.given),
            "known_polluted_log_likelihood": -cross_entropy(logits, probe.given).item(),
        }
        return {name: value for name, value in values.items() if name in self.experiment.criteria}

    def _validation(self) -> dict[str, float]:
        part = self.samples.validation
        if part is None:
            return {}
        predicted = self._logits(self.dataset.x_train, part.rows).argmax(dim=1)
        values = {
            "validation_accuracy_noisy": _share(predicted == part.given),
            "validation_accuracy_clean": _share(predicted == part.true),
        }
        return {name: value for name, value in values.items() if name in self.experiment.criteria}


def autocast(experiment: Experiment) -> torch.autocast:
    """The context in which the experiment's network computes: mixed precision where its dtype is bfloat16."""
    kind = torch.device(experiment.device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=experiment.dtype == "bfloat16")


def _share(hits: torch.Tensor) -> float:
    return hits.double().mean().item() if len(hits) else math.nan
