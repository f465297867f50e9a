"""Signals read in the training passes: what the network put out when it last trained on each sample."""

import numpy as np
import pytest
import torch
from torch import nn

from lib import data, models
from lib.cnd import neuron_divergence
from lib.data.samples import draw
from lib.layers import captured
from lib.parameters import Experiment
from lib.predictions import changes
from lib.training import loop as training
from lib.training import run
from lib.training.passes import TrainingPasses
from lib.training.steps import Step, batches

SETTINGS = {
    "epochs": 3,
    "window": 1,
    "records_per_epoch": 2,
    "signal_samples": 900,
    "dropout": 0.2,
    "signal_passes": "training",
}


def by_hand(experiment):
    """The final logits, pre-activations and earlier predictions of each place, noted step by step in a plain loop."""
    dataset = data.load(experiment)
    drawn = draw(experiment, dataset)
    logits, hidden, predicted = {}, {}, []
    with training.reproducible(experiment):
        model = models.build(experiment, (1, 8, 8), 10)
        step = Step(experiment, model)
        steps = drawn.batches_per_epoch(experiment.batch_size)
        for epoch in range(1, experiment.epochs + 1):
            model.train()
            for number, (x, labels, places) in enumerate(batches(experiment, dataset, drawn, epoch), 1):
                with captured(model, "4") as outputs:
                    out = step(x, labels)
                for place, row, z in zip(places.tolist(), out, outputs["4"][0], strict=True):
                    logits[place], hidden[place] = row.clone(), z.clone()
                if number in (round(steps / 2), steps) and len(logits) > steps * 30:
                    predicted.append({place: row.argmax().item() for place, row in logits.items()})
    return drawn, logits, hidden, predicted


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(Experiment(runs_folder=str(tmp_path_factory.mktemp("runs")), **SETTINGS))


def test_the_last_record_is_what_a_plain_loop_notes(finished):
    experiment = finished.experiment
    assert list(finished.layers) == ["4"]
    drawn, logits, hidden, predicted = by_hand(experiment)
    places = torch.searchsorted(drawn.train.rows, drawn.measured.rows).tolist()
    last, given = finished.performances.iloc[-1], drawn.measured.given
    now = torch.tensor([predicted[-1][place] for place in places])
    before = torch.tensor([predicted[-2][place] for place in places])
    assert last["train_accuracy"] == (now == given).double().mean().item()
    assert last["prediction_changes"] == changes(before, now) > 0
    z = torch.stack([hidden[place] for place in places])
    assert np.allclose(finished.divergence[-1], neuron_divergence(z, given, 10, predicted=now))
    probe = torch.stack([logits[len(drawn.train) + i] for i in range(len(drawn.probe))])
    assert last["known_polluted_accuracy"] == (probe.argmax(dim=1) == drawn.probe.given).double().mean().item()


def test_before_every_sample_was_seen_there_is_nothing_to_read(finished):
    records = finished.performances
    assert records["train_accuracy"].isna().tolist() == [True] + [False] * 5
    assert records["cnd"].isna().tolist() == [True] + [False] * 5
    assert records["prediction_changes"].isna().tolist() == [True, True] + [False] * 4
    assert records["test_accuracy"].notna().all()
    assert np.isnan(finished.divergence[0]).all()
    assert np.isfinite(finished.divergence[1:]).all()


def test_what_is_measured_otherwise_is_there_from_the_first_record(tmp_path):
    criteria = ["loss_sensitivity", "prediction_changes"]
    first = run(Experiment(runs_folder=str(tmp_path), criteria=criteria, **SETTINGS)).performances.iloc[0]
    assert first["loss_sensitivity"] > 0
    assert np.isnan(first["prediction_changes"])


def test_where_signals_are_read_changes_nothing_of_training(tmp_path, finished):
    other = run(Experiment(runs_folder=str(tmp_path), **SETTINGS | {"signal_passes": "evaluation"}))
    assert other.performances["test_accuracy"].equals(finished.performances["test_accuracy"])
    assert not other.performances["cnd"].equals(finished.performances["cnd"])


def test_many_small_steps_give_what_few_large_ones_give(digits_passes):
    experiment, dataset, drawn, model = digits_passes
    generator = torch.Generator().manual_seed(0)
    count = len(drawn.train) + len(drawn.probe)
    order, logits = torch.randperm(count, generator=generator), torch.randn(count, 10, generator=generator)
    seen = []
    for size in (7, 600, count):
        passes = TrainingPasses(experiment, dataset, drawn, model, {})
        assert passes.seen() is None
        for places in order.split(size):
            passes.take(places, logits[places])
        seen.append(passes.seen())
    assert all(torch.equal(seen[0].logits, other.logits) for other in seen)
    assert torch.equal(seen[0].logits, logits[torch.searchsorted(drawn.train.rows, drawn.measured.rows)])
    assert torch.equal(seen[0].probe_logits, logits[len(drawn.train) :])


@pytest.fixture
def digits_passes():
    experiment = Experiment(signal_samples=300)
    dataset = data.load(experiment)
    return experiment, dataset, draw(experiment, dataset), models.build(experiment, (1, 8, 8), 10)


def test_what_a_network_changes_in_place_is_taken_before():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(50, 3)
    with captured(model, "0") as outputs:
        model(x)
    assert torch.allclose(outputs["0"][0], x @ model[0].weight.T + model[0].bias, atol=1e-6)
