"""The signals of a run: what is measured of the network at a record, one class for what shares its work.

Each class names the columns it can fill, is made once a run and called once a record. The measures themselves are plain
functions in modules of their own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib.catalogue import LOSSES
from lib.cnd import aggregate, neuron_divergence
from lib.data.dataset import Dataset
from lib.data.samples import Part, Samples
from lib.entropy import approximate_von_neumann_entropies, shannon_entropy, von_neumann_entropies
from lib.firing import firing_frequency
from lib.gradients import evidence_criterion, gradient_disparity
from lib.graphs import activation_graphs
from lib.parameters import Experiment
from lib.predictions import AreaUnderMargin, ForgettingEvents, PredictionChanges
from lib.sensitivity import batch_loss_sensitivity, critical_sample_ratio, input_gradient_norms
from lib.training.passes import Seen

_LARGE_GRAPH = 3000  # nodes from which on the entropy of a graph is estimated


class View(NamedTuple):
    """The network at a record. `seen` and `predicted` are None where no epoch has ended yet.

    Attributes:
        model: the network, in evaluation mode.
        seen: what it put out for the measured samples and the probe, see `lib.training.passes`.
        predicted: classes of the measured samples, shape (n,).
        signal_layer: the layer that signals are read from; None where no signal needs one.
        evaluate: gives the logits on other training samples.
    """

    model: nn.Module
    seen: Seen | None
    predicted: torch.Tensor | None
    signal_layer: str | None
    evaluate: Callable[[torch.Tensor], torch.Tensor]


class Signal(ABC):
    """Base of the signals of a run; `columns` are the criteria whose values a call gives.

    `needs_layer`: whether pre-activations must be recorded; `of_passes`: whether it is read from `View.seen`, and so is
    called only where there is such; `kept`: by name, what looks back at earlier records.
    """

    columns: tuple[str, ...] = ()
    needs_layer = False
    of_passes = True

    def __init__(self, experiment: Experiment, dataset: Dataset, samples: Samples):
        self.experiment, self.dataset, self.samples = experiment, dataset, samples
        self.kept: dict[str, Any] = {}

    @abstractmethod
    def __call__(self, view: View) -> dict[str, float]:
        """The value of each column at a record; NaN where there is none yet."""

    def state_dict(self) -> dict[str, Any]:
        """What is kept from record to record, for a checkpoint."""
        return {name: kept.state_dict() for name, kept in self.kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, kept in self.kept.items():
            kept.load_state_dict(state[name])

    @property
    def part(self) -> Part:
        """The measured training samples."""
        return self.samples.measured

    def probed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and given labels of the few measured samples on which gradients and graphs are computed."""
        count = min(self.experiment.gradient_samples, len(self.part))
        return self.dataset.x_train[self.part.rows[:count]], self.part.given[:count]

    def asked(self, column: str) -> bool:
        """Whether the experiment records a column."""
        return column in self.experiment.criteria


class Divergence(Signal):
    """CND; keeps the divergence of every neuron of the record, layer after layer."""

    columns = ("cnd",)
    needs_layer = True
    bits: np.ndarray

    def __init__(self, *arguments):
        super().__init__(*arguments)
        neuron_divergence(torch.zeros(2, 1), torch.arange(2), 2)  # compiled before the first record, not in it

    def __call__(self, view: View) -> dict[str, float]:
        settings = self.experiment
        predicted = view.predicted if settings.cnd_filter == "predicted_as_labelled" else None
        by_layer = {
            name: neuron_divergence(
                z,
                self.part.given,
                self.dataset.num_classes,
                settings.cnd_bins,
                settings.cnd_weights,
                settings.cnd_estimator,
                predicted,
            )
            for name, z in view.seen.pre_activations.items()
        }
        quantile = settings.cnd_quantile if settings.cnd_aggregation == "quantile" else None
        self.bits = torch.cat(list(by_layer.values())).cpu().numpy()
        return {"cnd": aggregate(by_layer[view.signal_layer], quantile)}


class Changes(Signal):
    """Prediction changes against the previous record and over several."""

    columns = ("prediction_changes", "prediction_changes_long")

    def __init__(self, *arguments):
        super().__init__(*arguments)
        over = {"prediction_changes": 1, "prediction_changes_long": self.experiment.changes_over}
        self.kept = {name: PredictionChanges(records) for name, records in over.items() if self.asked(name)}

    def __call__(self, view: View) -> dict[str, float]:
        return {name: changes.update(view.predicted) for name, changes in self.kept.items()}


class KnownPolluted(Signal):
    """Accuracy and log-likelihood of the wrong labels of the probe."""

    columns = ("known_polluted_accuracy", "known_polluted_log_likelihood")

    def __call__(self, view: View) -> dict[str, float]:
        logits, given = view.seen.probe_logits, self.samples.probe.given
        return {
            "known_polluted_accuracy": share(logits.argmax(dim=1) == given),
            "known_polluted_log_likelihood": -cross_entropy(logits, given).item(),
        }


class Validation(Signal):
    """Accuracy on the held-out samples against their labels as given and their true ones."""

    columns = ("validation_accuracy_noisy", "validation_accuracy_clean")
    of_passes = False

    def __call__(self, view: View) -> dict[str, float]:
        part = self.samples.validation
        predicted = view.evaluate(part.rows).argmax(dim=1)
        return {
            "validation_accuracy_noisy": share(predicted == part.given),
            "validation_accuracy_clean": share(predicted == part.true),
        }


class Forgetting(Signal):
    """Share of measured samples forgotten since the record before."""

    columns = ("forgetting_events",)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kept = {"events": ForgettingEvents()}

    def __call__(self, view: View) -> dict[str, float]:
        return {"forgetting_events": self.kept["events"].update(view.predicted, self.part.given)}


class Margin(Signal):
    """Mean over the measured samples of the area under the margin."""

    columns = ("area_under_margin",)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kept = {"area": AreaUnderMargin()}

    def __call__(self, view: View) -> dict[str, float]:
        return {"area_under_margin": self.kept["area"].update(view.seen.logits, self.part.given).mean().item()}


class FiringFrequency(Signal):
    """Share of the pre-activations of the signal's layer that are above 0."""

    columns = ("firing_frequency",)
    needs_layer = True

    def __call__(self, view: View) -> dict[str, float]:
        return {
            "firing_frequency": firing_frequency(view.seen.pre_activations[view.signal_layer]).samples.mean().item()
        }


class Sensitivity(Signal):
    """Loss sensitivity: mean over samples, and the sum over batches."""

    columns = ("loss_sensitivity", "batch_loss_sensitivity")
    of_passes = False

    def __call__(self, view: View) -> dict[str, float]:
        x, labels = self.probed()
        loss, values = LOSSES[self.experiment.loss], {}
        if self.asked("loss_sensitivity"):
            values["loss_sensitivity"] = input_gradient_norms(view.model, x, labels, loss).mean().item()
        if self.asked("batch_loss_sensitivity"):
            batch = self.experiment.batch_size
            values["batch_loss_sensitivity"] = batch_loss_sensitivity(view.model, x, labels, loss, batch)
        return values


class CriticalSamples(Signal):
    """Critical sample ratio."""

    columns = ("critical_sample_ratio",)
    of_passes = False

    def __call__(self, view: View) -> dict[str, float]:
        x, _ = self.probed()
        ratio = critical_sample_ratio(view.model, x, self.experiment.critical_radius, seed=self.experiment.seed)
        return {"critical_sample_ratio": ratio}


class GraphEntropy(Signal):
    """Entropies of the activation graphs, averaged over the classes that have samples."""

    columns = ("von_neumann_entropy", "edge_entropy")
    of_passes = False

    def __call__(self, view: View) -> dict[str, float]:
        x, labels = self.probed()
        graphs = activation_graphs(view.model, x, labels, self.dataset.num_classes)
        matrices = [graphs[label] for label in labels.unique().tolist()]
        values = {}
        if self.asked("von_neumann_entropy"):
            values["von_neumann_entropy"] = float(np.mean(_von_neumann(matrices)))
        if self.asked("edge_entropy"):
            values["edge_entropy"] = float(np.mean([shannon_entropy(matrix) for matrix in matrices]))
        return values


class Gradients(Signal):
    """Gradient disparity of two halves of the probed samples, and the evidence-based criterion on all of them."""

    columns = ("gradient_disparity", "evidence")
    of_passes = False

    def __call__(self, view: View) -> dict[str, float]:
        x, labels = self.probed()
        loss, values, half = LOSSES[self.experiment.loss], {}, len(x) // 2
        if self.asked("gradient_disparity"):
            halves = (x[:half], labels[:half]), (x[half:], labels[half:])
            values["gradient_disparity"] = gradient_disparity(view.model, *halves, loss)
        if self.asked("evidence"):
            values["evidence"] = evidence_criterion(view.model, x, labels, loss)
        return values


SIGNALS: tuple[type[Signal], ...] = (
    Divergence,
    Changes,
    KnownPolluted,
    Validation,
    Forgetting,
    Margin,
    FiringFrequency,
    Sensitivity,
    CriticalSamples,
    GraphEntropy,
    Gradients,
)
"""Every signal that a run can record."""


def share(hits: torch.Tensor) -> float:
    """Share of true values, shape (n,), as a number in [0, 1]; NaN of none."""
    return hits.double().mean().item() if len(hits) else math.nan


def _von_neumann(matrices: list) -> list[float]:
    if matrices[0].shape[0] <= _LARGE_GRAPH:
        return von_neumann_entropies(matrices)
    return [estimate.value for estimate in approximate_von_neumann_entropies(matrices)]
