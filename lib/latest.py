"""What a network put out when it last saw each of some samples."""

from collections.abc import Callable
from typing import Any

import torch

_TOGETHER = 2000  # samples whose outputs wait to be sorted in together


class Latest:
    """Tables of outputs, a row a sample, into which those of each training step are sorted.

    Args:
        rows: samples that are kept.
        rows_of: gives the row of each sample at some places, shape (n,), and `rows` for one that is not kept.
        device: where the tables are.

    Attributes:
        outputs: of layers, a tensor a step, as `lib.layers.captured` fills them.
    """

    def __init__(self, rows: int, rows_of: Callable[[torch.Tensor], torch.Tensor], device: torch.device):
        self._count, self._rows_of, self._device = rows, rows_of, device
        self._tables: dict[str, torch.Tensor] = {}
        self._taken: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
        self._waiting = 0
        self.outputs: dict[str, list[torch.Tensor]] = {}

    def take(self, places: torch.Tensor, **values: torch.Tensor) -> None:
        """Take what a step on samples at these places, shape (n,), has given, by name, each of shape (n, ...)."""
        self._taken.append((places, values))
        self._waiting += len(places)
        if self._waiting >= _TOGETHER:
            self.sort_in()

    def sort_in(self) -> None:
        """Many steps at a time: one by one the calls would cost more than the copies."""
        if not self._taken:
            return
        # What nobody keeps goes to a last row, so that sorting needs no selection.
        rows = self._rows_of(torch.cat([places for places, _ in self._taken])).to(self._device)
        values = {name: torch.cat([step[name] for _, step in self._taken]) for name in self._taken[0][1]}
        values |= {name: torch.cat(steps) for name, steps in self.outputs.items()}
        for name, new in values.items():
            if name not in self._tables:
                self._tables[name] = self._empty(new)
            table = self._tables[name]
            table.index_copy_(0, rows, new.to(table))
        for steps in self.outputs.values():
            steps.clear()
        self._taken.clear()
        self._waiting = 0

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        dtype, empty = (torch.float32, torch.nan) if like.is_floating_point() else (like.dtype, 0)
        return torch.full((self._count + 1, *like.shape[1:]), empty, dtype=dtype, device=self._device)

    def __getitem__(self, name: str) -> torch.Tensor:
        """The latest of each sample, shape (rows, ...); a sample not seen yet has NaN, or 0. Raises KeyError."""
        return self._tables[name][: self._count]

    def rearrange(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """Give the samples of some rows other ones, both of shape (n,)."""
        for name, table in self._tables.items():
            self._tables[name] = self._empty(table).index_copy_(0, new.to(self._device), table[old.to(self._device)])

    def state_dict(self) -> dict[str, Any]:
        """The tables, for a checkpoint."""
        self.sort_in()
        return dict(self._tables)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._tables = {name: table.to(self._device, copy=True) for name, table in state.items()}
