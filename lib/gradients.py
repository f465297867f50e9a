"""Signals read off the gradients of the training loss by the weights; they need no validation data.

Gradient disparity: Forouzesh and Thiran, "Disparity between batches as a signal for early stopping" (ECML 2021, from
ICML 2021 workshops). Evidence: Mahsereci, Balles, Lassner, Hennig, "Early stopping without a validation set" (2017),
Equation 10.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from .batches import Batch, arguments, labelled, logits_of, mapped, unwrapped
from .checks import check_at_least
from .layers import evaluating

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_ROUNDING = 1e-12  # variance, as a share of the squared mean, that float32 makes of equal gradients


def gradient_disparity(
    model: nn.Module,
    first,
    second,
    loss: Loss = cross_entropy,
    batch_size: int = 1000,
) -> float:
    """Euclidean distance between the gradients of the mean loss of two batches by all weights.

    Args:
        model: any network, wrapped or not; evaluated in evaluation mode and left as it was.
        first, second: a batch each with its labels, in any form that `lib.batches.labelled` takes: (x, y), what a
            `DataLoader` gives in one step, or several of these.
        loss: a mean over samples, of logits (n, K) and targets.
        batch_size: inputs in one pass, where they are not in batches already.

    Returns:
        A number of at least 0. It grows when the network begins to fit what is peculiar to a batch.

    Raises:
        ParameterError: for an empty batch, samples without labels, or another number of labels.
    """
    weights, gradient = _by_weights(model, loss)

    def mean(data) -> dict[str, Any]:
        count, means = 0, dict[str, Any]()
        for inputs, labels in labelled(model, data, batch_size=batch_size):
            count += len(labels)
            for name, values in gradient(weights, inputs, labels).items():
                before = means.get(name, values)
                means[name] = before + (values - before) * (len(labels) / count)
        return means

    with evaluating(model):
        one, other = mean(first), mean(second)
    return sum((one[name] - other[name]).square().sum() for name in weights).sqrt().item()


def evidence_criterion(model: nn.Module, data, labels=None, loss: Loss = cross_entropy, chunk: int = 32) -> float:
    """The evidence-based stopping criterion: stop where it is above 0.

    With g the mean gradient of S samples, v the variance of the single gradients and D weights (those of variance above
    0), it is 1 - S / D sum_k g_k^2 / v_k: above 0 the mean gradient is no larger than noise would make it.

    Args:
        model: any network, wrapped or not; evaluated in evaluation mode and left as it was.
        data: at least 2 samples, in any form that `lib.batches.batches` takes.
        labels: targets of all samples in their order, shape (n,); None: those in the batches.
        loss: a mean over samples, of logits (n, K) and targets.
        chunk: samples whose gradients are in memory at a time, also of larger batches.

    Returns:
        A number of at most 1.

    Raises:
        ParameterError: for fewer than two samples, samples without labels, or another number of labels.
        ValueError: where the gradient of no weight varies.
        RuntimeError: of `torch.func.vmap`, for a network that decides by its inputs what it computes, such as those of
            Hugging Face that look at a mask.
    """
    weights, gradient = _by_weights(model, loss)
    many = vmap(lambda *one: gradient(weights, *mapped(one, lambda values: values[None])), randomness="different")
    count = 0
    means: dict[str, torch.Tensor] = {}
    squares: dict[str, torch.Tensor] = {}
    with evaluating(model):
        # Chan's update of mean and sum of squared deviations, chunk by chunk.
        parts = (labelled(model, Batch(*part), None, chunk) for part in labelled(model, data, labels, chunk))
        for inputs, targets in chain.from_iterable(parts):
            for name, gradients in many(inputs, targets).items():
                mean = gradients.mean(dim=0)
                deviation = (gradients - mean).square().sum(dim=0)
                if count:
                    difference, total = mean - means[name], count + len(targets)
                    deviation += squares[name] + difference.square() * (count * len(targets) / total)
                    mean = means[name] + difference * (len(targets) / total)
                means[name], squares[name] = mean, deviation
            count += len(targets)
    check_at_least(2, samples=count)
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
    inner = unwrapped(model)
    weights = {name: value.detach() for name, value in inner.named_parameters() if value.requires_grad}

    def loss_of(weights, inputs, labels):
        return loss(logits_of(functional_call(inner, weights, *arguments(inner, inputs))), labels)

    return weights, grad(loss_of)
