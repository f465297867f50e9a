import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import feather

from lib.checks import DataError, ParameterError
from lib.parameters import Experiment
from lib.runs import folder as run_folder
from lib.runs import table as runs
from lib.runs.folder import ARGS, DIVERGENCE, LOG, PERFORMANCES, WEIGHTS, WEIGHTS_AVERAGE, Run


@pytest.fixture
def folder(runs_folder, tmp_path):
    """A copy of the finished runs that a test may break."""
    return shutil.copytree(runs_folder, tmp_path / "runs")


def without(run, key):
    """Take a part out of the description of a run."""
    args = json.loads((run / ARGS).read_text())
    del args[key]
    (run / ARGS).write_text(json.dumps(args))


def first_run(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir())[0]


def test_load_gives_one_tidy_table(runs_folder):
    table = runs.load(runs_folder)
    assert len(table) == 4 * 3
    assert set(table.groupby("run").size()) == {3}
    assert {"noise", "noise_rate", "seed", "source", "record", "epoch", "test_accuracy", "cnd"} <= set(table.columns)
    assert sorted(table["seed"].unique()) == [0, 1]
    assert table.attrs["skipped"] == {}


def test_args_say_what_a_result_depends_on(runs_folder):
    args = json.loads((first_run(runs_folder) / ARGS).read_text())
    assert {"python", "torch", "numpy", "commit", "device"} <= set(args["environment"])
    assert args["environment"]["device"].endswith(f", {torch.backends.cpu.get_cpu_capability()}")
    assert args["data"]["train_samples"] == 1257 - 126
    assert args["data"]["realised_noise_rate"] == pytest.approx(args["parameters"]["noise_rate"], abs=0.03)
    assert Experiment.read(first_run(runs_folder) / ARGS).name == first_run(runs_folder).name


def test_a_run_folder_holds_what_it_should(runs_folder):
    files = {path.name for path in first_run(runs_folder).iterdir()}
    assert files == {ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS, WEIGHTS_AVERAGE}
    log = (first_run(runs_folder) / LOG).read_text()
    assert "record 3: " in log
    assert "s an epoch" in log


def test_the_table_of_a_run_is_its_part_of_the_whole(runs_folder):
    found = Run.find(Experiment.read(first_run(runs_folder) / ARGS))
    whole = runs.load(runs_folder)
    part = whole[whole["run"] == found.folder.name].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.table, part, check_dtype=False, check_categorical=False)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: (run / WEIGHTS).unlink(), "unfinished: no weights.pt"),
        (lambda run: (run / PERFORMANCES).unlink(), "unfinished: 0 of 3 records"),
        (lambda run: (run / PERFORMANCES).write_text(""), "unfinished: 0 of 3 records"),
        (lambda run: (run / PERFORMANCES).write_text("record,epoch\n1,x\n2,1.0\n3,1.0\n"), "broken: DataError"),
        (lambda run: (run / PERFORMANCES).write_text("record,epoch\n1,1.0,7.0\n"), "broken: DataError"),
        (lambda run: (run / ARGS).write_text('{"parameters": {'), "broken: JSONDecodeError"),
        (lambda run: (run / ARGS).write_text("[]"), "broken: TypeError"),
        (lambda run: (run / ARGS).write_text('{"parameters": null}'), "broken: TypeError"),
        (lambda run: (run / ARGS).write_bytes(bytes([0xFF, 0xFE])), "broken: UnicodeDecodeError"),
        (lambda run: (run / ARGS).unlink(), "unfinished: no args.json"),
        (lambda run: without(run, "data"), "broken: KeyError: 'data'"),
        (
            lambda run: (run / PERFORMANCES).write_text("record,epoch\n1,1\n2,2\n3,3\n"),
            "broken: performances.csv lacks average_disagreement, cnd",
        ),
    ],
)
def test_a_broken_or_unfinished_run_is_named_and_skipped(folder, damage, reason):
    broken = first_run(folder)
    parameters = json.loads((broken / ARGS).read_text())["parameters"]
    experiment = Experiment.from_dict(parameters | {"runs_folder": str(folder)})
    damage(broken)
    with pytest.warns(UserWarning, match=f"run {broken.name} skipped: {reason}"):
        table = runs.load(folder)
    assert Run.find(experiment) is None
    assert table["run"].nunique() == 3
    assert table.attrs["skipped"][broken.name].startswith(reason)


def test_a_record_line_cut_short_is_left_out(folder):
    performances = first_run(folder) / PERFORMANCES
    whole = run_folder.records(performances.parent).to_pandas()
    performances.write_text(performances.read_text()[:-20])
    pd.testing.assert_frame_equal(run_folder.records(performances.parent).to_pandas(), whole.iloc[:-1])


def test_numbers_are_read_back_to_the_last_bit(folder):
    performances = first_run(folder) / PERFORMANCES
    values = np.random.default_rng(0).normal(size=100)
    lines = "\n".join(f"{i},{value!r}" for i, value in enumerate(values.tolist(), 1))
    performances.write_text(f"record,epoch\n{lines}\n")
    assert np.array_equal(run_folder.records(performances.parent)["epoch"], values)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("1,nan,-inf\n2,inf,nan\n", [[1, np.nan, -np.inf], [2, np.inf, np.nan]]),
        ("1,0.5,2.5\n2,0.5,2", [[1, 0.5, 2.5]]),
        ("", np.empty((0, 3))),
    ],
)
def test_records_hold_whole_lines_of_any_numbers(tmp_path, lines, expected):
    (tmp_path / PERFORMANCES).write_text(f"record,epoch,cnd\n{lines}")
    assert np.array_equal(run_folder.records(tmp_path).to_pandas().to_numpy(), expected, equal_nan=True)


@pytest.mark.parametrize(
    "lines", ["1,0.5,2.5,3\n2,0.5\n", "1,,2.5\n", "1,NA,2.5\n", "1,0.5\n", "1,\xff,2\n", "1,2_0,3\n"]
)
def test_lines_that_are_no_numbers_are_damage(tmp_path, lines):
    (tmp_path / PERFORMANCES).write_bytes(f"record,epoch,cnd\n{lines}".encode("latin-1"))
    with pytest.raises(DataError, match=r"performances.csv has lines that are no 3 numbers \("):
        run_folder.records(tmp_path)


def test_no_runs_at_all(tmp_path):
    table = runs.load(tmp_path)
    assert table.empty
    assert "run" in table.columns


def test_a_folder_with_other_parameters_is_not_touched(folder):
    args = first_run(folder) / ARGS
    experiment = Experiment.from_dict(json.loads(args.read_text())["parameters"] | {"runs_folder": str(folder)})
    assert Run.find(experiment).folder == args.parent
    description = json.loads(args.read_text())
    description["parameters"]["learning_rate"] = 7.0
    args.write_text(json.dumps(description))
    with pytest.raises(FileExistsError, match="holds a run of other parameters"):
        Run.find(experiment)
    description["parameters"]["of_the_future"] = 1
    args.write_text(json.dumps(description))
    with pytest.raises(FileExistsError, match="another version"):
        Run.find(experiment)


def test_the_run_of_a_dataset_that_is_not_registered_here_can_be_read(folder):
    args = first_run(folder) / ARGS
    args.write_text(args.read_text().replace('"dataset": "digits"', '"dataset": "own"'))
    assert "own" in set(runs.load(folder)["dataset"])


@pytest.fixture
def kept(runs_folder, tmp_path, monkeypatch):
    """A copy of the runs whose table is kept, however few they are."""
    monkeypatch.setattr(runs, "_CACHED_FROM", 1)
    shutil.copytree(runs_folder, tmp_path / "runs")
    return tmp_path / "runs"


def test_what_did_not_change_is_not_read_again(kept, monkeypatch):
    whole = runs.load(kept)
    read, opened = runs.read, []
    monkeypatch.setattr(runs, "read", lambda folder: opened.append(folder.name) or read(folder))
    pd.testing.assert_frame_equal(runs.load(kept), whole)
    assert opened == []
    changed = first_run(kept) / PERFORMANCES
    changed.write_text(changed.read_text().replace("1,1.0,", "1,1.5,"))
    again = runs.load(kept)
    assert opened == [changed.parent.name]
    assert again["epoch"][0] == 1.5
    shutil.rmtree(changed.parent)
    assert runs.load(kept)["run"].nunique() == whole["run"].nunique() - 1
    assert opened == [changed.parent.name]


def test_runs_of_other_criteria_share_a_table(kept):
    one = first_run(kept)
    epochs = runs.read(one)[0].records["epoch"].to_pylist()
    (one / PERFORMANCES).write_text((one / PERFORMANCES).read_text().replace("validation_accuracy_clean", "other"))
    args = json.loads((one / ARGS).read_text())
    args["parameters"]["criteria"].remove("validation_accuracy_clean")
    (one / ARGS).write_text(json.dumps(args))
    for _ in range(2):
        whole = runs.load(kept)
        mine = whole["run"] == one.name
        assert whole["other"].notna().equals(mine)
        assert whole["validation_accuracy_clean"].isna().equals(mine)
        assert whole.loc[mine, "epoch"].tolist() == epochs


@pytest.mark.parametrize("damage", ["cut", "text", "without metadata"])
def test_a_damaged_cache_is_made_anew(kept, damage):
    whole = runs.load(kept)
    cache = kept / runs._CACHE
    if damage == "without metadata":
        feather.write_feather(pa.table({"record": [1.0]}), cache)
    else:
        cache.write_bytes(cache.read_bytes()[:300] if damage == "cut" else b"no cache")
    pd.testing.assert_frame_equal(runs.load(kept), whole)


def test_what_another_version_of_the_parameters_kept_is_read_again(kept, monkeypatch):
    whole = runs.load(kept)
    monkeypatch.setattr(runs, "_VERSION", "another")
    read, opened = runs.read, []
    monkeypatch.setattr(runs, "read", lambda folder: opened.append(folder.name) or read(folder))
    pd.testing.assert_frame_equal(runs.load(kept), whole)
    assert opened == sorted(set(whole["run"]))


def test_a_folder_that_cannot_be_written_is_read_all_the_same(kept, monkeypatch):
    def full(*_arguments, **_named):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(runs, "write_whole", full)
    assert len(runs.load(kept)) == len(runs.load(kept)) > 0
    assert not list(kept.glob(".runs*"))


def test_what_a_process_killed_while_keeping_the_table_left_is_removed(kept):
    (kept / f"{runs._CACHE}.1.part").write_bytes(b"half")
    runs.load(kept)
    assert [path.name for path in kept.glob(".runs*")] == [runs._CACHE]


def test_a_home_and_variables_in_the_folder_are_replaced(runs_folder, monkeypatch):
    whole = runs.load(runs_folder)
    monkeypatch.setenv("SCRATCH", str(runs_folder.parent))
    monkeypatch.setenv("HOME", str(runs_folder.parent))
    for place in ("$SCRATCH", "${SCRATCH}", "~"):
        pd.testing.assert_frame_equal(runs.load(f"{place}/{runs_folder.name}"), whole)
    with pytest.raises(ParameterError, match=r"folder='\$NOWHERE/runs': must name .*, \$NOWHERE is not"):
        runs.load("$NOWHERE/runs")


def test_records_that_are_no_numbers_are_named(kept):
    path = first_run(kept) / PERFORMANCES
    path.write_text(path.read_text().replace("\n2,", "\ntwo,"))
    with pytest.warns(UserWarning, match="broken: DataError: "):
        table = runs.load(kept)
    assert list(table.attrs["skipped"]) == [path.parent.name]
    assert path.parent.name not in set(table["run"])
