import pytest
import torch

from lib import data
from lib.checks import ParameterError
from lib.data.loading import distinct, prepare
from lib.grid.tasks import read
from lib.parameters import ROOT, Experiment


def test_digits_is_split_once_for_all_and_stratified():
    digits, again = data.load(Experiment()), data.load(Experiment(seed=5))
    assert digits.x_train.shape == (1257, 1, 8, 8)
    assert digits.x_test.shape == (540, 1, 8, 8)
    assert torch.equal(digits.x_train[:], again.x_train[:])
    assert (digits.x_train[:] >= 0).all()
    assert (digits.x_train[:] <= 1).all()
    assert abs(digits.y_train.bincount() / 1257 - digits.y_test.bincount() / 540).max() < 0.01
    flat = {tuple(image.flatten().tolist()) for image in digits.x_train[:]}
    assert not any(tuple(image.flatten().tolist()) in flat for image in digits.x_test[:])


def test_a_registered_dataset_is_loaded_by_name(monkeypatch):
    own = data.Dataset(torch.zeros(4, 2), torch.arange(4) % 2, torch.zeros(2, 2), torch.arange(2), ("a", "b"), "own")
    data.register("own", lambda experiment: own)
    loaded = data.load(Experiment(dataset="own"))
    assert loaded.num_classes == 2
    assert torch.equal(loaded.x_train[:], own.x_train[:])


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_a_damaged_prepared_file_is_named(tmp_path, content):
    (tmp_path / "digits.npz").write_bytes(content)
    with pytest.raises(ParameterError, match=r"digits\.npz is damaged; delete it"):
        data.load(Experiment(data_folder=str(tmp_path)))


def test_one_preparation_for_each_dataset_and_human_label():
    prepared = [(e.dataset, e.noise) for e in distinct(task.experiment for task in read(ROOT / "slurm" / "full.yaml"))]
    assert sorted({dataset for dataset, _ in prepared}) == ["cifar10", "cifar100", "digits", "news", "tiny_imagenet"]
    assert len([noise for dataset, noise in prepared if dataset == "cifar10"]) == 6


def test_what_cannot_be_prepared_is_named_and_keeps_nothing_back(tmp_path, capsys):
    nowhere = str(tmp_path / "nowhere.npz")
    failures = prepare([Experiment(dataset=nowhere), Experiment(), Experiment(seed=1)])
    assert list(failures) == [nowhere]
    assert "nowhere.npz" in failures[nowhere]
    assert capsys.readouterr().out == f"preparing {nowhere}\npreparing digits\n"


def test_what_is_for_a_gpu_is_prepared_where_there_is_none(tmp_path):
    assert prepare([Experiment(device="cuda:7", data_folder=str(tmp_path))]) == {}
    assert (tmp_path / "digits.npz").exists()
