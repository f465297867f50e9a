"""The stop in Lightning."""

from typing import Any

from torch import nn

from ..batches import Batch, taken_apart
from ..checks import ParameterError
from .trainers import DeferredStopper, extra

with extra("lightning"):
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback


class MemorizationStopping(DeferredStopper, Callback):
    """Stops a `Trainer` when a signal of its training samples says so; conventions of Lightning's `EarlyStopping`.

    The signals are logged under their names, and after `fit` the module has the weights of the epoch to keep. Batches
    are (x, y, index) or dicts with "index", see `Indexed`, unless there are `data` to look at. Several processes go on
    exactly from checkpoints that are written by epoch alone.

    Args:
        num_classes: K.
        network: name of the attribute of the LightningModule that gives the logits; "": its only child with weights, or
            itself.
        options: of the `Stopper`, such as monitor, mode, patience, min_delta; monitor may also name a logged metric.

    Attributes:
        stopper: what has been seen; None before `fit`.

    Raises ParameterError, by the beginning of `fit` at the latest.
    """

    def __init__(self, num_classes: int, network: str = "", **options: Any):
        super().__init__(num_classes, **options)
        self._network, self._steps = network, 0

    def _watched(self, trainer: Trainer, pl_module: LightningModule) -> nn.Module:
        children = dict(pl_module.named_children())
        if self._network:
            if self._network not in children:
                raise ParameterError(f"network={self._network!r}: must be one of {', '.join(children)}")
            return children[self._network]
        with_weights = [child for child in children.values() if next(child.parameters(), None) is not None]
        if len(with_weights) != 1 and trainer.world_size > 1:  # there a pass of the module is a training step
            raise ParameterError(f"network='': must be one of {', '.join(children)}, which gives the logits")
        return with_weights[0] if len(with_weights) == 1 else pl_module

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, or go on where a checkpoint was written."""
        stopper = self._begin(self._watched(trainer, pl_module))
        trainer.should_stop = trainer.should_stop or stopper.stop
        self._steps = trainer.global_step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch: of an epoch that is gone on with in its middle Lightning tells no start."""
        if self._there.under_way and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.on_train_epoch_end(trainer, pl_module)
        self._there.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a step in."""
        stepped, self._steps = trainer.global_step > self._steps, trainer.global_step
        given = taken_apart(batch) if self._options.get("data") is None else Batch(None)
        self._there.step(given.places, given.labels, stepped=stepped)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide."""
        signals = self._there.end_epoch(trainer.callback_metrics)
        pl_module.log_dict(signals, sync_dist=trainer.world_size > 1)
        trainer.should_stop = trainer.should_stop or self._there.stop

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the network what is kept."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        if self.stopper:
            self.stopper.__exit__()
