"""The signals of a run: a function for each criterion of `lib.catalogue`, which reads the network at a record.

What several share, as predictions, divergences and graphs, a `View` computes once; what looks back at earlier records
it keeps. The measures themselves are plain functions in modules of their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib import entropy, firing, gradients, sensitivity
from lib.catalogue import LOSSES
from lib.cnd import aggregate, neuron_divergence
from lib.data.dataset import Dataset
from lib.data.samples import Part, Samples
from lib.graphs import activation_graphs
from lib.parameters import Experiment
from lib.predictions import AreaUnderMargin, ForgettingEvents, PredictionChanges, changes
from lib.training.passes import Seen, evaluate

Part_ = TypeVar("Part_")
_LARGE_GRAPH = 3000  # nodes from which on the entropy of a graph is estimated


class NotSeen(Exception):
    """A signal asks for what the training passes have not shown yet; it has no value at this record."""


@dataclass(eq=False, repr=False)
class View:
    """The network at a record.

    Attributes:
        experiment, dataset, samples: what is trained on.
        model: the network, in evaluation mode.
        layer: whose pre-activations signals read; empty where none is recorded.
        outputs: of the network, see `lib.training.passes`; None where no epoch has ended yet.
        of_average: the same of the network with averaged weights; None where none is kept.
        keep: gives what the signal that is being read keeps from record to record; the function that it takes makes it
            at the first.
    """

    experiment: Experiment
    dataset: Dataset
    samples: Samples
    model: nn.Module
    layer: str
    outputs: Seen | None
    of_average: "View | None" = None
    keep: Callable[[Callable[[], Any]], Any] = field(init=False)

    @property
    def seen(self) -> Seen:
        """What the network put out. Raises NotSeen."""
        if self.outputs is None:
            raise NotSeen
        return self.outputs

    @property
    def average(self) -> "View":
        """The network with averaged weights."""
        return _there(self.of_average)

    @property
    def part(self) -> Part:
        """The measured training samples."""
        return self.samples.measured

    @property
    def probe(self) -> Part:
        """The known-polluted probe."""
        return _there(self.samples.probe)

    @property
    def probe_logits(self) -> torch.Tensor:
        """Logits on the known-polluted probe, shape (n, K)."""
        return _there(self.seen.probe_logits)

    @property
    def validation(self) -> Part:
        """The held-out samples."""
        return _there(self.samples.validation)

    @cached_property
    def predicted(self) -> torch.Tensor:
        """Classes of the measured samples, shape (n,)."""
        return self.seen.logits.argmax(dim=1)

    @cached_property
    def divergences(self) -> dict[str, torch.Tensor]:
        """CND in bits of the neurons of each recorded layer, as the experiment sets it."""
        counted = self.predicted if self.experiment.cnd_filter == "predicted_as_labelled" else None
        return {name: self._divergence(name, self.part.given, counted) for name in self.seen.pre_activations}

    def cnd_of_all(self, labels: torch.Tensor) -> float:
        """CND in bits, not filtered, by any labels of the measured samples, shape (n,); NaN where nobody knows them."""
        if (labels < 0).any():
            return math.nan
        return self.aggregated(self._divergence(self.layer, labels, None))

    def _divergence(self, layer: str, labels: torch.Tensor, predicted: torch.Tensor | None) -> torch.Tensor:
        settings, classes = self.experiment, self.dataset.num_classes
        how = (settings.cnd_bins, settings.cnd_weights, settings.cnd_estimator, predicted, settings.cnd_correction)
        return neuron_divergence(self.seen.pre_activations[layer], labels, classes, *how)

    def aggregated(self, divergence: torch.Tensor) -> float:
        """One number of the neurons' divergences, in bits, shape (neurons,): their quantile or mean."""
        settings = self.experiment
        return aggregate(divergence, settings.cnd_quantile if settings.cnd_aggregation == "quantile" else None)

    @cached_property
    def all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and given labels of the measured samples."""
        return self.dataset.x_train[self.part.rows], self.part.given

    @cached_property
    def few(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and given labels of the few measured samples on which gradients and graphs are computed."""
        count = min(self.experiment.gradient_samples, len(self.part))
        return self.dataset.x_train[self.part.rows[:count]], self.part.given[:count]

    @cached_property
    def graphs(self) -> list[np.ndarray]:
        """Activation graphs of the classes that the few samples have."""
        x, labels = self.few
        graphs = activation_graphs(self.model, x, labels, self.dataset.num_classes)
        return [graphs[label] for label in labels.unique().tolist()]

    @cached_property
    def predicted_held_out(self) -> torch.Tensor:
        """Classes of the held-out samples, shape (n,)."""
        return evaluate(self.model, self.dataset.x_train, self.validation.rows).argmax(dim=1)

    @property
    def loss(self) -> Callable[..., torch.Tensor]:
        """The training loss."""
        return LOSSES[self.experiment.loss].work


def _there(part: Part_ | None) -> Part_:
    """What the catalogue's row says that the signal needs, and so has been made."""
    assert part is not None
    return part


def share(hits: torch.Tensor) -> float:
    """Share of true values, shape (n,), as a number in [0, 1]; NaN of none."""
    return hits.double().mean().item() if len(hits) else math.nan


def cnd(view: View) -> float:
    """CND of the layer, over neurons the quantile or mean, in bits."""
    return view.aggregated(view.divergences[view.layer])


def prediction_changes(view: View) -> float:
    """Share of measured samples whose prediction changed since the previous record."""
    return view.keep(PredictionChanges).update(view.predicted)


def prediction_changes_long(view: View) -> float:
    """Share of measured samples whose prediction changed within several records."""
    return view.keep(lambda: PredictionChanges(view.experiment.changes_over)).update(view.predicted)


def known_polluted_accuracy(view: View) -> float:
    """Accuracy on the wrong labels of the probe."""
    return share(view.probe_logits.argmax(dim=1) == view.probe.given)


def known_polluted_log_likelihood(view: View) -> float:
    """Mean log-likelihood of the wrong labels of the probe, in nats."""
    return -cross_entropy(view.probe_logits, view.probe.given).item()


def validation_accuracy_noisy(view: View) -> float:
    """Accuracy on the held-out samples against their labels as given."""
    return share(view.predicted_held_out == view.validation.given)


def validation_accuracy_clean(view: View) -> float:
    """Accuracy on the held-out samples against their true labels."""
    return share(view.predicted_held_out == view.validation.true)


def forgetting_events(view: View) -> float:
    """Share of measured samples forgotten since the record before."""
    return view.keep(ForgettingEvents).update(view.predicted, view.part.given)


def area_under_margin(view: View) -> float:
    """Mean over the measured samples of the area under the margin, in logits."""
    return view.keep(AreaUnderMargin).update(view.seen.logits, view.part.given).mean().item()


def firing_frequency(view: View) -> float:
    """Share of the pre-activations of the layer that are above 0."""
    return firing.firing_frequency(view.seen.pre_activations[view.layer]).samples.mean().item()


def loss_sensitivity(view: View) -> float:
    """Loss sensitivity, the mean over the measured samples, in nats a unit of input."""
    return sensitivity.input_gradient_norms(view.model, *view.all, view.loss).mean().item()


def batch_loss_sensitivity(view: View) -> float:
    """Loss sensitivity summed over batches of the measured samples."""
    return sensitivity.batch_loss_sensitivity(view.model, *view.all, view.loss, view.experiment.batch_size)


def critical_sample_ratio(view: View) -> float:
    """Share of critical samples among the few."""
    settings = view.experiment
    return sensitivity.critical_sample_ratio(view.model, view.few[0], settings.critical_radius, seed=settings.seed)


def von_neumann_entropy(view: View) -> float:
    """Von Neumann entropy of the activation graphs, the mean over classes, in nats."""
    if view.graphs[0].shape[0] <= _LARGE_GRAPH:
        return float(np.mean(entropy.side_by_side(entropy.von_neumann_entropy, view.graphs)))
    estimates = entropy.side_by_side(entropy.approximate_von_neumann_entropy, view.graphs)
    return float(np.mean([estimate.value for estimate in estimates]))


def edge_entropy(view: View) -> float:
    """Shannon entropy of the edges of the activation graphs, the mean over classes, in nats."""
    return float(np.mean([entropy.shannon_entropy(graph) for graph in view.graphs]))


def gradient_disparity(view: View) -> float:
    """Gradient disparity of the two halves of the few samples."""
    (x, labels), half = view.few, len(view.few[0]) // 2
    return gradients.gradient_disparity(view.model, (x[:half], labels[:half]), (x[half:], labels[half:]), view.loss)


def evidence(view: View) -> float:
    """The evidence-based criterion on the few samples."""
    return gradients.evidence_criterion(view.model, *view.few, view.loss)


def average_disagreement(view: View) -> float:
    """Share of measured samples whose predicted class differs between the network and its average."""
    return changes(view.average.predicted, view.predicted)


def cnd_average(view: View) -> float:
    """CND of the average of the weights, in bits."""
    return cnd(view.average)


def prediction_changes_average(view: View) -> float:
    """Share of measured samples whose prediction by the average changed since the previous record."""
    return view.keep(PredictionChanges).update(view.average.predicted)


def known_polluted_log_likelihood_average(view: View) -> float:
    """Mean log-likelihood that the average gives the wrong labels of the probe, in nats."""
    return known_polluted_log_likelihood(view.average)


def validation_accuracy_clean_average(view: View) -> float:
    """Accuracy of the average on the held-out samples against their true labels."""
    return validation_accuracy_clean(view.average)
