"""What the processes of a distributed training know together; of a single process what it knows."""

from typing import Any

import torch
from torch import distributed


def count() -> int:
    """Processes that train together."""
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum over processes."""
    return _reduced(values, "SUM")


def widest(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lowest of the low and the highest of the high ends over processes."""
    return _reduced(low, "MIN"), _reduced(high, "MAX")


def gathered(value: Any) -> list[Any]:
    """What each process has, in their order."""
    values = [value] * count()
    if count() > 1:
        distributed.all_gather_object(values, value)
    return values


def of_first(value: Any) -> Any:
    """What the first process has, so that all decide alike."""
    values = [value]
    if count() > 1:
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def _reduced(values: torch.Tensor, how: str) -> torch.Tensor:
    if count() == 1:
        return values
    values = values.clone()
    distributed.all_reduce(values, getattr(distributed.ReduceOp, how))
    return values
