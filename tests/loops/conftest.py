"""A training on noisy labels that any trainer can make: few samples, two layers, always in one order."""

import os

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lib.noise import symmetric
from lib.torchvision_operators import declare

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"
declare()  # trainers import torchvision

RULE = {"num_classes": 3, "patience": 3, "window": 1}
EPOCHS = 30  # which no training reaches


def network():
    """The same weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))


@pytest.fixture(scope="session")
def samples():
    """Inputs, shape (96, 8), noisy labels and places."""
    x = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))
    labels = symmetric(x[:, :3].argmax(dim=1), 0.4, 3, seed=0).labels
    return TensorDataset(x, labels, torch.arange(96))


@pytest.fixture
def loader(samples):
    return DataLoader(samples, 16)


def check_resumed(whole, resumed):
    """Two stoppers decided alike, on the same signals, and kept the same weights."""
    assert 4 < whole.epoch < EPOCHS
    assert whole.stop
    assert resumed.stop
    assert (resumed.epoch, resumed.record) == (whole.epoch, whole.record)
    assert whole.record == whole.epoch - 3
    assert resumed.signals == whole.signals
    one, other = whole.state_dict()["best"], resumed.state_dict()["best"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def check_restored(model, stopper):
    """The network has the weights that were kept, in evaluation and training."""
    best = stopper.state_dict()["best"]
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
