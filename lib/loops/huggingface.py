"""The stop in the `Trainer` of Hugging Face."""

import math
from pathlib import Path
from typing import Any

import torch

from ..checks import ParameterError
from .trainers import DeferredStopper, extra

with extra("huggingface"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_FILE = "memorization.pt"  # in the folder of a checkpoint


class MemorizationStopping(DeferredStopper, TrainerCallback):
    """Stops a `Trainer` when a signal of its training samples says so, and then gives the model the weights to keep.

    The signals are in `state.log_history`; a resumed training goes on with what lies in its checkpoint's folder. The
    training set is a dataset in `Indexed`, with `remove_unused_columns=False` and no label smoothing, unless there are
    `data` to look at. Several processes go on exactly from checkpoints that are written by epoch alone.

    Args:
        num_classes: K.
        options: of the `Stopper`, such as monitor, mode, patience, min_delta.

    Attributes:
        stopper: what has been seen; None before `train`.

    Raises ParameterError, by the beginning of `train` at the latest.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin, or go on where a checkpoint was written."""
        watched = self._options.get("data") is None
        if watched and args.remove_unused_columns:
            raise ParameterError("remove_unused_columns=True: must be False, so that batches have the index of samples")
        if watched and args.n_gpu > 1:
            raise ParameterError(f"n_gpu={args.n_gpu}: must be 1 for each process, as torchrun starts them")
        if watched and (factor := args.label_smoothing_factor):
            raise ParameterError(
                f"label_smoothing_factor={factor}: must be 0 without data=, as no labels reach the model"
            )
        self._forget()
        if state.global_step:
            given = args.resume_from_checkpoint
            folder = given if isinstance(given, str) else f"{args.output_dir}/checkpoint-{state.global_step}"
            if not (Path(folder) / _FILE).exists():
                raise ParameterError(
                    f"resume_from_checkpoint={folder!r}: must hold {_FILE}; where the checkpoint is not in output_dir, "
                    "TrainingArguments must name it"
                )
            self.load_state_dict(torch.load(Path(folder) / _FILE, map_location="cpu", weights_only=True))
        if self._begin(kwargs["model"]).under_way and float(state.epoch or 0).is_integer():
            self._decide(state)
        control.should_training_stop = self._there.__enter__().stop

    def on_substep_end(self, *_told: Any, **_more: Any) -> None:
        """Take a batch in that makes no step yet."""
        self._there.step(stepped=False)

    def on_step_end(self, *_told: Any, **_more: Any) -> None:
        """Take a step in."""
        self._there.step()

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Decide."""
        self._decide(state)
        control.should_training_stop = control.should_training_stop or self._there.stop

    def _decide(self, state: TrainerState) -> None:
        logged: dict[str, Any] = {}
        for entry in state.log_history:
            logged |= entry
        signals = self._there.end_epoch(logged)
        finite = {name: value for name, value in signals.items() if math.isfinite(value)}
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, **finite})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write beside the checkpoint what a resumed training needs; where the trials of a search lie is not told."""
        if state.is_world_process_zero and not state.is_hyper_param_search:
            torch.save(self._there.state_dict(), f"{args.output_dir}/checkpoint-{state.global_step}/{_FILE}")

    def on_train_end(self, *_told: Any, **_more: Any) -> None:
        """Give the model what is kept."""
        self._end()
