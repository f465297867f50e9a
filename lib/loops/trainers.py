"""What the modules for trainers share: the import of what an extra brings, and a stopper that waits for its network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

from torch import nn

from ..checks import check_known
from .stopper import Stopper
from .watching import Watcher

_GIVEN = ("model", "average", "options")  # not by users
_OPTIONS = [name for kind in (Stopper, Watcher) for name in signature(kind).parameters if name not in _GIVEN]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import inside what an extra of the distribution brings; its error says which one to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        told = f"{error.name} is missing: pip install 'memorization-under-label-noise[{name}]'"
        raise ModuleNotFoundError(told, name=error.name) from None


class DeferredStopper:
    """The part of a callback that makes its `Stopper` when training begins, as there is no network before."""

    def __init__(self, num_classes: int, **options: Any):
        super().__init__()
        self._options: dict[str, Any] = {}
        self._take(num_classes=num_classes, **options)
        self._state: Mapping[str, Any] | None = None
        self.stopper: Stopper | None = None

    def _take(self, **options: Any) -> None:
        for name, value in options.items():
            check_known(name, value, _OPTIONS)
        self._options |= options

    @property
    def _there(self) -> Stopper:
        assert self.stopper
        return self.stopper

    def _begin(self, model: nn.Module) -> Stopper:
        """The stopper, made where there is none; it goes on from what `load_state_dict` was given."""
        state, self._state = self._state, None
        if self.stopper is None or state:
            self.stopper = Stopper(model, **self._options)
        if state:
            self.stopper.load_state_dict(state)
        return self.stopper

    def _forget(self) -> None:
        """Leave what was watched, also where an exception has ended that training, and forget it."""
        if self.stopper:
            self.stopper.__exit__()
        self.stopper = None

    def _end(self) -> None:
        self._there.__exit__()
        self._there.restore()

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in, for a checkpoint of torch; before training what was loaded, else nothing."""
        return self.stopper.state_dict() if self.stopper else dict(self._state or {})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave when training begins the next time."""
        self._state = state_dict
