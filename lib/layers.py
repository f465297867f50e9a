"""Pre-activations of any network, taken by forward hooks: the network needs no change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lib.checks import ParameterError, check_choice

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def hidden_layers(model: nn.Module, x: torch.Tensor) -> list[str]:
    """Names of the hidden layers in the order in which a forward pass reaches them.

    A hidden layer is a linear or convolutional module other than the last one reached, the classifier. Its output is
    the pre-activation. Where a batch norm stands before the activation function, the two differ by a scale and a shift
    per neuron, which change no divergence.

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
    names = list(dict.fromkeys(reached))
    if len(names) < 2:
        raise ParameterError(f"network of {type(model).__name__}: must have a hidden linear or convolutional layer")
    return names[:-1]


def last_hidden_layer(model: nn.Module, x: torch.Tensor) -> str:
    """Name of the last of the `hidden_layers`."""
    return hidden_layers(model, x)[-1]


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
def captured(model: nn.Module, *layers: str) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collect the outputs of the named modules while inside: for each name a list, one tensor a forward pass.

    Each is detached and of shape (n, neurons): maps (n, channels, ...) are averaged over their positions, and so are
    the tokens of a transformer (n, tokens, neurons). Raises ParameterError for a name that is no module.
    """
    for layer in layers:
        check_layer(model, layer)
    outputs: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(layer: str, module: nn.Module, output: torch.Tensor) -> None:
        outputs[layer].append(_averaged(output.detach(), module))

    hooks = [
        model.get_submodule(layer).register_forward_hook(
            lambda module, _inputs, output, layer=layer: keep(layer, module, output)
        )
        for layer in layers
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _averaged(output: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """The mean over positions; of three dimensions they come second, unless the module works on sequences of maps."""
    if output.ndim == 3 and not isinstance(module, nn.Conv1d | nn.BatchNorm1d):
        return output.mean(dim=1)
    return output.flatten(2).mean(dim=2) if output.ndim > 2 else output


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
    return torch.cat(outputs[layer])
