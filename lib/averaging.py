"""The exponential moving average of a network's weights, kept beside it while it trains.

Averages of weights generalise better than the last weights (Polyak and Juditsky, 1992; Izmailov et al., UAI 2018), and
memorize later: a wrong label moves the weights one way in this epoch and another way in the next.
"""

import math
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .batches import unwrapped
from .checks import ParameterError

_HALF = (torch.bfloat16, torch.float16)


class WeightAverage:
    """The average of the weights over the last steps; call `update` after each step of the optimizer.

    After step t every weight and floating-point buffer a becomes d a + (1 - d) w, where

        d = min(exp(-1 / steps), (1 + t) / (10 + t)),

    so that it follows fast at first; integer buffers are copied. Of weights in half precision, in which such steps are
    lost, it is kept in single precision beside the network.

    Args:
        model: any network, wrapped or not; it is not changed.
        steps: that the average reaches back, above 0: after so many a weight's part has fallen to 1/e.

    Attributes:
        model: the network with averaged weights, in evaluation mode.
        updates: steps taken, t.

    Raises ParameterError.
    """

    def __init__(self, model: nn.Module, steps: float):
        self.reach(steps)
        self.model = deepcopy(unwrapped(model)).eval().requires_grad_(False)
        self.updates = 0
        self._source = unwrapped(model)
        kept = enumerate(_tensors(self.model))
        self._exact = {place: values.float() for place, values in kept if values.dtype in _HALF}

    def reach(self, steps: float) -> None:
        """Reach back so many steps from now on. Raises ParameterError."""
        if not 0 < steps < math.inf:
            raise ParameterError(f"steps={steps}: must be a finite number above 0")
        self._decay = math.exp(-1 / steps)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self.updates += 1
        average = get_ema_multi_avg_fn(min(self._decay, (1 + self.updates) / (10 + self.updates)))
        pairs = list(zip(_tensors(self.model), _tensors(self._source), strict=True))
        exact = [(self._exact.get(place, mine), theirs) for place, (mine, theirs) in enumerate(pairs)]
        for mine, theirs in exact:
            if not mine.is_floating_point():
                mine.copy_(theirs)
        floats = ((mine, theirs.to(mine.dtype)) for mine, theirs in exact if mine.is_floating_point())
        average(*zip(*floats, strict=True), None)
        for place, values in self._exact.items():
            pairs[place][0].copy_(values)

    def state_dict(self) -> dict[str, Any]:
        """The average, and the steps that it has seen, for a checkpoint."""
        return {"updates": self.updates, "model": self.model.state_dict(), "exact": self._exact}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.updates = state["updates"]
        self.model.load_state_dict(state["model"])
        for place, values in self._exact.items():
            values.copy_(state["exact"][place])


def _tensors(model: nn.Module) -> chain[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
