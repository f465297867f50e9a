"""What a watcher sees of a training is what the training passes of the study see, in any loop."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lib import data, models
from lib.averaging import WeightAverage
from lib.checks import ParameterError
from lib.cnd import aggregate, neuron_divergence
from lib.data.samples import draw
from lib.layers import evaluating, pre_activations
from lib.loops import watch
from lib.parameters import Experiment
from lib.training import loop as training
from lib.training import run
from lib.training.steps import Step, batches
from tests.loops.conftest import network

SETTINGS = {"epochs": 3, "window": 1, "patience": 1, "dropout": 0.2, "signal_passes": "training"}


def test_the_signals_are_those_of_the_training_passes_of_a_run(tmp_path):
    criteria = ("cnd", "prediction_changes", "forgetting_events")
    experiment = Experiment(runs_folder=str(tmp_path), criteria=criteria, **SETTINGS)
    recorded = run(experiment).performances
    dataset = data.load(experiment)
    drawn = draw(experiment, dataset)
    with training.reproducible(experiment):
        model = models.build(experiment, (1, 8, 8), 10)
        step = Step(experiment, model)
        signals = watch(model, num_classes=10)
        for epoch, record in zip(range(1, 4), recorded.itertuples(), strict=True):
            model.train()
            with signals:
                for x, labels, places in batches(experiment, dataset, drawn, epoch):
                    signals.update(places, step(x, labels), labels)
            seen = signals.compute()
            for name in criteria:
                assert seen[name] == pytest.approx(getattr(record, name), nan_ok=True, rel=1e-12)
    assert signals.layer == "4"


def train(model, samples, watched, epochs=2, average=None, **how):
    """A plain loop; gives the signals of each epoch."""
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.5), []
    loader = DataLoader(samples, 16, shuffle=True, generator=torch.Generator().manual_seed(3))
    for _ in range(epochs):
        with watched:
            for x, labels, index in loader:
                optimizer.zero_grad()
                logits = model(x)
                cross_entropy(logits, labels).backward()
                optimizer.step()
                if average:
                    average.update()
                watched.update(index, logits, labels)
        found.append(watched.compute())
    return found


def test_a_look_in_evaluation_mode_reads_what_the_functions_give(samples):
    model = nn.Sequential(*network(), nn.Identity()).train()
    x, labels, _ = samples.tensors
    signals = watch(model, 3, pooling="mean", only_predicted=False, quantile=None)
    signals.look(DataLoader(samples, 10))
    expected = aggregate(neuron_divergence(pre_activations(model, x), labels, 3), None)
    assert signals.compute()["cnd"] == expected
    with pytest.raises(ParameterError, match="index=None: must be the place of each sample"):
        signals.look(DataLoader(list(zip(x, labels, strict=True)), 10, shuffle=True))


def test_the_disagreement_with_the_average_is_that_of_the_batches_given_to_both(samples):
    model, by_hand = network(), []
    average = WeightAverage(model, 6)

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)

    watched = Noting()
    signals = watch(watched, 3, average=average, every=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with signals:
        for step, rows in enumerate(torch.arange(96).split(16)):
            x, labels = (values[rows] for values in samples.tensors[:2])
            optimizer.zero_grad()
            logits = watched(x)
            cross_entropy(logits, labels).backward()
            optimizer.step()
            average.update()
            if step % 2 == 0:
                with evaluating(average.model):
                    by_hand.append(average.model(x).argmax(dim=1) != logits.argmax(dim=1))
            signals.update(rows, logits, labels)
    assert signals.compute()["average_disagreement"] == torch.cat(by_hand).double().mean().item() > 0


def test_watching_changes_nothing_and_leaves_nothing(samples):
    ways = []
    for watched in (False, True):
        model = nn.Sequential(nn.Dropout(0.2), *network())
        torch.manual_seed(1)
        if watched:
            train(model, samples, watch(model, 3))
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
            loader = DataLoader(samples, 16, shuffle=True, generator=torch.Generator().manual_seed(3))
            for _ in range(2):
                for x, labels, _ in loader:
                    optimizer.zero_grad()
                    cross_entropy(model(x), labels).backward()
                    optimizer.step()
        ways.append(model.state_dict())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(ways[0][name], ways[1][name]) for name in ways[0])


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, lambda model: torch.compile(model, backend="eager"), lambda model: model],
    ids=["DataParallel", "torch.compile", "plain"],
)
def test_wrapped_networks_show_the_same(samples, wrap):
    plain = network()
    model = wrap(network())
    model(samples.tensors[0])  # compiled before it is watched
    shown = [str(train(one, samples, watch(one, 3))) for one in (model, plain)]  # NaN is the same as NaN
    assert shown[0] == shown[1]


def test_a_watcher_goes_on_from_its_state(samples):
    model = network()
    whole = watch(model, 3)
    train(model, samples, whole, epochs=1)
    resumed = watch(model, 3)
    resumed.load_state_dict(whole.state_dict())
    with torch.no_grad():
        model[0].weight.add_(0.5)
    for one in (whole, resumed):
        one.look(samples)
    assert whole.compute() == resumed.compute()
    whole.reset()
    whole.look(samples)
    assert whole.compute()["prediction_changes"] != whole.compute()["prediction_changes"]  # NaN at first


def test_of_many_samples_those_seen_first_are_kept(samples):
    model = network()
    signals = watch(model, 3, samples=20, only_predicted=False, pooling="mean")
    signals.look(DataLoader(samples, 10))
    x, labels, _ = samples.tensors
    expected = neuron_divergence(pre_activations(model, x[:20]), labels[:20], 3)
    assert signals.compute()["cnd"] == aggregate(expected)


def test_the_samples_that_are_kept_are_looked_at_wherever_they_are(samples):
    model = network()
    shuffled, ordered = (watch(model, 3, samples=20, only_predicted=False, pooling="mean") for _ in range(2))
    for _ in range(2):
        rows = torch.randperm(96, generator=torch.Generator().manual_seed(1)).tolist()
        shuffled.look(DataLoader(samples, 10, sampler=SubsetRandomSampler(rows)))
        kept = shuffled.state_dict()["row_of"].lt(20).nonzero()[:, 0]
        ordered.look(DataLoader(torch.utils.data.Subset(samples, kept), 10))
        one, other = shuffled.compute(), ordered.compute()
        with torch.no_grad():
            model[2].weight.mul_(-1)
    assert one["prediction_changes"] == other["prediction_changes"] > 0.5
    assert one["cnd"] == pytest.approx(other["cnd"], abs=1e-12)


def test_what_is_missing_is_said(samples):
    model = network()
    x, labels, index = samples.tensors
    signals = watch(model, 3)
    with pytest.raises(ParameterError, match=r"compute\(\): must come after update"):
        signals.compute()
    with signals:
        with pytest.raises(
            ParameterError, match=r"update\(\): must come after a training pass of the watched Sequential"
        ):
            signals.update(index, x, labels)
        logits = model(x)
        with pytest.raises(ParameterError, match="index=None: must be the place of each sample in the training set"):
            signals.update(None, logits, labels)
        logits = model(x)
        with pytest.raises(ParameterError, match=r"\(n,\), \(n, 3\), \(n,\) for the n=96 samples"):
            signals.update(index, logits, labels[:5])
        logits = model(x)
        signals.update(index - 1, logits, labels)
        with pytest.raises(ParameterError, match=r"index in \[-1, 94\]: must be places"):
            signals.compute()
    with pytest.raises(ParameterError, match="layer='9': must be one of"):
        watch(model, 3, layer="9")
    beside = nn.Sequential(model, nn.Linear(3, 3))
    beside.forward = model.forward
    with watch(beside, 3, layer="1") as signals:
        logits = beside(x)
        with pytest.raises(ParameterError, match="layer='1': must be a layer that a training pass reaches"):
            signals.update(index, logits, labels)


def test_a_frozen_part_in_evaluation_mode_is_watched(samples):
    model = nn.Sequential(network()[:2], nn.Linear(32, 3))
    model.train()
    model[0].eval().requires_grad_(False)
    signals = watch(model, 3)
    assert len(train(model, samples, signals)) == 2
    assert signals.layer == "0.0"


def test_an_activation_that_is_not_finite_leaves_a_record_without_cnd(samples):
    model = network()
    signals = watch(model, 3)
    x, labels, index = samples.tensors
    with signals:
        model(torch.full_like(x, torch.inf))
        signals.update(index, None, labels)
    seen = signals.compute()
    assert math.isnan(seen["cnd"])
    assert set(seen) >= {"prediction_changes", "forgetting_events"}


@pytest.mark.parametrize(
    "loader",
    [
        lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 10, drop_last=False)),
        lambda data: DataLoader(data, 10, sampler=WeightedRandomSampler(torch.ones(len(data)), len(data))),
        lambda data: DataLoader(data, 10, sampler=SubsetRandomSampler(range(len(data)))),
        lambda data: DataLoader(data, 10, sampler=DistributedSampler(data, num_replicas=2, rank=0)),
    ],
    ids=["batch sampler", "weighted", "subset", "distributed"],
)
def test_what_comes_in_another_order_each_time_cannot_be_looked_at(samples, loader):
    x, labels, _ = samples.tensors
    with pytest.raises(ParameterError, match="index=None: must be the place of each sample"):
        watch(network(), 3).look(loader(list(zip(x, labels, strict=True))))


def test_several_devices_in_one_process_are_refused():
    model = nn.DataParallel(network())
    model.device_ids = [0, 1]
    with pytest.raises(ParameterError, match="model in DataParallel on 2 devices: must be in DistributedDataParallel"):
        watch(model, 3).__enter__()
