from lib.data.preparing import distinct, prepare
from lib.grid.tasks import read
from lib.parameters import ROOT, Experiment


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
