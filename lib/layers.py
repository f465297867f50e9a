"""Pre-activations of any network, taken by forward hooks: the network needs no change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lib.parameters import ParameterError, check_choice

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def last_hidden_layer(model: nn.Module, x: torch.Tensor) -> str:
    """Name of the last hidden layer: the last but one linear or convolutional module that a forward pass reaches.

    Its output is the pre-activation. Where a batch norm stands before the activation function, the two differ by
    a scale and a shift per neuron, which change no divergence.

    Args:
        model: any network whose last linear or convolutional module is the classifier.
        x: at least one input, of the shape that the network takes.

    Raises:
        ParameterError: if the network has no hidden layer.
    """
    reached: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: reached.append(name))
        for name, module in model.named_modules()
        if isinstance(module, _WEIGHTED)
    ]
    try:
        with evaluating(model):
            model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if len(reached) < 2:
        raise ParameterError(f"network of {type(model).__name__}: must have a hidden linear or convolutional layer")
    return reached[-2]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run what is inside in evaluation mode and without gradients; the model's mode comes back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def check_layer(model: nn.Module, layer: str) -> None:
    """Raise ParameterError, with the closest match, unless the name is that of a module of the network."""
    check_choice("layer", layer, [name for name, _ in model.named_modules() if name])


@contextmanager
def captured(model: nn.Module, layer: str) -> Iterator[list[torch.Tensor]]:
    """Collect the outputs of the named module in a list, one tensor a forward pass, while inside.

    Each is detached and of shape (n, neurons): maps (n, channels, ...) are averaged over their positions.
    Raises ParameterError for a name that is no module of the network.
    """
    check_layer(model, layer)
    outputs: list[torch.Tensor] = []

    def keep(_module, _inputs, output):
        maps = output.detach()
        outputs.append(maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps)

    hook = model.get_submodule(layer).register_forward_hook(keep)
    try:
        yield outputs
    finally:
        hook.remove()


def pre_activations(
    model: nn.Module, x: torch.Tensor, layer: str | None = None, batch_size: int = 1000
) -> torch.Tensor:
    """Pre-activations of a layer, in evaluation mode; the model is left as it was.

    Args:
        model: any network.
        x: inputs, shape (n, ...), on the model's device.
        layer: module whose output is taken, a name of `model.named_modules()`; None: the last hidden layer.
        batch_size: inputs in one forward pass.

    Returns:
        Shape (n, neurons); convolutional maps are averaged over their positions.

    Raises:
        ParameterError: for a layer that the network lacks.
    """
    layer = layer or last_hidden_layer(model, x)
    with captured(model, layer) as outputs, evaluating(model):
        for batch in x.split(batch_size):
            model(batch)
    return torch.cat(outputs)
