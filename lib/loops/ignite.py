"""The stop in PyTorch Ignite."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..batches import Batch, taken_apart
from .stopper import Stopper
from .trainers import extra

with extra("ignite"):
    from ignite.engine import Engine, Events


class MemorizationStopping:
    """Terminates a training engine when a signal of its samples says so, and then gives the model the weights to keep.

    The signals are in `engine.state.metrics`. Batches are (x, y, index) or dicts with "index", see
    `Indexed`, unless there are `data` to look at. `ignite.handlers.Checkpoint` takes it among what is to be
    saved.

    Args:
        model: the network that trains.
        num_classes: K.
        options: of the `Stopper`, such as monitor, mode, patience, min_delta; monitor may also name a metric.

    Attributes:
        stopper: what has been seen.

    Raises ParameterError.
    """

    def __init__(self, model: nn.Module, num_classes: int, **options: Any):
        self.stopper = Stopper(model, num_classes, **options)
        self._looks = options.get("data") is not None

    def attach(self, engine: Engine) -> None:
        """Watch this engine."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.stopper.__enter__())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _begin(self, engine: Engine) -> None:
        done = engine.state.iteration
        if self.stopper.under_way and done and done % (engine.state.epoch_length or math.inf) == 0:
            self._end_epoch(engine)
        elif self.stopper.stop:
            engine.terminate()

    def _step(self, engine: Engine) -> None:
        given = Batch(None) if self._looks else taken_apart(engine.state.batch)
        self.stopper.step(given.places, given.labels)

    def _end_epoch(self, engine: Engine) -> None:
        self.stopper.__exit__()
        engine.state.metrics.update(self.stopper.end_epoch(engine.state.metrics))
        if self.stopper.stop:
            engine.terminate()

    def _end(self, _engine: Engine) -> None:
        self.stopper.__exit__()
        self.stopper.restore()

    def _fail(self, _engine: Engine, error: Exception) -> None:
        self.stopper.__exit__()
        raise error

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in, for a checkpoint."""
        return self.stopper.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.stopper.load_state_dict(state_dict)
