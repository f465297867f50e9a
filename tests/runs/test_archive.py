"""Archived runs are read like their folders, are never lost, and say who made them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from lib.__main__ import main
from lib.checks import DataError
from lib.runs import load, logs
from lib.runs.archive import archive
from lib.runs.folder import ARGS, DIVERGENCE, PERFORMANCES, WEIGHTS, divergence_by_layer, layers_of
from lib.study.restop import Settings, finished_runs
from lib.study.results import results


@pytest.fixture
def committed(study_folder, tmp_path):
    """The runs of a study as a checkout without changes would have made them."""
    folder = tmp_path / "runs"
    shutil.copytree(study_folder, folder)
    for args in folder.glob(f"*/{ARGS}"):
        made_by(args, "abc")
    return folder


def made_by(args, commit):
    about = json.loads(args.read_text())
    about["environment"]["commit"] = commit
    args.write_text(json.dumps(about))


def test_the_table_is_the_one_of_the_folders(committed, tmp_path):
    outcome = archive(committed, tmp_path / "logs")
    assert len(outcome.added) == len(list(committed.iterdir())) == 7
    assert (outcome.there, outcome.refused) == ([], {})
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["digits-mlp.parquet"]
    before, after = (
        load(folder).sort_values(["run", "record"], ignore_index=True) for folder in (committed, tmp_path / "logs")
    )
    pd.testing.assert_frame_equal(before, after[before.columns], check_categorical=False)
    assert after.attrs["skipped"] == {}
    assert not list((tmp_path / "logs").glob(".*"))  # nothing but the archive in what is kept with the code


def test_divergences_and_layers_in_half_precision(committed, tmp_path):
    archive(committed, tmp_path / "logs")
    run = next(folder for folder in sorted(committed.iterdir()) if len(layers_of(folder)) == 2)
    assert layers_of(tmp_path / "logs" / run.name) == layers_of(run)
    exact, archived = (divergence_by_layer(folder / run.name) for folder in (committed, tmp_path / "logs"))
    assert list(archived) == list(exact)
    for layer, bits in exact.items():
        assert archived[layer].shape == bits.shape
        # Half precision has 11 bits, so that it errs by 2^-11 of a value at most.
        assert np.allclose(archived[layer], bits, rtol=2**-11, atol=1e-7)


def test_layers_keep_their_order_whatever_their_names(committed, tmp_path):
    run = next(folder for folder in sorted(committed.iterdir()) if len(layers_of(folder)) == 2)
    about = json.loads((run / ARGS).read_text())
    about["layers"] = dict(zip(("20:mean", "20"), about["layers"].values(), strict=True))
    (run / ARGS).write_text(json.dumps(about))
    archive(committed, tmp_path / "logs")
    assert list(layers_of(tmp_path / "logs" / run.name)) == ["20:mean", "20"]


def test_cnd_in_the_committed_logs_is_of_the_last_hidden_layer():
    last, table = {"mlp": "4", "narrow_airbench": "20"}, load("logs")
    several = [run for run in finished_runs(table, "logs") if len(run.layers) > 1]
    assert {run.parameters["network"] for run in several} == set(last)
    for run in several:
        bits = divergence_by_layer(run.folder)[last[run.parameters["network"]]]
        recorded = table.loc[table["run"] == run.folder.name, "cnd"]
        assert np.allclose(np.quantile(bits, run.own.quantile, axis=1), recorded, atol=2e-3)


def test_explorer_and_summaries_read_them_like_folders(committed, tmp_path):
    archive(committed, tmp_path / "logs")
    by_folder, by_archive = (results(folder) for folder in (committed, tmp_path / "logs"))
    assert [one.study.title for one in by_folder.studies] == [one.study.title for one in by_archive.studies]
    for one, other in zip(by_folder.studies, by_archive.studies, strict=True):
        pd.testing.assert_frame_equal(one.summary, other.summary, check_categorical=False)
    (run, *_) = finished_runs(load(tmp_path / "logs"), tmp_path / "logs")
    median = run.stopped(Settings(window=2, patience=1, quantile=0.5, layer=list(run.layers)[-1]))
    assert median.record


def test_archiving_again_changes_nothing_and_more_runs_are_added(committed, tmp_path):
    later = tmp_path / "later"
    moved = sorted(committed.iterdir())[:2]
    later.mkdir()
    for run in moved:
        run.rename(later / run.name)
    archive(committed, tmp_path / "logs")
    file = tmp_path / "logs" / "digits-mlp.parquet"
    before = file.read_bytes()
    outcome = archive(committed, tmp_path / "logs")
    assert (len(outcome.added), len(outcome.there)) == (0, 5)
    assert file.read_bytes() == before
    archive(later, tmp_path / "logs")
    both = file.read_bytes()
    file.unlink()
    for run in moved:
        (later / run.name).rename(committed / run.name)
    archive(committed, tmp_path / "logs")
    assert file.read_bytes() == both  # in whichever order they came


@pytest.mark.parametrize("commit", [None, "abc-dirty"])
def test_runs_of_a_changed_checkout_are_refused(committed, tmp_path, commit):
    run = min(committed.iterdir())
    made_by(run / ARGS, commit)
    outcome = archive(committed, tmp_path / "logs")
    assert list(outcome.refused) == [run.name]
    assert "made by a checkout that was changed" in outcome.refused[run.name]
    assert len(logs.read(tmp_path / "logs")) == 6


def test_unfinished_and_broken_runs_are_refused(committed, tmp_path):
    first, second, third, *_ = sorted(committed.iterdir())
    (first / WEIGHTS).unlink()
    (second / PERFORMANCES).write_text("record,epoch\n1,oops\n")
    (third / DIVERGENCE).unlink()
    outcome = archive(committed, tmp_path / "logs")
    assert outcome.refused[first.name] == "unfinished: no weights.pt"
    assert outcome.refused[second.name].startswith("broken: ")
    assert logs.read(tmp_path / "logs")[third.name].divergence is None
    with pytest.raises(FileNotFoundError):
        divergence_by_layer(tmp_path / "logs" / third.name)


def test_the_command(committed, tmp_path, capsys):
    made_by(min(committed.iterdir()) / ARGS, None)
    assert main(["archive", str(committed), "--logs", str(tmp_path / "logs")]) == 1
    told = capsys.readouterr()
    assert "6 runs archived in" in told.out
    assert "refused " in told.err
    assert main(["archive", str(tmp_path / "nowhere")]) == 2
    assert "must hold run folders, found none in" in capsys.readouterr().err
    with pytest.raises(DataError, match="must hold run folders"):
        archive(tmp_path / "nowhere")


def test_another_table_in_the_folder_is_none_of_ours_and_damage_is_named(committed, tmp_path):
    archive(committed, tmp_path)
    pd.DataFrame({"mine": [1, 2]}).to_parquet(tmp_path / "mine.parquet")
    assert load(tmp_path)["run"].nunique() == load(committed)["run"].nunique()
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cut\.parquet: must be an archive of runs, is damaged"):
        load(tmp_path)
