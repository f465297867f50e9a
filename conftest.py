"""What the doctests of `lib` find defined: a small network and noisy labels."""

from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import cross_entropy

from lib.noise import symmetric
from lib.torchvision_operators import declare

declare()  # trainers import torchvision, and so does the process that collects what tests of them warned of

TRAINERS = {
    "huggingface": "transformers",
    "lightning": "lightning",
    "skorch": "skorch",
    "ignite": "ignite",
    "keras": "keras",
}


def pytest_ignore_collect(collection_path, config):
    """Adapters whose trainer is not installed; where only quick tests run all of them: importing one takes longer."""
    name = collection_path.stem
    trainer = TRAINERS.get(name.removeprefix("test_")) if collection_path.parent.name == "loops" else None
    quick, skips_itself = "not slow" in config.option.markexpr, name.startswith("test_")
    if trainer and (quick or not (skips_itself or find_spec(trainer))):
        return True
    return None


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    noisy_labels = symmetric(x[:, :3].argmax(dim=1), 0.4, 3, seed=0).labels
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    doctest_namespace.update(
        torch=torch,
        cross_entropy=cross_entropy,
        x=x,
        noisy_labels=noisy_labels,
        model=model,
        optimizer=optimizer,
    )
