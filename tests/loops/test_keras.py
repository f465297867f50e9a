import numpy as np
import pytest
import torch

from lib.checks import ParameterError
from tests.loops.conftest import EPOCHS, RULE

keras = pytest.importorskip("keras", reason="keras is not installed")

from lib.loops.keras import MemorizationStopping  # noqa: E402

pytestmark = pytest.mark.slow


def new():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, "relu", name="hidden"), keras.layers.Dropout(0.0), keras.layers.Dense(3)]
    model = keras.Sequential([keras.layers.Input((8,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss=loss)
    return model


def fit(model, samples, stopping, epochs=EPOCHS, first=0):
    x, labels = (values.numpy() for values in samples.tensors[:2])
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": [stopping], "initial_epoch": first}
    return model.fit(x, labels, epochs=epochs, **options)


def test_a_resumed_training_stops_at_the_same_epoch(samples, tmp_path):
    data = samples.tensors[:2]
    whole, model = MemorizationStopping(data, **RULE), new()
    history = fit(model, samples, whole).history
    assert len(history["cnd"]) == whole.stopper.epoch < EPOCHS
    assert history["cnd"][-1] == whole.stopper.signals["cnd"]
    assert whole.stopper._watcher.layer == "hidden"
    best = whole.stopper.state_dict()["best"]
    assert all(np.array_equal(best[str(i)].numpy(), kept) for i, kept in enumerate(model.get_weights()))

    begun = MemorizationStopping(data, restore_best_weights=False, **RULE)
    half = new()
    fit(half, samples, begun, epochs=3)
    torch.save(begun.state_dict(), tmp_path / "state.pt")
    resumed = MemorizationStopping(data, restore_best_weights=False, **RULE)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    fit(half, samples, resumed, first=3)
    assert (resumed.stopper.epoch, resumed.stopper.record) == (whole.stopper.epoch, whole.stopper.record)
    assert resumed.stopper.signals == whole.stopper.signals


def test_the_weights_kept_are_those_of_the_average(samples):
    kept = []
    for keep in ("average", "snapshot"):
        model, stopping = new(), MemorizationStopping(samples.tensors[:2], keep=keep, **RULE)
        fit(model, samples, stopping)
        kept.append(model.get_weights()[0])
        assert stopping.stopper.signals["average_disagreement"] >= 0
    assert not np.array_equal(*kept)


def test_weights_that_are_not_to_be_restored_are_left_alone(samples):
    trained = []
    for options in ({"keep": "snapshot"}, {"keep": "none"}):
        model, stopping = (
            new(),
            MemorizationStopping(samples.tensors[:2], restore_best_weights=False, **options, **RULE),
        )
        fit(model, samples, stopping)
        trained.append(model.get_weights()[0])
    assert np.array_equal(*trained)
    with pytest.raises(ParameterError, match="keep='bogus'"):
        MemorizationStopping(samples.tensors[:2], restore_best_weights=False, keep="bogus", **RULE)


def test_data_must_be_given():
    with pytest.raises(ParameterError, match="data=None: must be the training samples"):
        MemorizationStopping(None, **RULE)
