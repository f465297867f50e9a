"""The stop in skorch."""

from typing import Any

from ..batches import taken_apart
from .trainers import DeferredStopper, extra

with extra("skorch"):
    from skorch.callbacks import Callback


class MemorizationStopping(DeferredStopper, Callback):
    """Ends `fit` when a signal of the training samples says so, and then gives the module the weights to keep.

    The signals are columns of the history. The index of samples is one of the inputs, as in
    `net.fit({"x": x, "index": numpy.arange(len(x))}, y)`, unless there are `data` to look at. A network whose `forward`
    has index=None, which it need not read, also predicts and is validated on these inputs.

    Args:
        num_classes: K.
        options: of the `Stopper`, such as monitor, mode, patience, min_delta; monitor may also name a column.

    Attributes:
        stopper: what has been seen; None before `fit`.

    A resumed training needs `state_dict()` beside `net.save_params(...)`, and `load_state_dict` before `partial_fit`.
    Raises ParameterError, by the beginning of `fit` at the latest.
    """

    def initialize(self) -> "MemorizationStopping":
        """Forget what was seen, as `fit` begins anew."""
        self._forget()
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """For scikit-learn."""
        return dict(self._options)

    def set_params(self, **params: Any) -> None:
        """For scikit-learn. Raises ParameterError for a name that is none of the options."""
        self._take(**params)

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin, or go on."""
        self._begin(net.module_)

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Watch."""
        if self._there.stop:
            raise KeyboardInterrupt  # which is how skorch's callbacks end a training
        self._there.__enter__()

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Take a step in."""
        if training:
            self._there.step(labels=taken_apart(batch).labels)

    def on_epoch_end(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Decide."""
        self._there.__exit__()
        for name, value in self._there.end_epoch(net.history[-1]).items():
            net.history.record(name, value)
        if self._there.stop:
            raise KeyboardInterrupt

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Give the module what is kept."""
        self._end()
