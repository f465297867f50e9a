from pathlib import Path

import numpy as np
import pytest
import torch

from lib import data
from lib.checks import ParameterError
from lib.data import vision
from lib.files import LOCK
from lib.parameters import Experiment
from tests import official

MAKERS = {
    "cifar10": lambda folder, patch: official.cifar(folder, patch, "CIFAR10", 10),
    "cifar100": lambda folder, patch: official.cifar(folder, patch, "CIFAR100", 100),
    "mnist": lambda folder, patch: official.mnist(folder, patch, "MNIST"),
    "fashion_mnist": lambda folder, patch: official.mnist(folder, patch, "FashionMNIST"),
    "svhn": official.svhn,
}
EVERY = pytest.mark.parametrize("name", MAKERS)


def load(name, folder):
    return data.load(Experiment(dataset=name, data_folder=str(folder)))


def archives(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz" and path.name != LOCK]


@EVERY
def test_the_official_archive_is_prepared_once_and_then_enough(name, tmp_path, monkeypatch):
    told = MAKERS[name](tmp_path, monkeypatch)
    first = load(name, tmp_path)
    for path in archives(tmp_path):
        path.unlink()
    second = load(name, tmp_path)
    for dataset in (first, second):
        for part in ("train", "test"):
            images = told[f"x_{part}"].reshape(*told[f"x_{part}"].shape[:3], -1)
            assert np.array_equal(getattr(dataset, f"x_{part}").stored.numpy(), images)
            assert np.array_equal(getattr(dataset, f"y_{part}").numpy(), told[f"y_{part}"])
    assert first.x_train.stored.dtype == torch.uint8
    assert len(first.classes) == (100 if name == "cifar100" else 10)
    assert "official archive, MD5 checked" in first.source
    assert f"reduced: {len(first.y_train)} of {vision.VISION[name].train_images:,} training images" in first.source
    assert [path.name for path in tmp_path.glob("*.npz")] == [f"{name}.npz"]


@EVERY
def test_a_cut_archive_is_named_and_nothing_is_prepared(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    archive = archives(tmp_path)[0]
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(ParameterError, match=rf"{archive.name} is cut, corrupted or another file .*; delete it"):
        load(name, tmp_path)
    assert not list(tmp_path.glob("*.npz"))


@EVERY
def test_without_internet_the_file_and_its_place_are_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr("requests.get", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(FileNotFoundError, match=rf" is not in {tmp_path}.*no route.*place it there"):
        load(name, tmp_path)
    assert archives(tmp_path) == []


def test_the_superclasses_of_cifar100(tmp_path, monkeypatch):
    told = MAKERS["cifar100"](tmp_path, monkeypatch)
    dataset = load("cifar100_coarse", tmp_path)
    assert dataset.num_classes == 20
    assert len(dataset.classes) == 20
    assert np.bincount(vision.SUPERCLASS).tolist() == [5] * 20
    assert dataset.y_train.tolist() == [vision.SUPERCLASS[label] for label in told["y_train"]]
    assert [path.name for path in tmp_path.glob("*.npz")] == ["cifar100.npz"]


def test_a_file_with_nothing_but_the_four_arrays_is_enough(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8), np.arange(30) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    dataset = load("cifar10", tmp_path)
    assert dataset.num_classes == 10
    assert dataset.source == "CIFAR-10, reduced: 30 of 50,000 training images, pixels not checked"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": None}, r"cifar10\.npz: must hold .*; x_train missing"),
        ({"y_test": np.full(10, 120)}, r"y_train of cifar10\.npz: must hold every class"),
        (
            {"x_train": np.zeros((30, 32, 32), np.uint8), "x_test": np.zeros((10, 32, 32), np.uint8)},
            "images of 3 channels",
        ),
        (
            {"x_train": np.zeros((30, 32, 32, 3)), "x_test": np.zeros((10, 32, 32, 3))},
            "must be uint8 images of 3 channels",
        ),
    ],
)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100_coarse"])
def test_a_file_placed_by_hand_is_checked(tmp_path, dataset, changed, message):
    x = np.zeros((30, 32, 32, 3), dtype=np.uint8)
    arrays = {"x_train": x, "y_train": np.arange(30) % 10, "x_test": x[:10], "y_test": np.arange(10)} | changed
    name = dataset.removesuffix("_coarse")
    np.savez(tmp_path / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ParameterError, match=message.replace("cifar10", name)):
        load(dataset, tmp_path)


def test_images_that_are_not_the_official_pixels_are_told():
    images = np.full((50_000, 1, 2, 3), 7, dtype=np.uint8)
    known = vision.Vision("CIFAR10", 50_000, (0,) * 3, (1,) * 3, (700_000,) * 3)
    assert vision.source(known, "C", images) == "C"
    images[0, 0, 0, 0] = 8
    assert vision.source(known, "C", images) == "C, images re-encoded: not the official pixels"


def test_published_constants_agree_with_the_channel_sums():
    for name in ("cifar10", "cifar100"):
        known = vision.VISION[name]
        means = [total / (255 * 50_000 * 32 * 32) for total in known.channel_sums]
        assert means == pytest.approx(known.mean, abs=5e-5)


def test_the_re_encoded_images_of_cifar10(cifar_folder):
    dataset = load("cifar10", cifar_folder)
    assert dataset.x_train.shape == (50_000, 3, 32, 32)
    assert dataset.x_test.shape == (10_000, 3, 32, 32)
    assert dataset.y_train.bincount().tolist() == [5000] * 10
    assert "cifar10.npz" in Path("/proc/self/maps").read_text()
    assert "re-encoded" in dataset.source
    sample = dataset.x_train[::50]
    assert sample.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (sample.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05


def test_a_subset_is_drawn_by_the_seed_and_told(cifar_folder):
    def subset(seed):
        return data.load(
            Experiment(dataset="cifar10", data_folder=str(cifar_folder), train_samples=500, test_samples=200, seed=seed)
        )

    first, again, other = subset(0), subset(0), subset(1)
    assert len(first.x_train) == len(first.y_train) == 500
    assert "500 of 50,000 training samples, 200 of 10,000 test samples" in first.source
    assert torch.equal(first.train_rows, again.train_rows)
    assert not torch.equal(first.train_rows, other.train_rows)
    assert torch.equal(first.x_test.stored, other.x_test.stored)
    whole = load("cifar10", cifar_folder)
    assert torch.equal(whole.x_train[first.train_rows], first.x_train[:])
    assert torch.equal(whole.y_train[first.train_rows], first.y_train)
    with pytest.raises(ParameterError, match="train_samples=60000: must be at most the 50000 of cifar10"):
        data.load(Experiment(dataset="cifar10", data_folder=str(cifar_folder), train_samples=60_000))
