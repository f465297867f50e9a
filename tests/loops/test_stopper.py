"""The stop in a plain loop."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib.checks import ParameterError
from lib.loops import Stopper
from tests.loops.conftest import EPOCHS, RULE, check_restored, check_resumed, network


def train(stopper, loader, epochs=EPOCHS):
    """Goes on until the stop, or for some epochs."""
    optimizer = torch.optim.SGD(stopper.model.parameters(), lr=0.5)
    while not stopper.stop and stopper.epoch < epochs:
        with stopper:
            for x, labels, index in loader:
                optimizer.zero_grad()
                cross_entropy(stopper.model(x), labels).backward()
                optimizer.step()
                stopper.step(index, labels)
        stopper.end_epoch()
    return stopper


@pytest.mark.parametrize("data", [False, True], ids=["training passes", "looking"])
def test_a_resumed_loop_stops_at_the_same_epoch(loader, samples, data, tmp_path):
    options = RULE | {"data": samples if data else None}
    whole = train(Stopper(network(), **options), loader)
    begun = train(Stopper(network(), **options), loader, epochs=3)
    torch.save({"model": begun.model.state_dict(), "stopper": begun.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = Stopper(network(), **options)
    resumed.model.load_state_dict(state["model"])
    resumed.load_state_dict(state["stopper"])
    check_resumed(whole, train(resumed, loader))
    whole.restore()
    check_restored(whole.model, whole)


@pytest.mark.parametrize("other", [{"monitor": "average_disagreement"}, {"keep": "snapshot"}], ids=str)
def test_a_state_of_other_settings_is_refused(loader, other):
    state = train(Stopper(network(), **RULE | {"monitor": "prediction_changes"}), loader, epochs=1).state_dict()
    name, value = next(iter(other.items()))
    with pytest.raises(ParameterError, match=f"{name}='{value}': must be '{state[name]}', as where the state was"):
        Stopper(network(), **RULE | {"monitor": "prediction_changes"} | other).load_state_dict(state)


def test_what_is_kept_is_the_average_the_snapshot_or_nothing(loader):
    kept = {keep: train(Stopper(network(), keep=keep, **RULE), loader) for keep in ("average", "snapshot", "none")}
    assert kept["average"].record == kept["snapshot"].record == kept["none"].record
    best = {keep: stopper.state_dict()["best"] for keep, stopper in kept.items()}
    assert best["none"] is None
    assert not torch.equal(best["average"]["0.weight"], best["snapshot"]["0.weight"])
    again = Stopper(network(), keep="snapshot", **RULE)
    train(again, loader, epochs=kept["snapshot"].record)
    assert torch.equal(again.model[0].weight, best["snapshot"]["0.weight"])
    last = kept["none"].model[0].weight.clone()
    kept["none"].restore()
    assert torch.equal(kept["none"].model[0].weight, last)


def test_the_average_reaches_back_an_epoch(loader):
    stopper = train(Stopper(network(), **RULE), loader, epochs=1)
    assert stopper.state_dict()["steps_of_epoch"] == len(loader)


def test_another_value_can_be_monitored(loader):
    stopper = Stopper(network(), monitor="loss", mode="min", **RULE)
    with stopper:
        for x, labels, index in loader:
            stopper.model(x)
            stopper.step(index, labels)
    with pytest.raises(ParameterError, match="monitor='loss': must be one of average_disagreement, cnd"):
        stopper.end_epoch()
    with pytest.raises(ParameterError, match=r"monitor='loss': must be one of cnd, .* or be given with a mode"):
        Stopper(network(), monitor="loss", **RULE)
    with pytest.raises(ParameterError, match="keep='best': must be one of average, snapshot, none"):
        Stopper(network(), keep="best", **RULE)


def test_batch_norm_and_its_buffers_are_kept(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    stopper = train(Stopper(model, **RULE), loader)
    stopper.restore()
    check_restored(model, stopper)
