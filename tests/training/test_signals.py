"""Every measure as a recorded signal of a run: the column is what the plain function gives for the final network."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

from lib import data, models
from lib.catalogue import CRITERIA, Criterion
from lib.cnd import aggregate, neuron_divergence
from lib.criteria import stops
from lib.data.samples import draw
from lib.entropy import shannon_entropy, von_neumann_entropy
from lib.firing import firing_frequency
from lib.gradients import evidence_criterion, gradient_disparity
from lib.graphs import activation_graphs
from lib.layers import pre_activations
from lib.parameters import PARAMETERS, Experiment
from lib.predictions import AreaUnderMargin
from lib.runs.folder import LOG
from lib.sensitivity import batch_loss_sensitivity, critical_sample_ratio, input_gradient_norms
from lib.training import Training, run

SIGNALS = [name for name, row in CRITERIA.items() if not row.members]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A finished run of a narrow network that records everything, the network, and what it was measured on."""
    patch = pytest.MonkeyPatch()
    models.register("narrow", narrow)
    experiment = Experiment(
        runs_folder=str(tmp_path_factory.mktemp("runs")),
        network="narrow",
        epochs=7,
        validation_share=0.2,
        changes_over=3,
        signal_passes="evaluation",
        gradient_samples=100,
        criteria=SIGNALS,
        window=2,
        patience=2,
    )
    finished = run(experiment)
    dataset = data.load(experiment)
    network = models.build(experiment, (1, 8, 8), 10).eval()
    network.load_state_dict(finished.weights())
    patch.undo()
    part = draw(experiment, dataset).measured
    return finished, network, dataset.x_train[part.rows], part.given


def narrow(shape, classes, dropout):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, classes)
    )


def test_every_criterion_is_recorded_and_stops(recorded):
    finished, *_ = recorded
    last = finished.performances.iloc[-1]
    assert last[SIGNALS].notna().all()
    assert set(stops(finished.table)["criterion"]) >= set(CRITERIA)


def test_columns_are_what_the_functions_give(recorded):
    finished, network, x, labels = recorded
    last = finished.performances.iloc[-1]
    few, few_labels = x[:100], labels[:100]
    with torch.no_grad():
        predicted = network(x).argmax(dim=1)
    z = pre_activations(network, x)
    graphs = activation_graphs(network, few, few_labels, 10)
    matrices = [graphs[label] for label in few_labels.unique().tolist()]
    expected = {
        "cnd": aggregate(neuron_divergence(z, labels, 10, predicted=predicted), 0.9),
        "firing_frequency": firing_frequency(z).samples.mean().item(),
        "loss_sensitivity": input_gradient_norms(network, x, labels).mean().item(),
        "batch_loss_sensitivity": batch_loss_sensitivity(network, x, labels, batch_size=64),
        "critical_sample_ratio": critical_sample_ratio(network, few, 0.1, seed=0),
        "von_neumann_entropy": np.mean([von_neumann_entropy(matrix) for matrix in matrices]),
        "edge_entropy": np.mean([shannon_entropy(matrix) for matrix in matrices]),
        "gradient_disparity": gradient_disparity(network, (few[:50], few_labels[:50]), (few[50:], few_labels[50:])),
        "evidence": evidence_criterion(network, few, few_labels),
    }
    for name, value in expected.items():
        assert last[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_signals_that_look_back(recorded):
    records = recorded[0].performances
    assert records["prediction_changes"].isna().tolist() == [True] + [False] * 6
    assert records["prediction_changes_long"].isna().tolist() == [True] * 3 + [False] * 4
    assert (records["prediction_changes_long"][3:] >= records["prediction_changes"][3:]).all()
    assert records["forgetting_events"][1:].between(0, 1).all()


def test_the_area_under_the_margin_of_a_run_of_one_record(tmp_path):
    settings = {"epochs": 1, "window": 1, "signal_passes": "evaluation", "criteria": ["area_under_margin"]}
    experiment = Experiment(runs_folder=str(tmp_path), **settings)
    finished = run(experiment)
    dataset = data.load(experiment)
    network = models.build(experiment, (1, 8, 8), 10).eval()
    network.load_state_dict(finished.weights())
    part = draw(experiment, dataset).measured
    with torch.no_grad():
        area = AreaUnderMargin().update(network(dataset.x_train[part.rows]), part.given)
    assert finished.performances["area_under_margin"][0] == pytest.approx(area.mean().item(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", PARAMETERS["cnd_estimator"].metadata["choices"])
def test_estimator_and_aggregation_are_parameters_of_a_run(tmp_path, estimator):
    settings = {"epochs": 1, "window": 1, "criteria": ["cnd"], "signal_samples": 200, "signal_passes": "evaluation"}
    how = {"cnd_estimator": estimator, "cnd_aggregation": "mean", "cnd_filter": "all"}
    experiment = Experiment(runs_folder=str(tmp_path), **settings, **how)
    finished = run(experiment)
    dataset = data.load(experiment)
    network = models.build(experiment, (1, 8, 8), 10).eval()
    network.load_state_dict(finished.weights())
    part = draw(experiment, dataset).measured
    z = pre_activations(network, dataset.x_train[part.rows])
    bits = neuron_divergence(z, part.given, 10, estimator=estimator)
    assert finished.performances["cnd"][0] == pytest.approx(bits.mean().item(), abs=0.02)
    assert finished.performances["cnd"][0] == pytest.approx(finished.divergence[0].mean(), abs=1e-5)


def test_the_log_tells_what_each_signal_costs(recorded):
    log = (recorded[0].folder / LOG).read_text()
    assert "signals cost " in log
    assert re.search(r"averaging the weights \d+\.\d %;", log)
    assert all(f"{name} " in log for name in SIGNALS)


def test_a_signal_that_is_not_asked_for_costs_nothing(tmp_path, monkeypatch):
    def refuse(view):
        raise AssertionError("asked for a signal that nobody asked for")

    for name, row in CRITERIA.items():
        if name != "prediction_changes":
            CRITERIA[name] = dataclasses.replace(row, function=refuse)
    finished = run(Experiment(runs_folder=str(tmp_path), epochs=2, window=1, criteria=["prediction_changes"]))
    assert "prediction_changes" in finished.performances
    assert "cnd" not in finished.performances


def test_the_network_that_a_signal_sees_is_in_evaluation_mode(tmp_path):
    """A signal of one's own that calls the network must not train its batch norm."""
    seen = []

    def nosy(view):
        before = [buffer.clone() for buffer in view.model.buffers()]
        view.model(view.few[0])
        seen.append(view.model.training)
        assert all(torch.equal(one, other) for one, other in zip(before, view.model.buffers(), strict=True))
        return float(len(view.keep(lambda: Kept()).update()))

    class Kept(list):
        def update(self):
            self.append(None)
            return self

        def state_dict(self):
            return {"length": len(self)}

        def load_state_dict(self, state):
            self[:] = [None] * state["length"]

    CRITERIA.add(Criterion("nosy", "Nosy", nosy, "max", "records"))
    settings = {"network": "news_mlp", "epochs": 3, "window": 1}
    finished = run(Experiment(runs_folder=str(tmp_path), criteria=["nosy"], **settings))
    assert seen == [False] * 3
    assert finished.performances["nosy"].tolist() == [1, 2, 3]
    plain = run(Experiment(runs_folder=str(tmp_path), criteria=[], **settings))
    assert plain.performances["test_accuracy"].equals(finished.performances["test_accuracy"])
    training = Training(Experiment(criteria=["nosy"], **settings))
    next(iter(training))
    state = training.state_dict()
    again = Training(training.experiment)
    again.load_state_dict(state)
    assert next(iter(again)).values["nosy"] == 2
