"""What every trainer does alike: watch, average the weights, decide, and keep the best."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from .. import processes
from ..averaging import WeightAverage
from ..batches import unwrapped
from ..checks import ParameterError, check_as_saved, check_choice
from ..stopping import EarlyStopping
from .watching import SIGNALS, Watcher

KEEP = ["average", "snapshot", "none"]
_FAR = 1e9  # steps that the average reaches back until those of an epoch are known: longer than it follows fast


class Stopper:
    """Watches a training, keeps the average of its weights, and says when to stop and which weights to keep.

    Enter it around every epoch, call `step` after each step of the optimizer and `end_epoch` at the end:

        >>> from lib.loops import Stopper
        >>> stopper = Stopper(model, num_classes=3, patience=3, window=2)
        >>> while not stopper.stop and stopper.epoch < 100:
        ...     with stopper:
        ...         for index in torch.randperm(len(x)).split(32):
        ...             optimizer.zero_grad()
        ...             cross_entropy(model(x[index]), noisy_labels[index]).backward()
        ...             optimizer.step()
        ...             stopper.step(index, noisy_labels[index])
        ...     signals = stopper.end_epoch()
        >>> stopper.restore()
        >>> sorted(signals)
        ['average_disagreement', 'cnd', 'forgetting_events', 'prediction_changes']
        >>> stopper.epoch - stopper.record
        3

    Args:
        model: any network, wrapped or not, on its device.
        num_classes: K.
        monitor: the signal to stop by, one of `SIGNALS`, or another that `end_epoch` is given.
        mode: "max" or "min"; None: that of the signal.
        patience, min_delta, window: as for `lib.stopping.EarlyStopping`, a record an epoch.
        keep: which weights are kept of the epoch to keep: those of the "average" over an epoch, of the network
            ("snapshot"), or "none".
        data: samples with labels to look at in evaluation mode at the end of every epoch; None: the training passes.
        options: of the `Watcher`.

    Attributes:
        signals: of the last epoch, by name.
        epoch: epochs that have ended.
        under_way: whether steps have been made since. A trainer may go on from a checkpoint that it wrote after the
            last step of an epoch and before that epoch's end, which it does not tell again.
        record: the epoch to keep, from 1; None where there is none yet.
        stop: whether to stop.

    Raises ParameterError.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        monitor: str = "cnd",
        mode: str | None = None,
        patience: int = 10,
        min_delta: float = 0.0,
        window: int = 5,
        keep: str = "average",
        data=None,
        **options: Any,
    ):
        check_choice("keep", keep, KEEP)
        mode = mode or SIGNALS.get(monitor)
        if mode is None:
            raise ParameterError(f"monitor={monitor!r}: must be one of {', '.join(SIGNALS)}, or be given with a mode")
        self.model, self.monitor, self._keep, self._data = model, monitor, keep, data
        self._stopping = EarlyStopping(mode, window, patience, min_delta)
        self._average = WeightAverage(model, _FAR)
        self._watcher = Watcher(model, num_classes, average=self._average, **options)
        self._steps_of_epoch: int | None = None
        self.under_way = False
        self.signals: dict[str, float] = {}
        self._best: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        return self._stopping.seen

    @property
    def record(self) -> int | None:
        return self._stopping.record

    @property
    def stop(self) -> bool:
        return self._stopping.stop

    def __enter__(self) -> "Stopper":
        if self._data is None:
            self._watcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watcher.__exit__(*error)

    def step(self, index: Any = None, labels: Any = None, logits: Any = None, stepped: bool = True) -> None:
        """After each batch; index, labels and logits as for `Watcher.update`, and not read where data are looked at.

        `stepped` tells whether the optimizer has made a step of it.
        """
        self.under_way = True
        if self._data is None:
            self._watcher.update(index, logits, labels)
        if stepped:
            self._average.update()

    def end_epoch(self, others: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Decide, and give the signals of the epoch; `others` are values that may be monitored instead.

        Raises ParameterError where there is no value of the monitored name.
        """
        if self._steps_of_epoch is None and self._average.updates:
            self._reach(self._average.updates)
        if self._data is not None:
            self._watcher.look(self._data)
        self.signals = self._watcher.compute()
        known = {**(others or {}), **self.signals}
        if self.monitor not in known:
            raise ParameterError(f"monitor={self.monitor!r}: must be one of {', '.join(sorted(known))}")
        self._stopping.update(processes.of_first(float(known[self.monitor])))
        self.under_way = False
        if self._stopping.improved and self._keep != "none":
            network = self._average.model if self._keep == "average" else unwrapped(self.model)
            self._best = copy.deepcopy(network.state_dict())
        return self.signals

    def _reach(self, steps: int) -> None:
        self._steps_of_epoch = steps
        self._average.reach(steps)

    def restore(self) -> None:
        """Give the network the weights of the epoch to keep; where there is none yet, nothing changes."""
        if self._best is not None:
            unwrapped(self.model).load_state_dict(self._best)

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in, with the weights kept, for a checkpoint of torch.

        Of processes that train together it is the same after `end_epoch` alone; in an epoch each has its own.
        """
        return {
            "watcher": self._watcher.state_dict(),
            "stopping": self._stopping.state_dict(),
            "average": self._average.state_dict(),
            "steps_of_epoch": self._steps_of_epoch,
            "under_way": self.under_way,
            **self._settings,
            "signals": self.signals,
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, with the same decisions. Raises ParameterError for other settings."""
        check_as_saved(self._settings, state)
        self._stopping.load_state_dict(state["stopping"])
        self._watcher.load_state_dict(state["watcher"])
        self._average.load_state_dict(state["average"])
        if state["steps_of_epoch"]:
            self._reach(state["steps_of_epoch"])
        self.signals, self._best, self.under_way = dict(state["signals"]), state["best"], state["under_way"]

    @property
    def _settings(self) -> dict[str, str]:
        return {"monitor": self.monitor, "keep": self._keep}
