import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from lib.__main__ import main
from lib.checks import ParameterError
from lib.criteria import stops
from lib.legacy import convert, convert_one
from lib.runs import folder as run_folder
from lib.runs import table as runs
from lib.runs.folder import ARGS, DIVERGENCE, IMPORTED, LOG, PERFORMANCES, WEIGHTS
from tests.original import CHANGES, CND, EPOCHS, RESULTS, TEST_ACCURACY, TRAIN, attributes, pickled, write

pytestmark = pytest.mark.slow


@pytest.fixture
def target(tmp_path):
    """The runs folder that runs are imported to."""
    return tmp_path / "runs"


@pytest.fixture
def place(tmp_path):
    """Writes a legacy folder, see `tests.original.write`."""
    return lambda folder="legacy", **how: write(tmp_path / folder, **how)


@pytest.fixture
def imported(place, target):
    """Writes a legacy folder, imports it, and gives the table of its runs."""

    def load(**how):
        convert_one(place(**how), target)
        return runs.load(target)

    return load


def one(table, estimator="histogram"):
    return table[table["cnd_estimator"] == estimator].reset_index(drop=True)


def test_an_estimator_is_a_run_with_our_names_and_units(imported):
    table = imported()
    assert table.attrs["skipped"] == {}
    assert set(table["cnd_estimator"]) == {"histogram", "neighbours"}
    run = one(table)
    assert len(run) == EPOCHS
    constant = {"dataset": "cifar10", "network": "preact_resnet18", "noise": "symmetric", "noise_rate": 0.4}
    constant |= {"seed": 3, "learning_rate": 0.01, "batch_size": 128, "epochs": EPOCHS, "records_per_epoch": 1}
    constant |= {"patience": 10, "window": 5, "cnd_quantile": 0.9, "realised_noise_rate": 20 / TRAIN}
    constant |= {"criteria": "cnd,prediction_changes,known_polluted_accuracy", "optimizer": "unknown"}
    assert run.loc[0, list(constant)].to_dict() == constant
    assert "imported from results of the described original" in run["source"][0]
    assert run["record"].tolist() == run["epoch"].tolist() == list(range(1, EPOCHS + 1))
    assert run["train_loss"].tolist() == attributes()["train_loss"]
    assert run["train_accuracy"].tolist() == [0.05 * epoch for epoch in range(EPOCHS)]
    assert run["test_accuracy"].to_numpy() == pytest.approx(TEST_ACCURACY)
    assert run["corrupted_accuracy_given"].to_numpy() == pytest.approx(0.01 * np.arange(EPOCHS))
    assert run["corrupted_accuracy_true"].isna().all()
    assert np.isnan(run["prediction_changes"][0])
    assert run["prediction_changes"][1:].tolist() == [count / TRAIN for count in CHANGES]
    assert run["known_polluted_accuracy"].tolist() == np.linspace(0, 0.5, EPOCHS).tolist()


def test_cnd_is_the_quantile_over_the_last_hidden_layer(place, target):
    for position, run in enumerate(convert_one(place(), target)):
        args = json.loads((run.folder / ARGS).read_text())
        assert args["layers"] == {"layer4": 6, "linear": 4}
        divergence = np.load(run.folder / DIVERGENCE)
        assert divergence.dtype == np.float32
        assert np.array_equal(divergence, CND[position])
        table = runs.load(target)
        cnd = table.loc[table["run"] == run.folder.name, "cnd"]
        assert cnd.to_numpy() == pytest.approx(np.quantile(CND[position, :, 6:].astype(float), 0.9, axis=1))


def test_criteria_stop_an_imported_run(imported):
    run = one(imported(arguments={"dataset": "news"}))
    assert set(run["window"]) == {4}
    table = stops(run).set_index("criterion")
    assert table.loc["oracle", ["record", "test_accuracy"]].tolist() == [6, pytest.approx(0.8)]
    smoothed = np.convolve(CHANGES, np.ones(4) / 4, mode="valid")  # its first is of record 5
    assert table.loc["prediction_changes", "record"] == 5 + np.argmin(smoothed)
    assert not table.loc["cnd", "reason"]


def test_args_and_log_tell_where_a_run_is_from_and_what_is_missing(place, target):
    folder = place(CGE=[0.5] * EPOCHS, extra=[1, 2])
    run, _ = convert_one(folder, target)
    args = json.loads((run.folder / ARGS).read_text())
    assert args["name"] == run.folder.name
    assert run.folder.name.startswith("cifar10-symmetric0.4-preact_resnet18-seed3-")
    assert args["environment"][IMPORTED] == str(folder)
    log = (run.folder / LOG).read_text()
    assert f"imported {EPOCHS} records from {folder}" in log
    for told in ("CGE (which of two entropies", "attributes extra", "arguments metrics", "which samples are corrupted"):
        assert f"left out: {told}" in log
        assert any(text.startswith(told) for text in run.left_out)
    assert {path.name for path in run.folder.iterdir()} == {ARGS, PERFORMANCES, DIVERGENCE, LOG}


def test_an_estimator_that_is_not_known_here_is_left_out(place, target):
    (run,) = convert_one(place(arguments={"CND_type": ["Copula", "KDE"]}), target)
    assert "CND by Copula, an estimator that is not known here" in run.left_out
    assert np.array_equal(np.load(run.folder / DIVERGENCE), CND[1])
    assert set(runs.load(target)["cnd_estimator"]) == {"kernel"}


@pytest.mark.parametrize(
    "how",
    [
        {"CND": [None] * EPOCHS},
        {"CND": None},
        {"CND": torch.full((2, EPOCHS, 10), torch.nan)},
        {"arguments": {"CND_type": ["Copula", "Vine"]}},
        {"CND": None, "arguments": {"CND_type": ..., "neurs_x_hid_lyr": ...}},
    ],
)
def test_without_cnd_there_is_one_run_without_it(place, target, how):
    (run,) = convert_one(place(**how), target)
    table = runs.load(target)
    assert "cnd" not in table.columns
    assert set(table["criteria"]) == {"prediction_changes,known_polluted_accuracy"}
    assert not (run.folder / DIVERGENCE).exists()
    assert "cnd" not in set(stops(table)["criterion"])


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        (["PMF", "Gaussian", "KDE", "KNN"], ["histogram", "gaussian", "kernel", "neighbours"]),
        (["histogram", "normal", "Kernel", "k-nearest neighbours"], ["histogram", "gaussian", "kernel", "neighbours"]),
        (["PMF", "GL", "Kernel density", "nearest neighbor"], ["histogram", "gaussian", "kernel", "neighbours"]),
    ],
)
def test_estimators_by_their_other_names(place, target, names, ours):
    cnd = np.repeat(CND[:1], 4, axis=0)
    found = convert_one(place(arguments={"CND_type": names}, CND=cnd), target)
    told = [json.loads((run.folder / ARGS).read_text())["parameters"]["cnd_estimator"] for run in found]
    assert told == ours


def test_accuracies_in_percent_become_shares_and_this_is_told(place, target):
    folder = place(test_acc=100 * torch.tensor(TEST_ACCURACY), known_polluted_accuracy=[50.0] * EPOCHS)
    run, _ = convert_one(folder, target)
    assert "test_acc, known_polluted_accuracy read as percent, other accuracies as shares" in run.notes
    table = one(runs.load(target))
    assert table["test_accuracy"].to_numpy() == pytest.approx(TEST_ACCURACY)
    assert set(table["known_polluted_accuracy"]) == {0.5}
    assert table["train_accuracy"].tolist() == [0.05 * epoch for epoch in range(EPOCHS)]


def test_a_share_that_is_one_but_for_rounding_is_no_percentage(imported):
    run = one(imported(train_acc=[1 + 1e-7] * EPOCHS))
    assert set(run["train_accuracy"]) == {1.0}


def test_values_may_be_tensors_of_one_value_with_gaps(imported):
    run = one(imported(train_loss=[None, *[torch.tensor(0.5)] * 11], train_acc=[torch.tensor([0.5])] * EPOCHS))
    assert np.isnan(run["train_loss"][0])
    assert set(run["train_loss"][1:]) == set(run["train_accuracy"]) == {0.5}


def test_signals_that_were_recorded_are_criteria(imported):
    values = {"LS": [0.1] * EPOCHS, "CSR": [0.2] * EPOCHS, "known_polluted_accuracy_loglik": [-3.0] * EPOCHS}
    run = one(imported(**values))
    assert run["criteria"][0].endswith("known_polluted_log_likelihood,batch_loss_sensitivity,critical_sample_ratio")
    assert set(run["batch_loss_sensitivity"]) == {0.1}
    assert set(run["critical_sample_ratio"]) == {0.2}
    assert set(run["known_polluted_log_likelihood"]) == {-3.0}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"symmetric_label_noise_ratio": 0}, ("cifar10", "none", 0, 10, 5)),
        ({"dataset": "cifar-100", "noise_type": "noisy_label"}, ("cifar100", "noisy_label", 0, 10, 5)),
        (
            {"dataset": "CIFAR100", "noise_type": "noisy_coarse_label"},
            ("cifar100_coarse", "noisy_coarse_label", 0, 10, 5),
        ),
        ({"noise_type": "worse_label", "symmetric_label_noise_ratio": ...}, ("cifar10", "worse_label", 0, 10, 5)),
        ({"noise_type": "clean_label"}, ("cifar10", "none", 0, 10, 5)),
        ({"dataset": "NEWS"}, ("news", "symmetric", 0.4, 100, 4)),
        ({"dataset": "TinyImagenet", "num_classes": 200}, ("tiny_imagenet", "symmetric", 0.4, 10, 5)),
        ({"dataset": "FashionMNIST"}, ("fashion_mnist", "symmetric", 0.4, 10, 5)),
        ({"dataset": "CIFAR100", "noise_type": "worse_label"}, ("cifar100", "noisy_label", 0, 10, 5)),
        ({"dataset": "CIFAR100", "noise_type": "random_label2"}, ("cifar100", "noisy_label", 0, 10, 5)),
    ],
)
def test_datasets_and_noise_by_our_names(imported, arguments, told):
    run = imported(arguments=arguments)
    assert run.loc[0, ["dataset", "noise", "noise_rate", "patience", "window"]].tolist() == list(told)


def test_human_labels_under_the_name_of_another_dataset_are_told(place, target):
    run, _ = convert_one(place(arguments={"dataset": "CIFAR100", "noise_type": "aggre_label"}), target)
    told = "noise_type aggre_label read as noisy_label, the human labels of cifar100"
    assert told in run.notes
    assert told in (run.folder / LOG).read_text()
    run, _ = convert_one(place(arguments={"dataset": "CIFAR100", "noise_type": "noisy_label"}), target)
    assert not any("read as" in note for note in run.notes)


def test_a_network_that_is_not_known_here_keeps_its_name(imported):
    run = imported(arguments={"network": "My Net/2"})
    assert set(run["network"]) == {"My Net/2"}
    assert run["run"][0].startswith("cifar10-symmetric0.4-My_Net_2-seed3-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "CIFAR11"}, "dataset='CIFAR11': must be one of digits, news"),
        ({"dataset": 10}, "dataset=10: must be text"),
        ({"seed": ...}, "lacks seed"),
        ({"lr": 10**400}, "lr=.*: must be a finite number above 0"),
        ({"lr": "0.01"}, "lr='0.01': must be a finite number above 0, not text"),
        ({"epochs": 0}, "epochs=0: must be an integer of at least 1"),
        ({"epochs": True}, "epochs=True: must be"),
        ({"batch_size": 1.5}, "batch_size=1.5: must be an integer"),
        ({"network": "--"}, "network='--': must be the name of a network"),
        ({"noise_type": "worse"}, "noise_type='worse': must be one of label_noise, .*did you mean 'worse_label'"),
        (
            {"noise_type": "noisy_label"},
            "noise_type='noisy_label': must be used with dataset='cifar100', not 'cifar10'",
        ),
        (
            {"dataset": "MNIST", "noise_type": "worse_label"},
            "noise_type='worse_label': must be used with dataset='cifar10', not 'mnist'",
        ),
        ({"symmetric_label_noise_ratio": 40}, r"symmetric_label_noise_ratio=40.0: must be a number in \[0, 1\)"),
        ({"corrupted_samples": None}, "corrupted_samples=None: must be a list of integers"),
        ({"corrupted_samples": [1, 1.5]}, r"corrupted_samples=\[1, 1.5\]: must be a list of integers"),
        ({"corrupted_samples": [0.5] * 50_000}, r"corrupted_samples=\[0.5, .* \.\.\. .*: must be a list of integers"),
        ({"corrupted_samples": [-1]}, "corrupted_samples, not_corrupted_samples: must name samples, and each"),
        ({"corrupted_samples": [1]}, "corrupted_samples, not_corrupted_samples: must name samples, and each"),
        (
            {"CND_type": ["PMF", "histogram"]},
            r"CND_type=\('PMF', 'histogram'\): must be names, each of another estimator",
        ),
        ({"CND_type": "PMF"}, "CND_type='PMF': must be a list of names"),
        ({"neurs_x_hid_lyr": [4, 6]}, r"neurs_x_hid_lyr=\[4, 6\]: must be numbers of neurons, .* by layer"),
        (
            {"neurs_x_hid_lyr": {"a": 0}},
            r"neurs_x_hid_lyr={'a': 0}: must be numbers of neurons, integers of at least 1",
        ),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(place, target, arguments, message):
    folder = place(arguments=arguments)
    with pytest.raises(ParameterError, match=f"^{folder / ARGS}: {message}") as caught:
        convert_one(folder, target)
    assert "\n" not in str(caught.value)
    assert not (target).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "must be JSON"), ("[1]", "must hold values by name, not a list"), ("[" * 100_000, "must be JSON")],
)
def test_broken_arguments(place, target, text, message):
    folder = place()
    (folder / ARGS).write_text(text)
    with pytest.raises(ParameterError, match=f"^{folder / ARGS}: {message}"):
        convert_one(folder, target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_acc": None}, "test_acc: must have a value at every epoch"),
        ({"test_acc": [None, *TEST_ACCURACY[1:]]}, "test_acc: must have a value at every epoch"),
        ({"test_acc": TEST_ACCURACY[1:]}, r"test_acc: must be of shape \(12,\), as args.json tells, is \(11,\)"),
        ({"train_loss": torch.ones(12, 2)}, r"train_loss: must be of shape \(12,\), as args.json tells, is \(12, 2\)"),
        ({"train_loss": 0.5}, r"train_loss: must be of shape \(12,\)"),
        ({"train_loss": ["high"] * 12}, "train_loss: must be numbers .*'high'"),
        ({"train_loss": [{}] * 12}, "train_loss: must be numbers .*'dict'"),
        ({"train_loss": np.array([{}] * 12, dtype=object)}, "train_loss: must be numbers"),
        ({"train_loss": [10**400] * 12}, "train_loss: must be numbers .*int too large"),
        ({"PC": [*CHANGES, 4]}, r"PC: must be of shape \(11,\), as args.json tells, is \(12,\)"),
        ({"PC": [51, *CHANGES[1:]]}, "PC: must be whole numbers, at most the 50 training samples"),
        ({"PC": [0.5, *CHANGES[1:]]}, "PC: must be whole numbers"),
        ({"test_acc": [101.0] * 12}, "test_acc: must be shares or percent, goes from 1.01 to 1.01"),
        ({"misslab_acc": [-0.1] * 12}, "misslab_acc: must be shares or percent, goes from -0.1 to"),
        ({"test_acc": [float("inf")] * 12}, "test_acc: must be shares or percent, goes from inf to inf"),
        ({"CND": CND[:1]}, r"CND: must be of shape \(2, 12, 10\), as args.json tells, is \(1, 12, 10\)"),
        ({"CND": CND[:, :11]}, r"CND: must be of shape \(2, 12, 10\), as args.json tells, is \(2, 11, 10\)"),
        ({"CND": CND[:, :, :9]}, r"CND: must be of shape \(2, 12, 10\), as args.json tells, is \(2, 12, 9\)"),
        ({"CND": [[1.0]]}, r"CND: must be of shape \(2, 12, 10\)"),
    ],
)
def test_wrong_results_are_named_before_anything_is_written(place, target, changes, message):
    folder = place(**changes)
    with pytest.raises(ParameterError, match=f"^{folder / RESULTS}: {message}") as caught:
        convert_one(folder, target)
    assert "\n" not in str(caught.value)
    assert not (target).exists()


class Attack:
    """Pickled, it runs a command as soon as it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_that_runs_code_is_refused_and_does_not(place, target, tmp_path):
    folder = place(extra=Attack(f"touch {tmp_path / 'ran'}"))
    with pytest.raises(ParameterError, match=rf"^{folder / RESULTS}: asks for 'posix.system': must"):
        convert_one(folder, target)
    assert not (tmp_path / "ran").exists()
    assert not target.exists()


@pytest.mark.parametrize("content", [pickled()[:-1], pickled()[:100], b"", b"\xff", b"N."])
def test_a_damaged_pickle_is_named_in_one_line(place, target, content):
    folder = place(content=content)
    with pytest.raises(
        ParameterError, match=f"^{folder / RESULTS}: must (be a whole pickle|hold an instance)"
    ) as caught:
        convert_one(folder, target)
    assert str(caught.value).isprintable()
    assert not target.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_the_same_run(place, target, protocol):
    first = convert_one(place("one"), target)
    again = convert_one(place("other", content=pickled(protocol=protocol)), target)
    assert [run.folder for run in again] == [run.folder for run in first]
    assert not any(run.new for run in again)


def test_names_in_the_files_cannot_write_to_the_terminal(place, target):
    run, _ = convert_one(place(arguments={"\x1b[2J": 1}, **{"new\nline": [1]}), target)
    assert all(text.isprintable() for text in (*run.left_out, *run.notes))
    assert r"arguments \x1b[2J, metrics" in run.left_out


def state(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_importing_twice_changes_nothing(place, target, tmp_path):
    folder = place()
    first = convert_one(folder, target)
    before = state(target)
    again = convert_one(folder, target)
    moved = convert_one(shutil.copytree(folder, tmp_path / "elsewhere"), target)
    assert state(target) == before
    assert [run.new for run in (*first, *again, *moved)] == [True, True, False, False, False, False]
    assert len({run.folder for run in (*first, *again, *moved)}) == 2


def test_another_seed_or_argument_is_another_run(place, target):
    names = [
        run.folder.name
        for arguments in ({}, {"seed": 4}, {"lr": 0.1}, {"metrics": []})
        for run in convert_one(place(arguments=arguments), target)
    ]
    assert len(set(names)) == 8


def test_another_run_of_the_same_name_is_not_touched(place, target):
    convert_one(place(), target)
    before = state(target)
    with pytest.raises(FileExistsError, match=f"^{target}/cifar10-.*: holds another run; remove it, or name another"):
        convert_one(place(train_loss=[1.0] * EPOCHS), target)
    assert state(target) == before


def test_all_runs_of_a_folder_are_imported_or_none(place, target):
    _, second = convert_one(place(), target)
    before = (second.folder / ARGS).read_bytes()
    for path in target.iterdir():
        shutil.rmtree(path) if path != second.folder else (path / PERFORMANCES).unlink()
    with pytest.raises(FileExistsError, match=second.folder.name):
        convert_one(place(), target)
    assert [path.name for path in target.iterdir()] == [second.folder.name]
    assert (second.folder / ARGS).read_bytes() == before


def test_a_full_disk_leaves_nothing_behind(place, target, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        convert_one(place(), target)
    assert list(target.iterdir()) == []


def test_an_imported_run_is_finished_without_weights_and_no_other_is(imported, runs_folder, target):
    imported()
    run = next(target.iterdir())
    assert not (run / WEIGHTS).exists()
    assert run_folder.unfinished(run) is None
    args = json.loads((run / ARGS).read_text())
    del args["environment"][IMPORTED]
    (run / ARGS).write_text(json.dumps(args))
    assert run_folder.unfinished(run) == "unfinished: no weights.pt"
    (run / PERFORMANCES).write_text("record,epoch\n")
    args["environment"][IMPORTED] = "somewhere"
    (run / ARGS).write_text(json.dumps(args))
    assert run_folder.unfinished(run) == f"unfinished: 0 of {EPOCHS} records"


def test_imported_runs_are_kept_in_the_cache_of_tables(place, target, monkeypatch):
    monkeypatch.setattr(runs, "_CACHED_FROM", 1)
    run, other = convert_one(place(), target)
    whole = runs.load(target)
    opened, read = [], runs.read
    monkeypatch.setattr(runs, "read", lambda folder, *rest: opened.append(folder.name) or read(folder, *rest))
    pd.testing.assert_frame_equal(runs.load(target), whole)
    assert opened == []
    args = json.loads((run.folder / ARGS).read_text())
    del args["environment"][IMPORTED]
    (run.folder / ARGS).write_text(json.dumps(args))
    with pytest.warns(UserWarning, match=r"unfinished: no weights\.pt"):
        assert set(runs.load(target)["run"]) == {other.folder.name}


def test_imported_runs_share_a_table_with_runs_of_ours(imported, runs_folder, target, tiny):
    imported()
    for run in runs_folder.iterdir():
        if run.is_dir():
            shutil.copytree(run, target / run.name)
    table = runs.load(target)
    assert table["run"].nunique() == 2 + 4
    assert table.groupby("dataset", observed=True)["optimizer"].unique().map(list).to_dict() == {
        "cifar10": ["unknown"],
        "digits": ["sgd"],
    }
    stopped = stops(table)
    assert (
        stopped.groupby(["dataset", "run"], observed=True).size().tolist()
        == [3 + 3] * 2 + [3 + len(tiny["criteria"])] * 4
    )


def test_a_folder_of_many_imports_all_but_the_bad_ones(place, target, tmp_path, capsys):
    place("many/cifar/a")
    place("many/cifar/b", arguments={"seed": 4})
    bad = place("many/news/c", test_acc=[0.5])
    lost = place("many/news/d")
    (lost / RESULTS).unlink()
    outcome = convert(tmp_path / "many", target)
    assert [run.source.name for run in outcome.runs] == ["a", "a", "b", "b"]
    assert list(outcome.failures) == [bad, lost]
    assert outcome.failures[bad].startswith(f"{bad / RESULTS}: test_acc: must be of shape (12,)")
    assert str(lost / RESULTS) in outcome.failures[lost]
    assert set(runs.load(target)["seed"]) == {3, 4}
    assert main(["import", str(tmp_path / "many"), "--runs", str(target)]) == 1
    told = capsys.readouterr()
    assert told.out.count("is there cifar10-") == 4
    assert told.err.splitlines() == [f"error: {failure}" for failure in outcome.failures.values()]


def test_runs_on_datasets_that_are_not_known_here_are_left_out_by_name(place, target, tmp_path, capsys):
    place("many/a")
    unknown = place("many/b", arguments={"dataset": "Clothing1M"})
    outcome = convert(tmp_path / "many", target)
    assert {run.source.name for run in outcome.runs} == {"a"}
    assert outcome.failures == {}
    assert list(outcome.left_out) == [unknown]
    reason = f"{unknown / ARGS}: dataset='Clothing1M': must be one of digits, news, "
    assert outcome.left_out[unknown].startswith(reason)
    assert main(["import", str(tmp_path / "many"), "--runs", str(target)]) == 0
    told = capsys.readouterr()
    assert f"left out {reason}" in told.out
    assert told.err == ""
    assert main(["import", str(unknown), "--runs", str(target)]) == 1  # nothing was imported


def test_the_runs_folder_may_lie_in_the_home_folder(place, target, monkeypatch):
    monkeypatch.setenv("HOME", str(target.parent))
    run, _ = convert_one(place(), "~/runs")
    assert run.folder.parent == target


def test_a_folder_that_was_imported_to_is_no_legacy_folder(place, target):
    convert_one(place(), target)
    with pytest.raises(ParameterError, match=r"must be a folder with args\.json and performances\.pkl"):
        convert(target, target)


def test_the_command_tells_each_run_and_what_was_left_out(place, target, capsys):
    folder = place(CGE=[0.5] * EPOCHS)
    assert main(["import", str(folder), "--runs", str(target)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines[::3]] == ["imported", "imported"]
    assert {line.split()[1] for line in lines[::3]} == {path.name for path in target.iterdir()}
    assert all("left out: which samples are corrupted" in line and "CGE" in line for line in lines[1::3])


@pytest.mark.parametrize("folder", ["nowhere", "empty", "empty/file"])
def test_the_command_without_anything_to_import(tmp_path, target, capsys, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file").touch()
    assert main(["import", str(tmp_path / folder), "--runs", str(target)]) == 2
    assert capsys.readouterr().err == (
        f"error: folder={str(tmp_path / folder)!r}: must be a folder with args.json and performances.pkl, or one that "
        "holds such\n"
    )
    assert not target.exists()
