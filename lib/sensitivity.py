"""How a network reacts to small changes of its inputs: loss sensitivity, and the critical sample ratio.

Both are measures of Arpit et al., "A closer look at memorization in deep networks" (ICML 2017). Networks are evaluated
in evaluation mode and left as they were; there samples do not influence each other, so that one backward pass through a
batch gives the exact gradient of every sample. Of several inputs those count that are floating point.
"""

import operator
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.func import grad
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm

from .batches import batches, call, device_of, labelled, logits_of, mapped, moved, unwrapped
from .checks import ParameterError, check_at_least
from .layers import evaluating

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def input_gradient_norms(
    model: nn.Module, data, labels=None, loss: Loss = cross_entropy, batch_size: int = 500
) -> torch.Tensor:
    """Loss sensitivity of every sample: the Euclidean norm of the gradient of its loss with respect to its input.

    Args:
        model: any network, wrapped or not.
        data: samples in any form that `lib.batches.batches` takes, their inputs floating point.
        labels: targets of the loss for all samples in their order, shape (n,); None: those in the batches.
        loss: a mean over samples, of logits (n, K) and targets.
        batch_size: inputs in one pass, where they are not in batches already.

    Returns:
        Nats per unit of input, shape (n,).

    Raises:
        ParameterError: for inputs that are no floating point numbers, samples without labels, or another number of
            labels.
    """
    gradients = _gradients(model, data, labels, loss, batch_size)
    together = (torch.cat([part.reshape(len(part), -1) for part in batch], dim=1).norm(dim=1) for batch in gradients)
    return torch.cat(list(together))


def batch_loss_sensitivity(
    model: nn.Module, data, labels=None, loss: Loss = cross_entropy, batch_size: int = 128
) -> float:
    """Loss sensitivity summed over batches: of each, the norm of the gradient of its mean loss by the whole batch.

    For a batch of m samples with gradients g_i it is |(g_1, ..., g_m)| / m. Arguments and errors as for
    `input_gradient_norms`.
    """
    gradients = _gradients(model, data, labels, loss, batch_size)
    return sum((get_total_norm(batch) / len(batch[0])).item() for batch in gradients)


def critical_samples(
    model: nn.Module,
    data,
    radius: float,
    steps: int = 10,
    step_size: float | None = None,
    seed: int = 0,
    batch_size: int = 500,
) -> torch.Tensor:
    """Which samples have a differently classified point near them, as far as projected gradient search finds one.

    From a random point of the L-infinity ball around each sample, the loss of the class predicted at the sample is
    increased by steps along the sign of its gradient, projected back into the ball. What is found is there; what is not
    found may be there all the same.

    Args:
        model: any network, wrapped or not.
        data: samples in any form that `lib.batches.batches` takes, their inputs floating point.
        radius: of the ball, in units of the input, above 0.
        steps: of the search, at least 1.
        step_size: of each step; None: 2.5 radius / steps, at least a quarter of the radius.
        seed: of the starting points; a sample's start does not depend on the batch size.
        batch_size: inputs in one pass, where they are not in batches already.

    Returns:
        Boolean, shape (n,).

    Raises:
        ParameterError: for a parameter out of range, or inputs that are no floating point numbers.
    """
    if not 0 < radius < float("inf"):
        raise ParameterError(f"radius={radius}: must be a finite number above 0")
    check_at_least(1, steps=steps)
    stride = step_size or max(2.5 / steps, 0.25) * radius
    generators: list[torch.Generator] = []  # one for each input, so that batches of any size draw the same
    found = []
    with evaluating(model):
        for batch in batches(data, batch_size):
            inputs = moved(batch.inputs, device_of(model))
            points = _points(inputs)
            generators = generators or [torch.Generator().manual_seed(seed + place) for place in range(len(points))]
            starts = [
                (2 * torch.rand(point.shape, generator=generator) - 1).mul_(radius).to(point)
                for point, generator in zip(points, generators, strict=True)
            ]
            found.append(_search(model, inputs, starts, radius, steps, stride))
    return torch.cat(found)


def critical_sample_ratio(model: nn.Module, data, radius: float, **options) -> float:
    """Share of critical samples, in [0, 1]; arguments and errors as for `critical_samples`."""
    return critical_samples(model, data, radius, **options).double().mean().item()


def _search(model, inputs, shifts: list[torch.Tensor], radius: float, steps: int, stride: float) -> torch.Tensor:
    original = _logits(model, inputs, _points(inputs)).argmax(dim=1)
    found = torch.zeros_like(original, dtype=torch.bool)
    for step in range(steps + 1):
        open_ = (~found).nonzero().squeeze(1)
        if len(open_) == 0:
            break
        rest, classes = mapped(inputs, operator.itemgetter(open_)), original[open_]

        def total(points, rest=rest, classes=classes):
            logits = _logits(model, rest, points)
            return cross_entropy(logits, classes, reduction="sum"), logits

        points = [point + shift[open_] for point, shift in zip(_points(rest), shifts, strict=True)]
        gradients, logits = grad(total, has_aux=True)(points)
        found[open_] = logits.argmax(dim=1) != classes
        if step < steps:
            for shift, gradient in zip(shifts, gradients, strict=True):
                shift[open_] = (shift[open_] + stride * gradient.sign()).clamp_(-radius, radius)
    return found


def _gradients(model, data, labels, loss, batch_size) -> Iterator[list[torch.Tensor]]:
    """Of each batch, the gradient of every sample's loss by each of its inputs."""
    with evaluating(model):
        for inputs, targets in labelled(model, data, labels, batch_size):

            def total(points, inputs=inputs, targets=targets):
                return len(targets) * loss(_logits(model, inputs, points), targets)

            yield grad(total)(_points(inputs))


def _points(inputs) -> list[torch.Tensor]:
    """The floating point tensors among the inputs."""
    tensors: list[torch.Tensor] = []
    mapped(inputs, tensors.append)
    points = [values for values in tensors if values.is_floating_point()]
    if not points:
        types = ", ".join(str(values.dtype) for values in tensors)
        raise ParameterError(f"inputs of type {types}: must be floating point, else there is no gradient by them")
    return points


def _logits(model: nn.Module, inputs, points: Sequence[torch.Tensor]) -> torch.Tensor:
    """What a network gives where these stand in the place of the floating point tensors among its inputs."""
    left = iter(points)
    there = mapped(inputs, lambda values: next(left) if values.is_floating_point() else values)
    return logits_of(call(unwrapped(model), there))
