import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.parameters import PARAMETERS, REPLAYED, Experiment, of_kind
from lib.training.loop import Record

UNKNOWN = {"noise": "unknown", "noise_rate": 0}
WRONG = [
    ({"dataset": "digit"}, "or the path of an .npz file or image folder; did you mean 'digits'?"),
    ({"noise": "asymetric"}, "noise='asymetric': must be one of none, symmetric, pair, instance, worse_label"),
    ({"noise_rate": 1.0}, "noise_rate=1.0: must be a number in [0, 1)"),
    ({"noise_rate": -0.1}, "noise_rate=-0.1: must be a number in [0, 1)"),
    ({"noise_rate": float("nan")}, "noise_rate=nan: must be a number in [0, 1)"),
    ({"noise_rate": "0.4"}, "noise_rate='0.4': must be a number in [0, 1)"),
    ({"noise": "none", "noise_rate": 0.2}, "noise_rate=0.2: must be 0 where noise='none'"),
    ({"window": 0}, "window=0: must be an integer of at least 1"),
    ({"window": 101}, "window=101: must be at most the 100 records of the run"),
    ({"patience": True}, "patience=True: must be an integer of at least 1"),
    ({"cnd_quantile": 1.2}, "cnd_quantile=1.2: must be a number in [0, 1]"),
    ({"seed": -1}, "seed=-1: must be an integer in [0, 2^32)"),
    ({"epochs": 2.5}, "epochs=2.5: must be an integer of at least 1"),
    ({"learning_rate": 0}, "learning_rate=0.0: must be a finite number above 0"),
    ({"criteria": "cnd"}, """criteria='cnd': must be a list of names, such as ["cnd"]"""),
    ({"criteria": '"cnd"'}, "must be a list of names"),
    ({"criteria": "[1]"}, "must be a list of names"),
    ({"milestones": "[2.5]"}, "must be a list of integers, such as [10, 20]"),
    ({"criteria": ["cdn"]}, "did you mean 'cnd'?"),
    ({"criteria": ["cnd", "cnd"]}, "each may be named once"),
    ({"criteria": ["validation_accuracy_clean"]}, "validation_share=0.0: must be above 0"),
    ({"optimizer": "adam", "momentum": 0.9}, "momentum=0.9: must be 0 where optimizer='adam'"),
    ({"device": "gpu"}, "device='gpu': must be cpu, cuda or cuda:N"),
    ({"dtype": "float16"}, "did you mean"),
    ({"learning_rat": 0.1}, "unknown parameter learning_rat=0.1: did you mean 'learning_rate'?"),
    ({"data_folder": ""}, "data_folder='': must be the path of a folder"),
    ({"noise": "worse_label", "dataset": "cifar10"}, "noise_rate=0.4: must be 0 where noise='worse_label'"),
    (
        {"noise": "noisy_label", "noise_rate": 0, "dataset": "cifar10"},
        "noise='noisy_label': must be used with dataset='cifar100', not 'cifar10'",
    ),
    ({"schedule": "multi_step"}, "milestones=(): must be named for schedule='multi_step', and only then"),
    ({"milestones": [10]}, "milestones=(10,): must be named for schedule='multi_step', and only then"),
    (
        {"schedule": "multi_step", "milestones": [20, 10]},
        "milestones=(20, 10): must rise, from above 0 to below epochs",
    ),
    ({"schedule": "multi_step", "milestones": [100]}, "milestones=(100,): must rise, from above 0 to below epochs=100"),
    ({"milestones": [2.5]}, "milestones=[2.5]: must be a list of integers"),
    ({"decay": 0}, "decay=0.0: must be a number in (0, 1]"),
    ({"decay": 0.5}, "decay=0.5: is for schedule='multi_step' only"),
    ({"image_size": 32}, "image_size=32: must be 0 where dataset is no folder of images"),
    ({"dataset": "a/b.npz", "image_size": 32}, "image_size=32: must be 0 where dataset is no folder of images"),
    ({"dataset": "news", "network": "news_mlp", "augmentation": "flip"}, "augmentation='flip': must be none where"),
    ({"dataset": "news", "network": "lenet"}, "network='lenet': must be one for samples that are no images"),
    ({"cnd_stored_layers": ["1", "1"]}, "cnd_stored_layers=('1', '1'): each may be named once"),
    ({"cnd_stored_layers": ["all", "1"]}, "and 'all' only by itself"),
    ({"criteria": [], "cnd_layer": "1"}, "criteria: must name cnd where cnd_layer or cnd_stored_layers name layers"),
    ({"train_samples": -1}, "train_samples=-1: must be an integer of at least 0"),
    ({"noise": "unknown"}, "noise_rate=0.4: must be 0 where noise='unknown'"),
    (
        UNKNOWN | {"criteria": ["cnd", "validation_accuracy_clean"], "validation_share": 0.1},
        "criteria: must need no true labels where noise='unknown', not validation_accuracy_clean",
    ),
    (UNKNOWN | {"probe_of": "clean"}, "probe_of='clean': must be all where noise='unknown'"),
    ({"cnd_bins": 1}, "cnd_bins=1: must be an integer of at least 2"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_wrong_values_give_one_line_that_names_parameter_value_and_what_is_allowed(parameters, message):
    with pytest.raises(ParameterError) as error:
        Experiment.from_dict(parameters)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_row_is_whole():
    for name, row in PARAMETERS.items():
        assert row.metadata["words"], name
        assert f"{name}: {row.metadata['words']}" in Experiment.__doc__
        assert row.metadata["kind"] in {"place", "setting", "training", "stopping", "measuring", "recording"}
    assert of_kind("place") == ["data_folder", "runs_folder"]
    assert of_kind("setting") == ["noise", "noise_rate", "seed"]
    assert set(REPLAYED) <= set(of_kind("stopping", "measuring", "recording"))


def test_paths_with_home_and_variables_are_replaced(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    experiment = Experiment(runs_folder="~/runs", data_folder="$SCRATCH/data", dataset="${SCRATCH}/birds.npz")
    assert (experiment.runs_folder, experiment.data_folder) == ("/home/me/runs", "/scratch/me/data")
    assert experiment.folder.is_relative_to("/home/me/runs")
    assert experiment.dataset == "/scratch/me/birds.npz"
    assert experiment.name == Experiment(dataset="/scratch/me/birds.npz").name
    assert Experiment(dataset="~/birds.npz").dataset == "/home/me/birds.npz"
    assert Experiment(dataset="news", network="news_mlp", glove_file="~/g.txt").glove_file == "/home/me/g.txt"


@pytest.mark.parametrize("name", ["runs_folder", "data_folder", "glove_file", "dataset"])
@pytest.mark.parametrize("path", ["$NOWHERE_SET/x.npz", "a/${NOWHERE_SET}/x.npz"])
def test_a_variable_that_is_not_set_is_refused(name, path):
    with pytest.raises(ParameterError) as error:
        Experiment(**{name: path})
    assert str(error.value).startswith(f"{name}={path!r}: must name environment variables that are set, $")


def test_lists_as_papermill_passes_them_on_are_lists():
    assert Experiment(criteria='["cnd"]').criteria == ("cnd",)
    assert Experiment(cnd_stored_layers="[]").cnd_stored_layers == ()
    assert Experiment(schedule="multi_step", milestones="[10, 20]").milestones == (10, 20)


def test_args_json_reads_back_equal(tmp_path):
    experiment = Experiment(noise="pair", noise_rate=0.3, criteria=["cnd"], learning_rate=1e-5)
    args = tmp_path / "args.json"
    args.write_text(json.dumps({"parameters": experiment.parameters()}))
    assert Experiment.read(args) == experiment


@given(
    rate=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(5, 500),
    criteria=st.lists(st.sampled_from(["cnd", "prediction_changes"]), unique=True),
)
def test_any_experiment_survives_the_way_through_json(rate, seed, epochs, criteria):
    experiment = Experiment(noise_rate=rate, seed=seed, epochs=epochs, criteria=criteria)
    again = Experiment.from_dict(json.loads(json.dumps(experiment.parameters())))
    assert again == experiment
    assert again.name == experiment.name


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().seed = 3


def test_name_is_stable_and_follows_the_content():
    assert Experiment().name == "digits-symmetric0.4-mlp-seed0-44136fa3"
    in_new_process = subprocess.run(
        [sys.executable, "-c", "from lib.parameters import Experiment; print(Experiment(seed=7, dropout=.5).name)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Experiment(seed=7, dropout=0.5).name == in_new_process
    assert Experiment(runs_folder="elsewhere", data_folder="there").name == Experiment().name
    others = [Experiment(**{name: value}).name for name, value in (("seed", 1), ("cnd_quantile", 0.1), ("threads", 2))]
    assert len({Experiment().name, *others}) == 4


def test_own_data_is_named_by_its_path():
    assert Experiment(dataset="data/my birds.npz").name.startswith("my_birds-symmetric0.4-mlp-seed0-")
    assert Experiment(dataset="pictures/of.birds").own_data
    assert not Experiment(dataset="cifar10").own_data
    assert Experiment(dataset="a/x.npz").name != Experiment(dataset="b/x.npz").name
    assert len({Experiment(dataset=path).name for path in ("birds/", "./birds", "./birds/", "a/../birds/")}) == 1
    assert len({Experiment(dataset=path).name for path in ("x.npz", "./x.npz")}) == 1


def test_human_labels_have_no_rate_in_the_name():
    experiment = Experiment(dataset="cifar10", noise="worse_label", noise_rate=0)
    assert experiment.name.startswith("cifar10-worse_label-mlp-seed0-")


def test_from_cell_takes_the_parameters_and_ignores_the_rest():
    cell = {"noise": "pair", "noise_rate": 0.2, "criteria": ["cnd"], "_": 3, "_i1": "x", "In": ["x"], "json": json}
    assert Experiment.from_cell(cell) == Experiment(noise="pair", noise_rate=0.2, criteria=("cnd",))


def test_from_cell_takes_paths_and_numbers_of_numpy_where_they_are_parameters(tmp_path):
    experiment = Experiment.from_cell({"runs_folder": tmp_path, "epochs": np.int64(7), "noise_rate": np.float32(0.5)})
    assert experiment == Experiment(runs_folder=str(tmp_path), epochs=7, noise_rate=0.5)


def test_from_cell_takes_no_result_for_a_parameter_so_that_all_cells_can_be_run_again():
    results = {"record": Record(1, 1.0, {}, None), "mean": np.float64(0.5), "labels": np.arange(3)}
    assert Experiment.from_cell({"seed": 3} | results) == Experiment(seed=3)
    with pytest.raises(ParameterError, match="unknown parameter flag=True"):
        Experiment.from_cell({"flag": True})


def test_from_cell_refuses_a_misspelt_parameter():
    with pytest.raises(ParameterError, match="did you mean 'noise_rate'"):
        Experiment.from_cell({"noise_rat": 0.2})


def test_whole_numbers_are_numbers_and_numpy_scalars_too():
    assert Experiment(learning_rate=1).learning_rate == 1.0
    assert Experiment(seed=np.int64(3), noise_rate=np.float32(0.5)) == Experiment(seed=3, noise_rate=0.5)
