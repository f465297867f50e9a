"""Pre-activations of any network, taken by forward hooks: the network needs no change."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from .checks import ParameterError, check_choice

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NEURONS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention)
_KNOWN = (*_NEURONS_LAST, *_CONVOLUTIONS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
POOLINGS = ["max", "mean"]
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""The linear and convolutional modules."""


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
    """Name of the layer that CND is read from: the last of the `hidden_layers`, or the residual block that it ends.

    A residual block is the innermost module around the layer whose output is a sum, also behind an activation function
    or layer norm: what leaves it is what the classifier sees, and CND's paper reads it there. Arguments and errors as
    for `hidden_layers`.
    """
    last = hidden_layers(model, x)[-1]
    around = [last.rsplit(".", depth)[0] for depth in range(1, last.count(".") + 1)]
    sums: set[str] = set()
    with ExitStack() as hooks, evaluating(model), torch.enable_grad():
        for name in around:
            noted = partial(_note_sum, name=name, sums=sums)
            hooks.enter_context(model.get_submodule(name).register_forward_hook(noted))
        model(x[:1])
    return next((name for name in around if name in sums), last)


def _note_sum(_module, _inputs, output, name: str, sums: set[str]) -> None:
    step = getattr(output, "grad_fn", None)  # what made the output, as autograd remembers it
    while step and re.match(r"(\w*[rRgGsS][eEiI]?[lL][uU]|NativeLayerNorm)Backward", step.name()):
        step = step.next_functions[0][0]
    if step and step.name().startswith("AddBackward"):
        sums.add(name)


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
def captured(
    model: nn.Module, *layers: str, pooling: str = "mean", only_training: bool = False
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collect the outputs of the named modules while inside: for each name a list, one tensor a forward pass.

    Each is detached, float32 or float64, of shape (n, neurons): of maps (n, channels, ...) the maximum or mean over
    their positions, and so of the tokens of a transformer (n, ..., neurons). Of several outputs the first one is taken.

    Args:
        model: any network.
        layers: names of modules; one that ends in ":max" or ":mean" is pooled so.
        pooling: of the others, "max" or "mean".
        only_training: whether passes in evaluation mode leave no trace.

    Raises ParameterError for a name that is no module, another pooling, or an output that is no tensor.
    """
    check_choice("pooling", pooling, POOLINGS)
    outputs: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(module, _inputs, output, layer: str, neurons_last: bool, over_positions: str) -> None:
        if only_training and not module.training:
            return
        first = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(first, torch.Tensor):
            raise ParameterError(f"layer={layer!r}: must give a tensor, not {type(first).__name__}")
        outputs[layer].append(pooled(first.detach(), neurons_last, over_positions))

    with ExitStack() as hooks:
        for layer in layers:
            name, given = split_pooling(layer)
            check_layer(model, name)
            hook = partial(keep, layer=layer, neurons_last=_neurons_last(model, name), over_positions=given or pooling)
            hooks.enter_context(model.get_submodule(name).register_forward_hook(hook))
        yield outputs


def _neurons_last(model: nn.Module, layer: str) -> bool:
    """Whether a layer's neurons are the last dimension of its output, as a linear layer's are, or the second.

    Told by the last module of a known kind in the layer, or, where it has none, before it in order of definition.
    """
    names = [name for name, _ in model.named_modules()]
    end = max(i for i, name in enumerate(names) if name == layer or name.startswith(f"{layer}."))
    known = (module for name in reversed(names[: end + 1]) if isinstance(module := model.get_submodule(name), _KNOWN))
    return isinstance(next(known, None), _NEURONS_LAST)


def split_pooling(layer: str) -> tuple[str, str]:
    """The name of a module and the pooling behind it, as in "stages.3.1:mean"; without one the pooling is empty."""
    name, _, pooling = layer.rpartition(":")
    return (name, pooling) if pooling in POOLINGS else (layer, "")


def pooled(values: torch.Tensor, neurons_last: bool, pooling: str = "mean") -> torch.Tensor:
    """Maximum or mean over positions, shape (n, neurons), of maps (n, neurons, ...) or tokens (n, ..., neurons).

    In single precision at least: half of it would merge neighbouring values. Never the values themselves, which the
    network may yet change in place.
    """
    kept = values if values.dtype == torch.float64 else values.float()
    if kept.ndim <= 2:
        return kept.clone() if kept.data_ptr() == values.data_ptr() else kept
    flat, positions = (kept.flatten(1, -2), 1) if neurons_last else (kept.flatten(2), 2)
    return flat.amax(dim=positions) if pooling == "max" else flat.mean(dim=positions)


def pre_activations(
    model: nn.Module, x: torch.Tensor, layer: str | None = None, batch_size: int = 1000, pooling: str = "mean"
) -> torch.Tensor:
    """Pre-activations of a layer, in evaluation mode; the model is left as it was.

    Args:
        model: any network.
        x: inputs, shape (n, ...), on the model's device.
        layer: module whose output is taken, a name of `model.named_modules()`; None: `last_hidden_layer`.
        batch_size: inputs in one forward pass.
        pooling: of convolutional maps and tokens over their positions, "mean" or "max", as CND's paper has it.

    Returns:
        Shape (n, neurons).

    Raises:
        ParameterError: for a layer that the network lacks.
    """
    layer = layer or last_hidden_layer(model, x)
    with captured(model, layer, pooling=pooling) as outputs, evaluating(model):
        for batch in x.split(batch_size):
            model(batch)
    if not outputs[layer]:
        raise ParameterError(f"layer={layer!r}: must be a layer that a forward pass reaches")
    return torch.cat(outputs[layer])
