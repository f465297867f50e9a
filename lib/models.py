"""Networks of the study. Any other `nn.Module` works as well, see `register`."""

from collections.abc import Callable

import torch
from torch import nn

from lib.parameters import CHOICES, Experiment


def mlp(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Two hidden layers of 512 rectified units."""
    inputs = torch.Size(sample_shape).numel()
    hidden: list[nn.Module] = []
    for width_in in (inputs, 512):
        hidden += [nn.Linear(width_in, 512), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, num_classes))


def small_cnn(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Two 3x3 convolutions of 32 and 64 maps, pooled to 4x4, and a hidden layer of 128 rectified units."""
    return nn.Sequential(
        nn.Conv2d(sample_shape[0], 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, num_classes),
    )


def news_mlp(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """The NEWS network of Yu et al. (ICML 2019) behind its embedding: 1200 and 300 units, batch norm, softsign."""
    inputs = torch.Size(sample_shape).numel()
    hidden: list[nn.Module] = []
    for width_in, width in ((inputs, 1200), (1200, 300)):
        hidden += [nn.Linear(width_in, width), nn.BatchNorm1d(width), nn.Softsign(), nn.Dropout(dropout)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(300, num_classes))


NETWORKS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "small_cnn": small_cnn, "news_mlp": news_mlp}
"""Builder of each network by name: takes the shape of a sample, the number of classes and the dropout rate."""


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make a user's own network known: `Experiment(network=name)` then calls the builder.

    Args:
        name: how parameters, folders and tables call it.
        builder: takes (sample_shape, num_classes, dropout) and gives an `nn.Module` that maps inputs of shape
            (n, *sample_shape) to logits of shape (n, num_classes).
    """
    NETWORKS[name] = builder
    if name not in CHOICES["network"]:
        CHOICES["network"].append(name)


def build(experiment: Experiment, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The experiment's network, freshly initialised from torch's global random state, on its device."""
    network = NETWORKS[experiment.network](tuple(sample_shape), num_classes, experiment.dropout)
    return network.to(experiment.device)
