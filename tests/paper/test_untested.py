"""Runs on labels that are noisy already, without true labels and without a test set: what is shown of them."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.catalogue import CRITERIA
from lib.criteria import ORACLE, stops
from lib.data import load
from lib.paper import figures, report, tables
from lib.paper.explorer import Explorer
from lib.parameters import Experiment
from lib.study.results import results
from lib.training import run
from tests.cells import defined
from tests.looks import texts_overlap

pytestmark = pytest.mark.slow

mpl.use("agg")
sentences = defined("report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds of a run on a part of digits whose labels are said to be of unknown truth."""
    folder = tmp_path_factory.mktemp("untested")
    digits = load(Experiment())
    np.savez(folder / "mine.npz", x_train=digits.x_train.stored[:300], y_train=digits.y_train[:300])
    parameters = {"dataset": str(folder / "mine.npz"), "noise": "unknown", "noise_rate": 0, "runs_folder": str(folder)}
    for seed in (0, 1):
        run(Experiment(seed=seed, epochs=6, window=2, patience=1, **parameters))
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return results(folder)


def test_criteria_stop_and_there_is_no_oracle(found):
    runs = found.studies[0].study.runs
    assert runs[["test_accuracy", "test_accuracy_average"]].isna().all(axis=None)
    found_stops = stops(runs).set_index("criterion")
    assert found_stops.drop(index=ORACLE)[["record", "epoch", "spent"]].notna().all(axis=None)
    assert found_stops[["gap", "gap_average", "gap_to_best", "oracle_accuracy", "epochs_late"]].isna().all(axis=None)
    assert found_stops.loc[ORACLE, "reason"].tolist() == ["there is no test set"] * 2
    assert found_stops.loc[ORACLE, ["record", "spent"]].isna().all(axis=None)


def test_the_study_is_compared_with_no_other(found, study_folder):
    assert found.tested == []
    assert found.stops == {}
    assert found.across().ranks == {}
    assert [result.tested for result in results(study_folder).studies] == [True]


def test_curves_that_cannot_be_had_are_left_out(found):
    figures.style()
    (result,) = found.studies
    memorized, signals = figures.memorization(result.study.runs), figures.signals(result.study.runs, result.stops)
    entries = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (memorized, signals)]
    assert entries[0] == ["Training, labels as given"]
    assert entries[1][:2] == ["Training acc.", "CND stops"]
    assert len(entries[1]) == 1 + len(Experiment().criteria)
    first = result.study.runs[result.study.runs["seed"] == 0].set_index("record")
    stop = result.stops.query("seed == 0 and criterion == 'prediction_changes'").iloc[0]
    mark = next(line for line in signals.axes[0].lines if line.get_label() == "PC stops")
    assert mark.get_xydata().tolist() == [[stop["epoch"], first.loc[stop["record"], "train_accuracy"]]]
    assert texts_overlap(signals) == []
    plt.close("all")


def test_the_table_tells_where_they_stop(found):
    (result,) = found.studies
    printed = tables.stops(result.kept)
    assert printed.columns.tolist() == ["Noise", "Criterion", "Epoch kept", "Records spent", "Runs"]
    assert printed["Noise"].tolist() == ["truth unknown"] + [""] * (len(printed) - 1)
    assert "Oracle" not in set(printed["Criterion"])
    mean = result.stops.query("criterion == 'prediction_changes'")["epoch"].mean()
    assert printed.set_index("Criterion").loc["PC", "Epoch kept"].mean == f"{mean:.1f}"
    assert "2 runs, 2 seeds" in tables.stops_caption(result.kept, "mine", "file")


def test_the_report_names_what_is_left_out(found, study_folder):
    (result,) = found.studies
    assert re.match(
        r"Left out, as they need true labels, .* Left out, as they need a test set", sentences.left_out(result)
    )
    (compared,) = results(study_folder).studies
    assert sentences.left_out(compared) == ""
    told = sentences.abstract(found, found.across())
    assert told.endswith("None of them has a test set, so that criteria are shown and not compared.")
    assert "mine: no test set." in sentences.not_asked(found)


def test_the_explorer_tells_records_without_gaps(folder):
    explorer = Explorer(folder)
    for name in CRITERIA:
        if name in Experiment().criteria:
            explorer.criterion.value = name
            assert "No gap, as there is no test set" in explorer.text.value
            assert "nan" not in explorer.text.value
    assert explorer.table["record"].notna().all()
    assert explorer.table["gap"].isna().all()


def test_a_report_is_made_and_shows_no_nan(folder, tmp_path):
    page = report.build(str(folder), str(tmp_path), idea_epochs=6)
    text = re.sub(r"base64,[^\"]*|<[^>]*>", "", page.read_text())
    assert not re.search(r"\bnan\b", text, re.I)
    assert "mine: the epoch that each criterion keeps" in text
    assert (tmp_path / "stops_mine.tex").exists()
    assert not list(tmp_path.glob("gap*"))
