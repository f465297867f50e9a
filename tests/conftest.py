"""Shared fixtures: small finished runs, and real data where it lies beside the project."""

import pytest
import torch

from lib.parameters import CHOICES, ROOT, Experiment
from lib.training import run

SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny():
    """Parameters of a run on digits that takes a fraction of a second."""
    return {"epochs": 3, "window": 2, "patience": 1, "validation_share": 0.1, "criteria": CHOICES["criteria"]}


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory, tiny):
    """A folder of finished runs: two noises, two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        for noise, rate in (("none", 0.0), ("symmetric", 0.4)):
            run(Experiment(runs_folder=str(folder), noise=noise, noise_rate=rate, seed=seed, **tiny))
    return folder


@pytest.fixture(scope="session")
def newsgroups_folder(tmp_path_factory):
    """A data folder with the real corpus in it; what is prepared from it does not go to the shared folder."""
    cache = SHARED / "20news" / "20news-bydate_py3.pkz"
    if not cache.exists():
        pytest.skip(f"the 20 Newsgroups corpus is not at {SHARED}/20news")
    folder = tmp_path_factory.mktemp("data")
    (folder / cache.name).symlink_to(cache)
    return folder
