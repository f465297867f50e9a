"""Shared fixtures: small finished runs, and real data where it lies beside the project."""

import io
import os

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from lib.catalogue import CRITERIA, DATASETS, NETWORKS, NOISES
from lib.files import LOCK
from lib.parameters import ROOT, Experiment
from lib.training import run

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items):
    """What reads the real data is as slow as what is marked so; slow tests come first, so that none is last alone."""
    for item in items:
        if {"newsgroups_folder", "cifar_folder"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def left(folder):
    """Names of what is in a folder, without the lock that stays."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _catalogue_restored():
    """What a test adds to the catalogue is gone after it."""
    before = [(catalogue, dict(catalogue)) for catalogue in (CRITERIA, DATASETS, NETWORKS, NOISES)]
    yield
    for catalogue, rows in before:
        catalogue.clear()
        catalogue.update(rows)


@pytest.fixture
def double_precision():
    """Networks and inputs in float64, so that what must agree does to far more digits than a test asks for.

    In float32 the order of a sum, which differs between processors, shows near zero.
    """
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def tiny():
    """Parameters of a run on digits that takes a fraction of a second."""
    criteria = [*Experiment().criteria, "validation_accuracy_noisy", "validation_accuracy_clean"]
    return {"epochs": 3, "window": 2, "patience": 1, "validation_share": 0.1, "criteria": criteria}


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory, tiny):
    """A folder of finished runs: two noises, two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        for noise, rate in (("none", 0.0), ("symmetric", 0.4)):
            run(Experiment(runs_folder=str(folder), noise=noise, noise_rate=rate, seed=seed, **tiny))
    return folder


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory):
    """A folder of finished runs: a study of two rates and two seeds with both layers stored, and two variants."""
    folder = tmp_path_factory.mktemp("study")
    common = {"runs_folder": str(folder), "epochs": 4, "window": 2, "patience": 1}
    for seed in (0, 1):
        for rate in (0.2, 0.4):
            run(Experiment(noise_rate=rate, seed=seed, cnd_stored_layers=["all"], **common))
        held_out = ["cnd", "validation_accuracy_noisy", "validation_accuracy_clean"]
        run(Experiment(noise_rate=0.4, seed=seed, validation_share=0.1, criteria=held_out, **common))
    run(Experiment(noise_rate=0.4, seed=1, cnd_bins=10, criteria=["cnd"], **common))
    return folder


@pytest.fixture(scope="session")
def newsgroups_folder(tmp_path_factory):
    """A data folder with the real corpus in it; what is prepared from it does not go to the shared folder."""
    cache = SHARED / "20news" / "20news-bydate_py3.pkz"
    if not cache.exists():
        pytest.skip(f"the 20 Newsgroups corpus is not at {SHARED}/20news")
    return made_once(tmp_path_factory, "news", lambda folder: (folder / cache.name).symlink_to(cache))


@pytest.fixture(scope="session")
def cifar_folder(tmp_path_factory):
    """A data folder with the re-encoded images of CIFAR-10 and the human labels of both CIFARs."""
    packed = SHARED / "cifar10"
    if not packed.exists():
        pytest.skip(f"CIFAR-10 is not at {packed}")

    def make(folder):
        for name in ("CIFAR-10_human.pt", "CIFAR-100_human.pt"):
            (folder / name).symlink_to(packed / name)
        np.savez(folder / "cifar10.npz", **{k: v for part in ("train", "test") for k, v in _unpacked(packed, part)})

    return made_once(tmp_path_factory, "cifar", make)


def made_once(tmp_path_factory, name, make):
    """A folder of all processes that test together, made by the first that asks."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


def _unpacked(packed, part):
    import pyarrow.parquet
    from PIL import Image

    table = pyarrow.parquet.read_table(packed / f"{part}.parquet")
    images = [np.asarray(Image.open(io.BytesIO(image.as_py())).convert("RGB")) for image in table["image"]]
    return [(f"x_{part}", np.stack(images)), (f"y_{part}", table["label"].to_numpy().astype(np.int64))]
