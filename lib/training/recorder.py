"""What is measured at each record: performance, and the signals that may tell when to stop."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lib.catalogue import CRITERIA
from lib.checks import ParameterError
from lib.cnd import neuron_divergence
from lib.data.dataset import Dataset
from lib.data.samples import Samples
from lib.layers import captured, check_layer, evaluating, hidden_layers, last_hidden_layer, split_pooling
from lib.parameters import Experiment
from lib.training.passes import Passes, TrainingPasses, evaluate, look
from lib.training.precision import autocast, bfloat16_products
from lib.training.signals import NotSeen, View, share

CND_OF_ALL = ("cnd_given_all", "cnd_true_all")
PERFORMANCE = ("train_loss", "train_accuracy", "test_accuracy", "corrupted_accuracy_given", "corrupted_accuracy_true")


class Recorder:
    """Measures a network; columns without a value at a record hold NaN.

    What is measured of training samples is read in the passes that `signal_passes` names, test accuracy and all else
    in evaluation mode. Give every training step to `take`, inside `watching`.

    Columns: train_loss, train_accuracy (measured training samples, labels as given), test_accuracy,
    corrupted_accuracy_given and corrupted_accuracy_true (corrupted measured samples against the given and the
    true labels; memorization is the rise of the first), where an average of the weights is kept
    test_accuracy_average and corrupted_accuracy_given_average, where CND is asked for cnd_given_all and
    cnd_true_all (CND of all measured samples, by the given and by the true labels), then one column for each
    criterion asked for. What needs true labels is NaN where nobody knows them, what needs a test set without one.
    `layers` holds the neurons of each layer whose pre-activations are taken, in their order; `seconds` what each signal
    has cost so far, where several share something the first of them, and the passes; `watched_seconds` the part of
    those that fell between records.
    Accuracies are shares in [0, 1]; losses and log-likelihoods are in nats. Raises ParameterError for a network
    that does not fit the data, or a `cnd_layer` that it lacks.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        samples: Samples,
        model: nn.Module,
        average: nn.Module | None = None,
    ):
        self.experiment, self.dataset, self.samples, self.model = experiment, dataset, samples, model
        self._average = average
        self.layers: dict[str, int] = {}
        self._layer = ""
        self.seconds = dict.fromkeys(("passes", "average", *experiment.criteria), 0.0)
        self.watched_seconds = 0.0
        self._kept: dict[str, Any] = {}
        self._kept_before: dict[str, Any] = {}
        self._check_network()
        passes = TrainingPasses if experiment.signal_passes == "training" else Passes
        self._passes = passes(experiment, dataset, samples, model, self.layers)
        if "cnd" in experiment.criteria:
            neuron_divergence(torch.zeros(2, 1), torch.arange(2), 2)  # compiled before the first record, not in it

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
        if self.experiment.asks_for("layer"):
            self._find_layers(x)

    def _find_layers(self, x: torch.Tensor) -> None:
        """Which layers are recorded, and how many neurons each has."""
        try:
            hidden = hidden_layers(self.model, x)
        except ParameterError:
            if not self.experiment.cnd_layer:
                raise
            hidden = []
        self._layer = self.experiment.cnd_layer or last_hidden_layer(self.model, x)
        stored = self.experiment.cnd_stored_layers
        names = [*(hidden if stored == ("all",) else stored)]
        if self._layer not in names:
            names.append(self._layer)
        # In the order of the network; of those at one place the own one is last, and so found again.
        place = {name: place for place, name in enumerate(hidden)}
        names.sort(key=lambda name: (place.get(split_pooling(name)[0], len(hidden)), name == self._layer))
        parameters = {name: "cnd_layer" if name == self._layer else "cnd_stored_layers" for name in names}
        for name, parameter in parameters.items():
            check_layer(self.model, split_pooling(name)[0], parameter)
        with captured(self.model, *names, pooling=self.experiment.cnd_pooling) as outputs, evaluating(self.model):
            self.model(x)
        for name, parameter in parameters.items():
            if not outputs[name]:
                raise ParameterError(f"{parameter}={name!r}: must be a layer that a forward pass reaches")
            self.layers[name] = outputs[name][0].shape[1]

    def watching(self) -> AbstractContextManager[None]:
        """The context in which training steps are made."""
        return self._passes.watching()

    def take(self, places: torch.Tensor, logits: torch.Tensor) -> None:
        """Note a training step on samples at some places of (training samples, probe), and its logits, shape (n, K)."""
        self.watched_seconds += self._timed("passes", lambda: self._passes.take(places, logits))[1]

    def _timed(self, what: str, work: Callable[[], Any]) -> tuple[Any, float]:
        began = time.perf_counter()
        done = work()
        spent = time.perf_counter() - began
        self.seconds[what] += spent
        return done, spent

    def state_dict(self) -> dict[str, Any]:
        """What is kept from record to record, and the seconds spent, for a checkpoint."""
        kept = {name: one.state_dict() for name, one in self._kept.items()}
        return {
            "passes": self._passes.state_dict(),
            "kept": self._kept_before | kept,
            "seconds": self.seconds,
            "watched_seconds": self.watched_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises KeyError for the state of other signals."""
        self._passes.load_state_dict(state["passes"])
        self._kept, self._kept_before = {}, dict(state["kept"])
        self.seconds = {name: state["seconds"][name] for name in self.seconds}
        self.watched_seconds = state["watched_seconds"]

    def _keep(self, criterion: str, make: Callable[[], Any]) -> Any:
        """What a criterion keeps; one that a checkpoint has the state of goes on from there."""
        if criterion not in self._kept:
            self._kept[criterion] = make()
            if criterion in self._kept_before:
                self._kept[criterion].load_state_dict(self._kept_before.pop(criterion))
        return self._kept[criterion]

    def record(self) -> tuple[dict[str, float], np.ndarray | None]:
        """Measure the network as it is now: a number for each column, and CND of each neuron, layer after layer.

        CND is in bits, NaN where there is none yet, and None where it is not asked for. Raises FloatingPointError where
        the outputs of the network are not finite.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            seen, _ = self._timed("passes", self._passes.seen)
            average, _ = self._timed("average", self._seen_by_average)
            view = View(self.experiment, self.dataset, self.samples, self.model, self._layer, seen, average)
            values = self._performance(view)
            for name in self.experiment.criteria:
                view.keep = partial(self._keep, name)
                values[name], _ = self._timed(name, partial(_value, name, view))
            return values, self._divergence(view)
        finally:
            self.model.train(was_training)

    def _performance(self, view: View) -> dict[str, float]:
        values = dict.fromkeys(PERFORMANCE, math.nan) | {"test_accuracy": self._test_accuracy(self.model)}
        part, has_cnd = self.samples.measured, "cnd" in self.experiment.criteria
        if self._average:
            as_given = view.average.predicted == part.given
            values["test_accuracy_average"] = self._test_accuracy(self._average)
            values["corrupted_accuracy_given_average"] = share(as_given[part.corrupted])
        values |= dict.fromkeys(CND_OF_ALL, math.nan) if has_cnd else {}
        try:
            logits, predicted = view.seen.logits, view.predicted
        except NotSeen:
            return values
        loss = view.loss(logits, part.given)
        self._check_finite(loss)  # which is finite only where all logits are
        of_all = zip(CND_OF_ALL, (part.given, part.true), strict=True) if has_cnd else ()
        return values | {
            **{name: view.cnd_of_all(labels) for name, labels in of_all},
            "train_loss": loss.item(),
            "train_accuracy": share(predicted == part.given),
            "corrupted_accuracy_given": share((predicted == part.given)[part.corrupted]),
            "corrupted_accuracy_true": share((predicted == part.true)[part.corrupted]),
        }

    def _divergence(self, view: View) -> np.ndarray | None:
        if "cnd" not in self.experiment.criteria:
            return None
        try:
            return torch.cat(list(view.divergences.values())).cpu().numpy()
        except NotSeen:
            return np.full(sum(self.layers.values()), np.nan)

    def _check_finite(self, outputs: torch.Tensor) -> None:
        if not torch.isfinite(outputs).all():
            raise FloatingPointError(
                "outputs of the network are no longer finite: training diverged, "
                f"lower learning_rate={self.experiment.learning_rate}"
            )

    def _seen_by_average(self) -> View | None:
        """What the average puts out for the same samples, always in evaluation mode: it is never trained."""
        if self._average is None:
            return None
        layers = [self._layer] if "cnd_average" in self.experiment.criteria else []
        seen = look(self._average, self.dataset.x_train, self.samples, layers, self.experiment.cnd_pooling)
        return View(self.experiment, self.dataset, self.samples, self._average, self._layer, seen)

    def _test_accuracy(self, model: nn.Module) -> float:
        rows = torch.arange(len(self.dataset.y_test), device=self.dataset.y_test.device)
        if not len(rows):  # which not every network takes
            return math.nan
        with bfloat16_products(self.experiment), autocast(self.experiment):
            logits = evaluate(model, self.dataset.x_test, rows)
        self._check_finite(logits)
        return share(logits.argmax(dim=1) == self.dataset.y_test)


def _value(criterion: str, view: View) -> float:
    """A signal at a record; NaN where it has none yet."""
    try:
        return float(CRITERIA[criterion](view))
    except NotSeen:
        return math.nan
