import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.loops.conftest import EPOCHS, RULE, check_restored, network

ignite = pytest.importorskip("ignite", reason="pytorch-ignite is not installed")

from ignite.engine import Engine, Events  # noqa: E402
from ignite.handlers import Checkpoint  # noqa: E402

from lib.loops.ignite import MemorizationStopping  # noqa: E402

pytestmark = pytest.mark.slow


def trainer(**options):
    """An engine, its network and the stop."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def step(_engine, batch):
        x, labels = batch[:2]
        optimizer.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    stopping, engine = MemorizationStopping(model, **RULE, **options), Engine(step)
    stopping.attach(engine)
    return engine, model, stopping


@pytest.mark.parametrize("event", [Events.COMPLETED, Events.ITERATION_COMPLETED(once=18)], ids=["epoch", "step"])
def test_a_resumed_training_stops_at_the_same_epoch(loader, event):
    engine, model, whole = trainer()
    engine.run(loader, max_epochs=EPOCHS)
    assert engine.state.epoch == whole.stopper.epoch
    assert engine.state.metrics["cnd"] == whole.stopper.signals["cnd"]
    check_restored(model, whole.stopper)

    begun, weights, stopping = trainer(keep="none")
    state = {}

    @begun.on(event)
    def save(_engine):
        now = {"trainer": begun.state_dict(), "model": weights.state_dict(), "stopping": stopping.state_dict()}
        state.update(copy.deepcopy(now))

    begun.run(loader, max_epochs=3)  # of six steps each
    again, model, resumed = trainer(keep="none")
    Checkpoint.load_objects({"trainer": again, "model": model, "stopping": resumed}, state)
    again.run(loader, max_epochs=EPOCHS)
    assert (resumed.stopper.epoch, resumed.stopper.record) == (whole.stopper.epoch, whole.stopper.record)
    assert resumed.stopper.signals == whole.stopper.signals


def test_data_can_be_looked_at_instead(samples):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*samples.tensors[:2]), 16)
    engine, _, stopping = trainer(data=loader)
    engine.run(loader, max_epochs=EPOCHS)
    assert stopping.stopper.stop


def test_an_error_of_the_training_is_raised_and_leaves_no_hooks(samples):
    engine, model, _ = trainer()
    with pytest.raises(ValueError, match="index=None"):
        engine.run([samples.tensors[:2]], max_epochs=1)
    assert not model._forward_hooks
