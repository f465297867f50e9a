import numpy as np
import pytest
import torch

from lib.checks import ParameterError
from tests.loops.conftest import EPOCHS, RULE, check_restored, check_resumed, network

skorch = pytest.importorskip("skorch", reason="skorch is not installed")

from lib.loops.skorch import MemorizationStopping  # noqa: E402

pytestmark = pytest.mark.slow


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        return self.body(x)


def new(stopping):
    return skorch.NeuralNetClassifier(
        Module,
        criterion=torch.nn.CrossEntropyLoss,
        lr=0.5,
        max_epochs=EPOCHS,
        batch_size=16,
        train_split=None,
        verbose=0,
        callbacks=[("stopping", stopping)],
    )


def test_a_resumed_training_stops_at_the_same_epoch(samples, tmp_path):
    x, labels, index = (values.numpy() for values in samples.tensors)
    inputs = {"x": x, "index": index}
    whole = MemorizationStopping(**RULE)
    net = new(whole).fit(inputs, labels)
    assert len(net.history) == whole.stopper.epoch
    assert net.history[-1, "cnd"] == whole.stopper.signals["cnd"]
    check_restored(net.module_, whole.stopper)
    assert net.predict(x).shape == (96,)

    stopping = MemorizationStopping(**RULE)
    begun = new(stopping).initialize()
    stopping.on_train_begin(begun)
    begun.fit_loop(inputs, labels, epochs=3)  # interrupted: its training has no end
    begun.save_params(f_params=tmp_path / "weights.pt", f_history=tmp_path / "history.json")
    torch.save(stopping.state_dict(), tmp_path / "stopping.pt")

    resumed = MemorizationStopping(**RULE)
    again = new(resumed).initialize()
    again.load_params(f_params=tmp_path / "weights.pt", f_history=tmp_path / "history.json")
    resumed.load_state_dict(torch.load(tmp_path / "stopping.pt", weights_only=True))
    again.partial_fit(inputs, labels)
    assert len(again.history) == len(net.history)
    check_resumed(whole.stopper, resumed.stopper)


class TakingIndex(Module):
    def forward(self, x, index=None):
        return self.body(x)


def test_a_network_may_take_the_index_too_and_predicts_what_it_was_fitted_on(samples):
    x, labels, index = (values.numpy() for values in samples.tensors)
    stopping = MemorizationStopping(**RULE)
    net = new(stopping).set_params(module=TakingIndex).fit({"x": x, "index": index}, labels)
    assert stopping.stopper.stop
    assert (net.predict({"x": x, "index": index}) == net.predict(x)).all()


def test_data_can_be_looked_at_instead(samples):
    x, labels = (values.numpy() for values in samples.tensors[:2])
    stopping = MemorizationStopping(data=(x, labels), **RULE)
    net = new(stopping).fit(x, labels)
    assert stopping.stopper.stop
    assert np.isfinite(net.history[-1, "average_disagreement"])


def test_its_options_are_parameters_of_the_net(samples):
    x, labels, index = (values.numpy() for values in samples.tensors)
    stopping = MemorizationStopping(**RULE)
    with pytest.raises(ParameterError, match="unknown parameter patiense=1: did you mean 'patience'"):
        new(stopping).set_params(callbacks__stopping__patiense=1).initialize()
    net = new(stopping).set_params(callbacks__stopping__patience=1)
    assert net.get_params()["callbacks__stopping__patience"] == 1
    net.fit({"x": x, "index": index}, labels)
    assert stopping.stopper.epoch - stopping.stopper.record == 1
