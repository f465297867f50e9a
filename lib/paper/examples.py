"""Two small networks to look at: one that learned clean digits, and one that memorized wrong labels of them."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib import data, noise
from lib.catalogue import NETWORKS
from lib.parameters import Experiment


class Trained(NamedTuple):
    """A trained network and what it was trained on.

    Attributes:
        model: the network, in evaluation mode.
        x: training inputs, shape (n, 1, 8, 8).
        labels: as given, shape (n,).
        corrupted: whether a label is wrong, shape (n,).
        accuracies: accuracy on the test set after each epoch.
    """

    model: nn.Module
    x: torch.Tensor
    labels: torch.Tensor
    corrupted: torch.Tensor
    accuracies: list[float]


def trained(noise_rate: float, epochs: int, seed: int = 0, after_epoch=None) -> Trained:
    """Train the MLP on digits with symmetric label noise, in a plain loop.

    Args:
        noise_rate: share of wrong labels, in [0, 1).
        epochs: passes over the 1,257 training images.
        seed: of noise, weights and batch order.
        after_epoch: called with (model, x, labels) after each epoch.

    Raises ParameterError.
    """
    experiment = Experiment(dataset="digits", network="mlp")
    dataset = data.load(experiment)
    x, x_test = dataset.x_train[:], dataset.x_test[:]
    noisy = noise.symmetric(dataset.y_train, noise_rate, dataset.num_classes, seed)
    labels, corrupted = torch.as_tensor(noisy.labels), torch.as_tensor(noisy.corrupted)
    torch.manual_seed(seed)
    model = NETWORKS[experiment.network](x.shape[1:], dataset.num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    accuracies = []
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), labels[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracies.append((model(x_test).argmax(dim=1) == dataset.y_test).double().mean().item())
        if after_epoch:
            after_epoch(model, x, labels)
    return Trained(model.eval(), x, labels, corrupted, accuracies)
