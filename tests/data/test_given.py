"""Labels that are noisy already, which is what users have: beside the true ones in their own data."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.checks import ParameterError
from lib.criteria import stops
from lib.data import load
from lib.data.samples import draw
from lib.parameters import Experiment
from lib.runs import load as load_runs
from lib.training import run


def arrays(**changed):
    rng = np.random.default_rng(0)
    true = np.arange(60) % 3
    noisy = np.where(rng.random(60) < 0.3, (true + 1) % 3, true)
    x = rng.standard_normal((60, 4)) + true[:, None]
    return {"x_train": x, "y_train": true, "y_train_noisy": noisy, "x_test": x[:20], "y_test": true[:20]} | changed


def own(folder, **changed):
    np.savez(folder / "mine.npz", **arrays(**changed))
    return Experiment(dataset=str(folder / "mine.npz"), noise="given", noise_rate=0, data_folder=str(folder))


def test_a_run_trains_on_them_and_knows_which_are_wrong(tmp_path):
    experiment = own(tmp_path)
    held = arrays()
    train = draw(experiment, load(experiment)).train
    assert torch.equal(train.given, torch.from_numpy(held["y_train_noisy"]))
    assert torch.equal(train.corrupted, torch.from_numpy(held["y_train_noisy"] != held["y_train"]))
    settings = {"epochs": 2, "window": 1, "probe_size": 5, "runs_folder": str(tmp_path / "runs")}
    finished = run(Experiment(dataset=experiment.dataset, noise="given", noise_rate=0, **settings))
    assert finished.performances["corrupted_accuracy_given"].notna().all()
    rate = (held["y_train_noisy"] != held["y_train"]).mean()
    assert load_runs(tmp_path / "runs")["realised_noise_rate"].unique() == pytest.approx([rate])


def test_some_of_the_samples_carry_their_own(tmp_path):
    experiment = own(tmp_path)
    part = Experiment(dataset=experiment.dataset, noise="given", noise_rate=0, train_samples=20)
    dataset = load(part)
    assert torch.equal(dataset.given, torch.from_numpy(arrays()["y_train_noisy"])[dataset.train_rows])


@pytest.mark.parametrize("write", [lambda y: y + 1, lambda y: np.array(["cat", "dog", "owl"])[y], lambda y: y[:, None]])
def test_they_are_read_as_the_true_ones_are(tmp_path, write):
    written = {name: write(arrays()[name]) for name in ("y_train", "y_train_noisy", "y_test")}
    assert torch.equal(load(own(tmp_path, **written)).given, torch.from_numpy(arrays()["y_train_noisy"]))


@pytest.mark.parametrize(
    ("noisy", "message"),
    [
        (np.arange(59) % 3, "y_train_noisy of .*: must be labels of the same 60 samples in the 3 classes of y_train"),
        (np.array(["cat"] * 60), "y_train_noisy of .*: must be written like y_train, which holds numbers, not text"),
        (np.arange(60) % 5, "y_train_noisy no other; found 3 classes and labels up to 4"),
    ],
)
def test_those_that_do_not_fit_are_named(tmp_path, noisy, message):
    with pytest.raises(ParameterError, match=message) as error:
        load(own(tmp_path, y_train_noisy=noisy))
    assert "\n" not in str(error.value)


TRUTH = ["corrupted_accuracy_given", "corrupted_accuracy_true", "corrupted_accuracy_given_average", "cnd_true_all"]


def test_where_nobody_knows_the_truth_what_needs_it_is_nan_and_the_rest_is_as_ever(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(y_train=arrays()["y_train_noisy"]))
    settings = {"noise_rate": 0, "epochs": 2, "window": 1, "probe_size": 5, "runs_folder": str(tmp_path / "runs")}
    settings |= {"dataset": str(tmp_path / "mine.npz"), "learning_rate": 0.01}
    taken, unknown = (run(Experiment(noise=noise, **settings)) for noise in ("none", "unknown"))
    assert unknown.performances[TRUTH].isna().all(axis=None)
    assert taken.performances["cnd_true_all"].notna().all()
    others = unknown.performances.columns.difference(TRUTH)
    pd.testing.assert_frame_equal(unknown.performances[others], taken.performances[others])
    assert json.loads((unknown.folder / "args.json").read_text())["data"]["realised_noise_rate"] is None
    table = load_runs(tmp_path / "runs").set_index("noise")["realised_noise_rate"]
    assert table["none"].eq(0).all()
    assert table["unknown"].isna().all()
    chosen = stops(unknown.table).set_index("criterion")["record"]
    assert chosen.drop("consensus").notna().all()  # whose members are the same at both records


def test_samples_that_may_lie_by_a_class_that_nobody_knows_are_drawn():
    experiment = Experiment(noise="unknown", noise_rate=0, signal_samples=200)
    samples = draw(experiment, load(experiment))
    assert not samples.train.corrupted.any()
    assert samples.measured.rows.max() > 1000  # not the first ones as they lie


def test_data_without_them_is_told(tmp_path):
    experiment = Experiment(noise="given", noise_rate=0)
    digits = load(experiment)
    with pytest.raises(ParameterError, match="noise='given': must be used with data that holds y_train_noisy, or"):
        draw(experiment, digits)
    with pytest.raises(ParameterError, match=r"noise_rate=0\.4: must be 0 where noise='given'"):
        Experiment(noise="given")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for kind in ("robin", "wren"):
            place = tmp_path / "birds" / part / kind
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return tmp_path / "birds"


def with_table(folder, **changed):
    given = {f"{kind}/{i}.png": kind for kind in ("robin", "wren") for i in range(4)} | changed
    pd.DataFrame({"file": list(given), "class": list(given.values())}).to_csv(folder / "noisy_labels.csv", index=False)
    return Experiment(dataset=str(folder), noise="given", noise_rate=0, data_folder=str(folder.parent / "data"))


def test_an_image_folder_names_them_in_a_table(folder):
    experiment = with_table(folder, **{"robin/2.png": "wren"})
    assert load(experiment).given.tolist() == [0, 0, 1, 0, 1, 1, 1, 1]
    changed = with_table(folder, **{"robin/2.png": "robin", "wren/0.png": "robin"})
    assert load(changed).given.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_class_may_be_called_none(folder):
    for part in ("train", "test"):
        (folder / part / "wren").rename(folder / part / "None")
    experiment = Experiment(dataset=str(folder), noise="given", noise_rate=0, data_folder=str(folder.parent / "data"))
    table = pd.DataFrame({"file": [f"{kind}/{i}.png" for kind in ("None", "robin") for i in range(4)], "class": "None"})
    table.to_csv(folder / "noisy_labels.csv", index=False)
    assert load(experiment).given.tolist() == [0] * 8


def test_a_table_that_does_not_fit_is_named(folder):
    with pytest.raises(ParameterError, match=r"must give every training image one of robin, wren, as robin/2\.png"):
        load(with_table(folder, **{"robin/2.png": "eagle"}))
    (folder / "noisy_labels.csv").write_text("file;class\n")
    with pytest.raises(ParameterError, match=r"noisy_labels\.csv must be a table of the columns file and class"):
        load(Experiment(dataset=str(folder), noise="given", noise_rate=0, data_folder=str(folder.parent / "data")))
