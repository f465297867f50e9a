"""A network as a function of its weights and inputs, for `torch.func`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

Weights = dict[str, torch.Tensor]


@contextmanager
def functional(model: nn.Module) -> Iterator[tuple[Weights, Callable[[Weights, torch.Tensor], torch.Tensor]]]:
    """The trainable weights of a network, and the function of weights and inputs that it is in evaluation mode.

    Nothing of the network changes, and its mode comes back afterwards.
    """
    was_training = model.training
    model.eval()
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    fixed = {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}
    fixed |= {name: value.detach() for name, value in model.named_buffers()}
    try:
        yield weights, lambda w, x: functional_call(model, {**fixed, **w}, (x,))
    finally:
        model.train(was_training)
