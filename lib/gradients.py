"""Signals read off the gradients of the training loss by the weights; they need no validation data.

Gradient disparity: Forouzesh and Thiran, "Disparity between batches as a signal for early stopping" (ECML 2021, from
ICML 2021 workshops). Evidence: Mahsereci, Balles, Lassner, Hennig, "Early stopping without a validation set" (2017),
Equation 10.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from .checks import ParameterError
from .layers import evaluating

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_ROUNDING = 1e-12  # variance, as a share of the squared mean, that float32 makes of equal gradients


def gradient_disparity(
    model: nn.Module,
    first: tuple[torch.Tensor, torch.Tensor],
    second: tuple[torch.Tensor, torch.Tensor],
    loss: Loss = cross_entropy,
) -> float:
    """Euclidean distance between the gradients of the mean loss of two batches by all weights.

    Args:
        model: any network; evaluated in evaluation mode and left as it was.
        first, second: inputs (n, ...) and labels (n,) of each batch, on the model's device.
        loss: a mean over samples, of logits (n, K) and targets.

    Returns:
        A number of at least 0. It grows when the network begins to fit what is peculiar to a batch.

    Raises:
        ParameterError: for an empty batch, or another number of labels than inputs.
    """
    for batch in (first, second):
        _check(*batch, 1)
    weights, gradient = _by_weights(model, loss)
    with evaluating(model):
        one, other = gradient(weights, *first), gradient(weights, *second)
    return sum((one[name] - other[name]).square().sum() for name in weights).sqrt().item()


def evidence_criterion(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, loss: Loss = cross_entropy, chunk: int = 32
) -> float:
    """The evidence-based stopping criterion: stop where it is above 0.

    With g the mean gradient of S samples, v the variance of the single gradients and D weights (those of variance above
    0), it is 1 - S / D sum_k g_k^2 / v_k: above 0 the mean gradient is no larger than noise would make it.

    Args:
        model: any network; evaluated in evaluation mode and left as it was.
        x: inputs, shape (n, ...), n at least 2, on the model's device.
        labels: targets, shape (n,).
        loss: a mean over samples, of logits (n, K) and targets.
        chunk: samples whose gradients are in memory at a time.

    Returns:
        A number of at most 1.

    Raises:
        ParameterError: for fewer than two samples, or another number of labels than inputs.
        ValueError: where the gradient of no weight varies.
    """
    _check(x, labels, 2)
    weights, gradient = _by_weights(model, loss)
    many = vmap(lambda x, y: gradient(weights, x[None], y[None]), randomness="different")
    count = 0
    means: dict[str, torch.Tensor] = {}
    squares: dict[str, torch.Tensor] = {}
    with evaluating(model):
        # Chan's update of mean and sum of squared deviations, chunk by chunk.
        for batch, targets in zip(x.split(chunk), labels.to(x.device).split(chunk), strict=True):
            for name, gradients in many(batch, targets).items():
                mean = gradients.mean(dim=0)
                deviation = (gradients - mean).square().sum(dim=0)
                if count:
                    difference, total = mean - means[name], count + len(batch)
                    deviation += squares[name] + difference.square() * (count * len(batch) / total)
                    mean = means[name] + difference * (len(batch) / total)
                means[name], squares[name] = mean, deviation
            count += len(batch)
    ratio = varying = 0.0
    for name, mean in means.items():
        variance = squares[name].double() / (count - 1)
        varies = variance > _ROUNDING * mean.double().square()
        ratio += (mean.double()[varies].square() / variance[varies]).sum().item()
        varying += varies.sum().item()
    if not varying:
        raise ValueError("the gradient of no weight varies between samples")
    return 1 - count / varying * ratio


def _by_weights(model: nn.Module, loss: Loss):
    """The trainable weights by name, and the loss's gradient by them as a function of weights, inputs and labels."""
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return weights, grad(lambda w, x, labels: loss(functional_call(model, w, (x,)), labels))


def _check(x: torch.Tensor, labels: torch.Tensor, least: int) -> None:
    if len(x) < least or len(x) != len(labels):
        raise ParameterError(f"x of {len(x)} samples: must be at least {least}, as many as the {len(labels)} labels")
