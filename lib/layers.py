"""Pre-activations of any network, taken by forward hooks: the network needs no change."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from .batches import Batch, batches, call, device_of, logits_of, moved, unwrapped
from .checks import ParameterError, check_choice

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NEURONS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)
_KNOWN = (*_NEURONS_LAST, *_CONVOLUTIONS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
_NO_LAYERS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
_LISTS = (nn.ParameterList, nn.ParameterDict)
_PARAMETRIZATIONS = "parametrizations"  # where torch keeps them, in the module whose weights they make
POOLINGS = ["max", "mean"]
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""The linear and convolutional modules."""


def hidden_layers(model: nn.Module, data) -> list[str]:
    """Names of the hidden layers in the order in which a forward pass reaches them, for the last time.

    A hidden layer is a module with a matrix of weights and no module inside, as linear, convolutional and recurrent
    ones are, before the classifier: the one whose output is the network's, or else the last one reached, unless the
    network classifies by a matrix of its own. Its output is the pre-activation. Where a batch norm stands before the
    activation function, the two differ by a scale and a shift per neuron, which change no divergence.

    Args:
        model: any network, wrapped or not.
        data: samples in any form that `lib.batches.batches` takes, at least one.

    Raises:
        ParameterError: if the network has no hidden layer; it lists the modules that can be named instead.
    """
    names = [name for name in _reached(model, data) if not isinstance(_inside(model, name), nn.MultiheadAttention)]
    if not names:
        inner = unwrapped(model)
        modules = ", ".join(name for name, _ in inner.named_modules() if name) or "none"
        raise ParameterError(
            f"network of {type(inner).__name__}: must have a hidden linear or convolutional layer before its "
            f"classifier; else name as layer= one of {modules}"
        )
    return names


def last_hidden_layer(model: nn.Module, data) -> str:
    """Name of the layer that CND is read from: the last of the `hidden_layers`, or the residual block that it ends.

    A residual block is the innermost module around the layer whose output is a sum, also behind an activation function
    or layer norm: what leaves it is what the classifier sees, and CND's paper reads it there. Attention is a layer here
    too. Arguments and errors as for `hidden_layers`.
    """
    batch = _first(model, data)
    last = (_reached(model, [batch]) or hidden_layers(model, [batch]))[-1]
    around = [last.rsplit(".", depth)[0] for depth in range(1, last.count(".") + 1)]
    sums: set[str] = set()
    with ExitStack() as hooks, evaluating(model), _differentiable(model):
        for name in around:
            noted = partial(_note_sum, name=name, sums=sums)
            hooks.enter_context(_inside(model, name).register_forward_hook(noted))
        call(unwrapped(model), batch.inputs)
    return next((name for name in around if name in sums), last)


def _first(model: nn.Module, data) -> Batch:
    """The first batch, of a tensor the first sample, on the network's device."""
    batch = next(batches(data, batch_size=1))
    inputs = batch.inputs[:1] if isinstance(batch.inputs, torch.Tensor) else batch.inputs
    return Batch(moved(inputs, device_of(model)))


def _inside(model: nn.Module, name: str) -> nn.Module:
    return unwrapped(model).get_submodule(name)


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if name and _PARAMETRIZATIONS not in name.split(".") and _is_layer(module):
            yield name, module


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return True
    parts = [part for name, part in module.named_children() if name != _PARAMETRIZATIONS]
    if isinstance(module, _NO_LAYERS) or not all(isinstance(part, _LISTS) for part in parts):
        return False
    return not isinstance(module, _LISTS) and any(weight.ndim > 1 for weight in module.parameters())


def _reached(model: nn.Module, data) -> list[str]:
    """Names of the layers that a forward pass reaches before the classifier, each where it is reached last."""
    reached: dict[str, Any] = {}

    def note(_module, _inputs, output, name: str) -> None:
        reached.pop(name, None)
        reached[name] = output

    inner = unwrapped(model)
    with ExitStack() as hooks, evaluating(model):
        for name, module in _layers(inner):
            hooks.enter_context(module.register_forward_hook(partial(note, name=name)))
        logits = logits_of(call(inner, _first(model, data).inputs))
    classifier = _classifier(inner, reached, logits)
    return list(reached)[: list(reached).index(classifier)] if classifier else list(reached)


def _classifier(network: nn.Module, reached: dict[str, Any], logits: torch.Tensor) -> str | None:
    """The layer that classifies; None where the network does, by a matrix of its own, or where no layer is reached."""
    outputs = {name: output for name, output in reached.items() if isinstance(output, torch.Tensor)}
    given = next((name for name, output in outputs.items() if _same(output, logits)), None)
    last = next(reversed(reached), None)
    if given or last not in outputs or not logits.ndim:
        return given or last
    classes = logits.shape[-1]
    of_layers = {id(weight) for _, layer in _layers(network) for weight in layer.parameters()}
    own = [weight for weight in network.parameters() if id(weight) not in of_layers and weight.ndim > 1]
    is_hidden = classes not in outputs[last].shape[1:] and any(classes in weight.shape for weight in own)
    return None if is_hidden else last


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.numel() == other.numel() and one.data_ptr() == other.data_ptr()


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """With gradients, also of weights that are frozen."""
    frozen = [weight for weight in model.parameters() if not weight.requires_grad and weight.is_floating_point()]
    for weight in frozen:
        weight.requires_grad_()
    try:
        with torch.enable_grad():
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _note_sum(_module, _inputs, output, name: str, sums: set[str]) -> None:
    first = output[0] if isinstance(output, tuple | list) else output
    step = getattr(first, "grad_fn", None)  # what made the output, as autograd remembers it
    while step and re.match(r"(\w*[rRgGsS][eEiI]?[lL][uU]|NativeLayerNorm)Backward", step.name()):
        step = step.next_functions[0][0]
    if step and step.name().startswith("AddBackward"):
        sums.add(name)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run what is inside in evaluation mode and without gradients; the mode of each module comes back afterwards.

    Only `torch.func.grad` inside still gives gradients, of what it is asked for alone. A compiled network runs as it is
    written, so that hooks see it.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager") if is_compiled(model) else nullcontext(), torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def is_compiled(model: nn.Module) -> bool:
    """Whether `torch.compile` is in the network, or around it."""
    return any("_orig_mod" in module._modules or module._compiled_call_impl is not None for module in model.modules())


def check_layer(model: nn.Module, layer: str, parameter: str = "layer") -> None:
    """Raise ParameterError, with the closest match, unless the name is that of a module of the network."""
    check_choice(parameter, layer, [name for name, _ in unwrapped(model).named_modules() if name])


@contextmanager
def captured(
    model: nn.Module, *layers: str, pooling: str = "mean", only_training: bool = False
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collect the outputs of the named modules while inside: for each name a list, one tensor a forward pass.

    Each is detached, float32 or float64, of shape (n, neurons): of maps (n, channels, ...) the maximum or mean over
    their positions, and so of the tokens of a transformer (n, ..., neurons); of a recurrent layer its last state. Of
    several outputs the first one is taken, of several calls in a pass the last.

    Args:
        model: any network, wrapped or not.
        layers: names of modules; one that ends in ":max" or ":mean" is pooled so.
        pooling: of the others, "max" or "mean".
        only_training: whether passes in evaluation mode leave no trace.

    Raises ParameterError for a name that is no module, another pooling, or an output that is no tensor.
    """
    check_choice("pooling", pooling, POOLINGS)
    inner = unwrapped(model)
    outputs: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}
    in_this_pass: set[str] = set()

    def keep(module, _inputs, output, layer: str, neurons_last: bool, over_positions: str) -> None:
        if only_training and not inner.training:
            return
        values = _samples_first(module, output)
        if not isinstance(values, torch.Tensor):
            raise ParameterError(f"layer={layer!r}: must give a tensor, not {type(values).__name__}")
        if layer in in_this_pass:
            outputs[layer].pop()
        outputs[layer].append(pooled(values.detach(), neurons_last, over_positions))
        in_this_pass.add(layer)

    with ExitStack() as hooks:
        hooks.enter_context(inner.register_forward_pre_hook(outside_graphs(lambda *_: in_this_pass.clear(), model)))
        for layer in layers:
            name, given = split_pooling(layer)
            check_layer(inner, name)
            hook = partial(keep, layer=layer, neurons_last=_neurons_last(inner, name), over_positions=given or pooling)
            hooks.enter_context(inner.get_submodule(name).register_forward_hook(outside_graphs(hook, model)))
        yield outputs


def outside_graphs(hook: Callable[..., None], model: nn.Module) -> Callable[..., None]:
    """A hook that a compiled network calls as it is, at the price of a break in its graph."""
    return torch.compiler.disable(hook) if is_compiled(model) else hook


def _samples_first(module: nn.Module, output):
    """The output of a layer, or the first of several, shape (n, ...); of a recurrent layer its last state."""
    if isinstance(module, nn.RNNBase):
        state = output[1][0] if isinstance(module, nn.LSTM) else output[1]  # (layers x directions, n, neurons)
        return state[-1 - module.bidirectional :].transpose(0, 1).flatten(1)
    first = output[0] if isinstance(output, tuple | list) else output
    attention = [part.batch_first for part in module.modules() if isinstance(part, nn.MultiheadAttention)]
    return first.transpose(0, 1) if attention and not any(attention) else first


def _neurons_last(model: nn.Module, layer: str) -> bool:
    """Whether a layer's neurons are the last dimension of its output, as a linear layer's are, or the second.

    Told by the last module of a known kind in the layer, or, where it has none, before it in order of definition.
    """
    module = model.get_submodule(layer)
    if hasattr(module, "data_format") or type(module).__module__.startswith("keras."):
        return getattr(module, "data_format", "channels_last") == "channels_last"
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
    model: nn.Module, data, layer: str | None = None, batch_size: int = 1000, pooling: str = "mean"
) -> torch.Tensor:
    """Pre-activations of a layer, in evaluation mode; the model is left as it was.

    Args:
        model: any network, wrapped or not.
        data: inputs in any form that `lib.batches.batches` takes: a tensor of shape (n, ...), a `DataLoader`, batches.
        layer: module whose output is taken, a name of `model.named_modules()`; None: `last_hidden_layer`.
        batch_size: inputs in one forward pass, where they are not in batches already.
        pooling: of convolutional maps and tokens over their positions, "mean" or "max", as CND's paper has it.

    Returns:
        Shape (n, neurons).

    Raises:
        ParameterError: for a layer that the network lacks, or data of another form.
    """
    return torch.cat([z for _, z, _ in looked_at(model, data, layer, batch_size, pooling)])


def looked_at(
    model: nn.Module, data, layer: str | None = None, batch_size: int = 1000, pooling: str = "mean"
) -> Iterator[tuple[Batch, torch.Tensor, torch.Tensor]]:
    """Batch by batch: the samples, their pre-activations (n, neurons) and logits (n, K), on the network's device.

    In evaluation mode, and in the memory of one batch. Arguments and errors as for `pre_activations`.
    """
    inner, device = unwrapped(model), device_of(model)
    for batch in batches(data, batch_size):
        inputs = moved(batch.inputs, device)
        layer = layer or last_hidden_layer(model, [Batch(inputs)])
        with captured(model, layer, pooling=pooling) as outputs, evaluating(model):
            logits = logits_of(call(inner, inputs))
        if not outputs[layer]:
            raise ParameterError(f"layer={layer!r}: must be a layer that a forward pass reaches")
        yield batch, outputs[layer][0], logits.detach()
