"""Pre-activations of any network, taken by forward hooks: the network needs no change."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from .checks import ParameterError, check_choice

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NEURONS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention)
_KNOWN = (*_NEURONS_LAST, *_CONVOLUTIONS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""The linear and convolutional modules."""


def hidden_layers(model: nn.Module, x: torch.Tensor) -> list[str]:
    """Names of the hidden layers in the order in which a forward pass reaches them.

    A hidden layer is a linear or convolutional module other than the last one reached, the classifier. Its output is
    the pre-activation. Where a batch norm stands before the activation function, the two differ by a scale and a shift
    per neuron, which change no divergence. In a residual network it is the output of the branch, before the addition;
    name the block itself to take the sum.

    Args:
        model: any network whose last linear or convolutional module is the classifier.
        x: at least one input, of the shape that the network takes.

    Raises:
        ParameterError: if the network has no hidden layer.
    """
    reached: list[str] = []
    with ExitStack() as hooks, evaluating(model):
        for name, module in model.named_modules():
            if isinstance(module, Weighted):
                hooks.enter_context(module.register_forward_hook(lambda *_, name=name: reached.append(name)))
        model(x[:1])
    names = list(dict.fromkeys(reached))
    if len(names) < 2:
        raise ParameterError(f"network of {type(model).__name__}: must have a hidden linear or convolutional layer")
    return names[:-1]


def last_hidden_layer(model: nn.Module, x: torch.Tensor) -> str:
    """Name of the last of the `hidden_layers`."""
    return hidden_layers(model, x)[-1]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run what is inside in evaluation mode and without gradients; the model's mode comes back afterwards.

    Only `torch.func.grad` inside still gives gradients, of what it is asked for alone.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def check_layer(model: nn.Module, layer: str, parameter: str = "layer") -> None:
    """Raise ParameterError, with the closest match, unless the name is that of a module of the network."""
    check_choice(parameter, layer, [name for name, _ in model.named_modules() if name])


@contextmanager
def captured(model: nn.Module, *layers: str, only_training: bool = False) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collect the outputs of the named modules while inside: for each name a list, one tensor a forward pass.

    Each is detached, float32 or float64, of shape (n, neurons): maps (n, channels, ...) are averaged over their
    positions, and so are the tokens of a transformer (n, ..., neurons). Of several outputs the first one is taken.
    With `only_training` passes in evaluation mode leave no trace. Raises ParameterError for a name that is no module,
    or an output that is no tensor.
    """
    outputs: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(module, _inputs, output, layer: str, neurons_last: bool) -> None:
        if only_training and not module.training:
            return
        first = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(first, torch.Tensor):
            raise ParameterError(f"layer={layer!r}: must give a tensor, not {type(first).__name__}")
        outputs[layer].append(averaged(first.detach(), neurons_last))

    with ExitStack() as hooks:
        for layer in layers:
            check_layer(model, layer)
            hook = partial(keep, layer=layer, neurons_last=_neurons_last(model, layer))
            hooks.enter_context(model.get_submodule(layer).register_forward_hook(hook))
        yield outputs


def _neurons_last(model: nn.Module, layer: str) -> bool:
    """Whether a layer's neurons are the last dimension of its output, as a linear layer's are, or the second.

    Told by the last module of a known kind in the layer, or, where it has none, before it in order of definition.
    """
    names = [name for name, _ in model.named_modules()]
    end = max(i for i, name in enumerate(names) if name == layer or name.startswith(f"{layer}."))
    known = (module for name in reversed(names[: end + 1]) if isinstance(module := model.get_submodule(name), _KNOWN))
    return isinstance(next(known, None), _NEURONS_LAST)


def averaged(values: torch.Tensor, neurons_last: bool) -> torch.Tensor:
    """The mean over positions, shape (n, neurons), of maps (n, neurons, ...) or tokens (n, ..., neurons).

    In single precision at least: half of it would merge neighbouring values. Never the values themselves, which the
    network may yet change in place.
    """
    kept = values if values.dtype == torch.float64 else values.float()
    if kept.ndim <= 2:
        return kept.clone() if kept.data_ptr() == values.data_ptr() else kept
    return kept.flatten(1, -2).mean(dim=1) if neurons_last else kept.flatten(2).mean(dim=2)


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
    if not outputs[layer]:
        raise ParameterError(f"layer={layer!r}: must be a layer that a forward pass reaches")
    return torch.cat(outputs[layer])
