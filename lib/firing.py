"""How often neurons fire: the share of pre-activations above 0."""

from typing import Any, NamedTuple

import torch
from torch import nn

from .arrays import like, to_tensor
from .checks import ParameterError
from .layers import looked_at


class Firing(NamedTuple):
    """Firing frequencies in [0, 1].

    Attributes:
        neurons: of each neuron over the samples, shape (neurons,).
        samples: of each sample over the neurons, shape (n,).
    """

    neurons: Any
    samples: Any


def firing_frequency(pre_activations, threshold: float = 0.0) -> Firing:
    """Firing frequency of every neuron and of every sample.

    Args:
        pre_activations: shape (n, neurons), or maps (n, neurons, ...), each position of which counts; floating point,
            array or tensor on any device, neither n nor neurons 0.
        threshold: value above which a neuron fires.

    Returns:
        Frequencies, float64, of the kind of `pre_activations`.

    Raises:
        ParameterError: for another shape.
        ValueError: for a pre-activation that is NaN.
    """
    z = to_tensor(pre_activations)
    if z.ndim < 2 or z.numel() == 0:
        raise ParameterError(f"pre_activations of shape {tuple(z.shape)}: must be (n, neurons, ...), none empty")
    if z.isnan().any():
        raise ValueError("pre_activations: must be numbers; got NaN")
    fires = (z > threshold).flatten(2).double().mean(dim=2) if z.ndim > 2 else (z > threshold).double()
    return Firing(like(fires.mean(dim=0), pre_activations), like(fires.mean(dim=1), pre_activations))


def firing(
    model: nn.Module,
    data,
    layer: str | None = None,
    threshold: float = 0.0,
    batch_size: int = 1000,
    pooling: str = "mean",
) -> Firing:
    """Firing frequencies of a network on samples of any number, in the memory of a batch and of a number a sample.

    Arguments and errors as for `lib.layers.pre_activations`, whose frequencies these are, and `firing_frequency`.
    """
    fired: Any = 0.0
    shares = []
    for _, z, _ in looked_at(model, data, layer, batch_size, pooling):
        neurons, of_samples = firing_frequency(z, threshold)
        fired = fired + len(z) * neurons
        shares.append(of_samples)
    samples = torch.cat(shares)
    return Firing(fired / len(samples), samples)
