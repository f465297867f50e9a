"""The stop in Keras 3 on its torch backend."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..checks import ParameterError, check_choice
from .stopper import KEEP
from .trainers import DeferredStopper, extra

with extra("keras"):
    import keras


class _Network(nn.Module):
    """A Keras model as a network of torch whose layers have their names: Keras keeps them aside."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self._of_keras = (model,)  # in a tuple it is no module of this one, whose layers would be there twice
        for layer in model._flatten_layers(include_self=False, recursive=False):
            self.add_module(layer.name.replace(".", "_"), layer)

    def forward(self, inputs):
        """In inference mode."""
        return self._of_keras[0](inputs, training=False)

    def train(self, mode: bool = True) -> "_Network":
        """Keras tells its layers at each call."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Network":
        copy = keras.models.clone_model(self._of_keras[0])
        copy.set_weights(self._of_keras[0].get_weights())
        return _Network(copy)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """In the order of the layers' variables, which is the same in a copy, whatever their names are."""
        return iter([variable.value for variable in self._of_keras[0].variables])

    def state_dict(self, *_args, **_kwargs):
        """By place."""
        return {str(place): values.detach() for place, values in enumerate(self.parameters())}

    @torch.no_grad()
    def load_state_dict(self, state_dict, *_args, **_kwargs):
        """What `state_dict` gave."""
        for place, values in enumerate(self.parameters()):
            values.copy_(state_dict[str(place)])


class MemorizationStopping(DeferredStopper, keras.callbacks.Callback):
    """Ends `fit` when a signal of the training samples says so; conventions of Keras's `EarlyStopping`.

    Callbacks of Keras see no batches: the training samples are looked at in inference mode at the end of every epoch.
    The signals are added to the logs, and so to the history.

    Args:
        data: training samples with labels as given, such as (x, y) or a `DataLoader` in one order.
        num_classes: K.
        restore_best_weights: whether the model has the weights to keep after `fit`: those of the average over an epoch,
            or of the model with keep="snapshot".
        options: of the `Stopper`, such as monitor, mode, patience, min_delta; monitor may also name a metric.

    Attributes:
        stopper: what has been seen; None before `fit`.

    Raises ParameterError, by the beginning of `fit` at the latest.
    """

    def __init__(self, data: Any, num_classes: int, restore_best_weights: bool = True, **options: Any):
        if keras.backend.backend() != "torch":
            raise ParameterError(f"KERAS_BACKEND={keras.backend.backend()!r}: must be 'torch'")
        if data is None:
            raise ParameterError("data=None: must be the training samples with their labels")
        keep = options.pop("keep", "average")
        check_choice("keep", keep, KEEP)
        super().__init__(num_classes, data=data, keep=keep if restore_best_weights else "none", **options)

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin, or go on."""
        self.stopper = None
        stopper = self._begin(_Network(self.model))
        self.model.stop_training = self.model.stop_training or stopper.stop

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Average the weights."""
        self._there.step()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Decide."""
        signals = self._there.end_epoch(logs)
        if logs is not None:
            logs.update(signals)
        self.model.stop_training = self.model.stop_training or self._there.stop

    def on_train_end(self, logs: Any = None) -> None:
        """Give the model what is kept."""
        self._end()
