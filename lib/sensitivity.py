"""How a network reacts to small changes of its inputs: loss sensitivity, and the critical sample ratio.

Both are measures of Arpit et al., "A closer look at memorization in deep networks" (ICML 2017). Networks are evaluated
in evaluation mode and left as they were; there samples do not influence each other, so that one backward pass through a
batch gives the exact gradient of every sample.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.func import grad
from torch.nn.functional import cross_entropy

from .checks import ParameterError, check_at_least
from .layers import evaluating

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def input_gradient_norms(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, loss: Loss = cross_entropy, batch_size: int = 500
) -> torch.Tensor:
    """Loss sensitivity of every sample: the Euclidean norm of the gradient of its loss with respect to its input.

    Args:
        model: any network.
        x: inputs, floating point, shape (n, ...), on the model's device.
        labels: targets of the loss, shape (n,).
        loss: a mean over samples, of logits (n, K) and targets.
        batch_size: inputs in one pass.

    Returns:
        Nats per unit of input, shape (n,).

    Raises:
        ParameterError: for inputs that are no floating point numbers, or another number of labels.
    """
    return torch.cat([gradient.flatten(1).norm(dim=1) for gradient in _gradients(model, x, labels, loss, batch_size)])


def batch_loss_sensitivity(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, loss: Loss = cross_entropy, batch_size: int = 128
) -> float:
    """Loss sensitivity summed over batches: of each, the norm of the gradient of its mean loss by the whole batch.

    For a batch of m samples with gradients g_i it is |(g_1, ..., g_m)| / m. Arguments and errors as for
    `input_gradient_norms`.
    """
    gradients = _gradients(model, x, labels, loss, batch_size)
    return sum((gradient.norm() / len(gradient)).item() for gradient in gradients)


def critical_samples(
    model: nn.Module,
    x: torch.Tensor,
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
        model: any network.
        x: inputs, floating point, shape (n, ...), on the model's device.
        radius: of the ball, in units of the input, above 0.
        steps: of the search, at least 1.
        step_size: of each step; None: 2.5 radius / steps, at least a quarter of the radius.
        seed: of the starting points; a sample's start does not depend on the batch size.
        batch_size: inputs in one pass.

    Returns:
        Boolean, shape (n,).

    Raises:
        ParameterError: for a parameter out of range, or inputs that are no floating point numbers.
    """
    if not 0 < radius < float("inf"):
        raise ParameterError(f"radius={radius}: must be a finite number above 0")
    check_at_least(1, steps=steps)
    _check_inputs(x, x)
    stride = step_size or max(2.5 / steps, 0.25) * radius
    generator = torch.Generator().manual_seed(seed)
    starts = (2 * torch.rand(x.shape, generator=generator) - 1).mul_(radius)
    with evaluating(model):
        found = [
            _search(model, batch, start.to(x.device, x.dtype), radius, steps, stride)
            for batch, start in zip(x.split(batch_size), starts.split(batch_size), strict=True)
        ]
    return torch.cat(found)


def critical_sample_ratio(model: nn.Module, x: torch.Tensor, radius: float, **options) -> float:
    """Share of critical samples, in [0, 1]; arguments and errors as for `critical_samples`."""
    return critical_samples(model, x, radius, **options).double().mean().item()


def _search(model, x, shift, radius: float, steps: int, stride: float) -> torch.Tensor:
    original = model(x).argmax(dim=1)
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for step in range(steps + 1):
        open_ = (~found).nonzero().squeeze(1)
        if len(open_) == 0:
            break
        classes = original[open_]

        def total(point, classes=classes):
            logits = model(point)
            return cross_entropy(logits, classes, reduction="sum"), logits

        gradient, logits = grad(total, has_aux=True)(x[open_] + shift[open_])
        found[open_] = logits.argmax(dim=1) != classes
        if step < steps:
            shift[open_] = (shift[open_] + stride * gradient.sign()).clamp_(-radius, radius)
    return found


def _gradients(model, x, labels, loss, batch_size):
    """Of each batch, the gradient of every sample's loss by its input."""
    _check_inputs(x, labels)
    labels = labels.to(x.device)
    with evaluating(model):
        for batch, targets in zip(x.split(batch_size), labels.split(batch_size), strict=True):
            yield grad(lambda point, targets=targets: len(point) * loss(model(point), targets))(batch)


def _check_inputs(x: torch.Tensor, labels: torch.Tensor) -> None:
    if not x.is_floating_point() or len(x) == 0 or len(x) != len(labels):
        raise ParameterError(
            f"x of shape {tuple(x.shape)} and type {x.dtype}: must be floating point, with a sample for each of the "
            f"{len(labels)} labels"
        )
