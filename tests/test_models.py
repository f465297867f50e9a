import pytest
import torch
from torch import nn

from lib import models
from lib.parameters import CHOICES, Experiment


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("mlp", (1, 8, 8), 64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10),
        ("small_cnn", (1, 8, 8), 9 * 32 + 32 + 32 * 9 * 64 + 64 + 1024 * 128 + 128 + 128 * 10 + 10),
        ("news_mlp", (16, 300), 4800 * 1200 + 1200 * 3 + 1200 * 300 + 300 * 3 + 300 * 10 + 10),
    ],
)
def test_logits_and_parameter_counts(name, shape, parameters):
    network = models.build(Experiment(network=name), shape, 10)
    assert network(torch.randn(3, *shape)).shape == (3, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", models.NETWORKS)
def test_dropout_reaches_the_network(name):
    network = models.build(Experiment(network=name, dropout=0.5), (1, 8, 8), 10).train()
    x = torch.randn(4, 1, 8, 8)
    assert not torch.equal(network(x), network(x))


def test_a_registered_network_is_built_by_name(monkeypatch):
    monkeypatch.setitem(CHOICES, "network", [*CHOICES["network"]])
    monkeypatch.setattr(models, "NETWORKS", dict(models.NETWORKS))
    models.register("own", lambda shape, classes, dropout: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))
    assert models.build(Experiment(network="own"), (1, 8, 8), 3)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
