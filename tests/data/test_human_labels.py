import hashlib
import os

import numpy as np
import pytest
import torch

from lib import data
from lib.catalogue import NOISES
from lib.checks import ParameterError
from lib.data import human_labels, vision
from lib.data.downloads import Archive
from lib.data.samples import draw
from lib.parameters import Experiment


class Attack:
    """Pickled, it writes a file as soon as it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def official_file(tmp_path, monkeypatch):
    """Makes `CIFAR-10_human.pt` of some content the official file."""

    def place(content, name="CIFAR-10_human.pt", dataset="cifar10"):
        torch.save(content, tmp_path / name)
        md5 = hashlib.md5((tmp_path / name).read_bytes()).hexdigest()
        monkeypatch.setitem(human_labels.ARCHIVES, dataset, Archive(name, md5, ()))
        return tmp_path

    return place


CLEAN = np.arange(40) % 10


def test_labels_come_in_the_order_of_the_rows(official_file):
    worse = (CLEAN + 1) % 10
    folder = official_file({"clean_label": CLEAN, "worse_label": worse})
    assert np.array_equal(human_labels.load("cifar10", "worse_label", folder, CLEAN), worse)
    rows = np.array([5, 3, 17])
    assert np.array_equal(human_labels.load("cifar10", "worse_label", folder, CLEAN[rows], rows), worse[rows])


def test_clean_labels_must_be_those_of_the_dataset(official_file):
    folder = official_file({"clean_label": CLEAN, "worse_label": CLEAN})
    true = CLEAN.copy()
    true[:2] = 9
    with pytest.raises(ParameterError, match=r"differ from those of cifar10 at 2 of 40 images; .* official order"):
        human_labels.load("cifar10", "worse_label", folder, true)
    with pytest.raises(ParameterError, match=r"labels 40 images, not 39"):
        human_labels.load("cifar10", "worse_label", folder, CLEAN[:39])


def test_a_variant_that_the_file_lacks(official_file):
    folder = official_file({"clean_label": CLEAN})
    with pytest.raises(ParameterError, match="lacks aggre_label, found clean_label; delete it, and get it again"):
        human_labels.load("cifar10", "aggre_label", folder, CLEAN)


def test_another_file_is_not_used(tmp_path):
    torch.save({"clean_label": CLEAN, "worse_label": CLEAN}, tmp_path / "CIFAR-10_human.pt")
    with pytest.raises(ParameterError, match=r"CIFAR-10_human\.pt is cut, corrupted or another file"):
        human_labels.load("cifar10", "worse_label", tmp_path, CLEAN)


@pytest.mark.parametrize("where", ["beside", "instead"])
def test_no_code_in_the_file_is_run(official_file, tmp_path, where):
    ran = tmp_path / "ran"
    attack = Attack(ran)
    folder = official_file({"clean_label": CLEAN, "worse_label": attack} if where == "beside" else attack)
    with pytest.raises(ParameterError, match="must hold labels and nothing else; delete it"):
        human_labels.load("cifar10", "worse_label", folder, CLEAN)
    assert not ran.exists()


def test_python_lists_are_labels_too(official_file):
    content = {"clean_coarse_label": CLEAN.tolist(), "noisy_coarse_label": CLEAN[::-1].tolist()}
    folder = official_file(content, "CIFAR-100_human.pt", "cifar100_coarse")
    labels = human_labels.load("cifar100_coarse", "noisy_coarse_label", folder, CLEAN)
    assert labels.tolist() == CLEAN[::-1].tolist()


def test_every_variant_of_cifar10n_has_its_published_noise(cifar_folder):
    published = {"aggre_label": 9.01, "random_label1": 17.23, "random_label2": 18.12, "random_label3": 17.64}
    published["worse_label"] = 40.21
    assert set(published) == {name for name, row in NOISES.items() if row.people_of == "cifar10"}
    dataset = data.load(Experiment(dataset="cifar10", data_folder=str(cifar_folder)))
    for noise, rate in published.items():
        experiment = Experiment(dataset="cifar10", data_folder=str(cifar_folder), noise=noise, noise_rate=0)
        corrupted = draw(experiment, dataset).train.corrupted
        assert 100 * corrupted.double().mean().item() == pytest.approx(rate, abs=0.006)


def test_a_subset_carries_its_own_human_labels(cifar_folder):
    settings = {"dataset": "cifar10", "data_folder": str(cifar_folder), "noise": "worse_label", "noise_rate": 0}
    whole = draw(Experiment(**settings), data.load(Experiment(**settings))).train
    small = Experiment(**settings, train_samples=300)
    dataset = data.load(small)
    assert torch.equal(draw(small, dataset).train.given, whole.given[dataset.train_rows])


def test_cifar100n_fine_and_coarse(cifar_folder):
    labels = human_labels.read(cifar_folder / "CIFAR-100_human.pt")
    assert np.mean(labels["noisy_label"] != labels["clean_label"]) == pytest.approx(0.402, abs=5e-4)
    superclass = np.array(vision.SUPERCLASS)
    assert np.array_equal(superclass[labels["clean_label"]], labels["clean_coarse_label"])
    for dataset, true in (("cifar100", labels["clean_label"]), ("cifar100_coarse", labels["clean_coarse_label"])):
        (noise,) = [name for name, row in NOISES.items() if row.people_of == dataset]
        assert np.array_equal(human_labels.load(dataset, noise, cifar_folder, true), labels[noise])
