import numpy as np
import pandas as pd
import pytest

from lib.catalogue import CRITERIA
from lib.criteria import END, ORACLE, stops
from lib.runs import table as runs
from lib.stopping import select_record


def one_run(**signals):
    """A run of five records with hand-made signals."""
    records = np.arange(1, 6)
    constant = {
        "run": "r",
        "dataset": "digits",
        "noise": "pair",
        "noise_rate": 0.4,
        "seed": 0,
        "window": 1,
        "patience": 1,
        "criteria": ",".join(signals),
    }
    table = {"record": records, "epoch": records / 2, "test_accuracy": [0.5, 0.8, 0.9, 0.7, 0.6]} | signals
    return pd.DataFrame(table).assign(**constant)


def test_stops_of_a_hand_made_run():
    table = stops(one_run(cnd=[1, 2, 1, 1, 1], prediction_changes=[np.nan, 0.3, 0.2, 0.1, 0.4])).set_index("criterion")
    cnd, changes = table.loc["cnd"], table.loc["prediction_changes"]
    assert (cnd["record"], cnd["epoch"], cnd["spent_epochs"]) == (2, 1.0, 1.5)
    assert (cnd["test_accuracy"], cnd["oracle_accuracy"], cnd["epochs_late"]) == (0.8, 0.9, -0.5)
    assert cnd["gap"] == pytest.approx(10)
    assert (changes["record"], changes["epochs_late"]) == (4, 0.5)
    assert changes["gap"] == pytest.approx(20)


def test_what_is_kept_at_a_stop_may_be_the_average():
    average = [0.4, 0.85, 0.95, 0.9, 0.8]
    table = stops(one_run(cnd=[1, 2, 1, 1, 1]).assign(test_accuracy_average=average)).set_index("criterion")
    cnd = table.loc["cnd"]
    assert (cnd["test_accuracy"], cnd["test_accuracy_average"]) == (0.8, 0.85)
    assert (cnd["gap"], cnd["gap_average"]) == (pytest.approx(10), pytest.approx(5))
    assert (cnd["gap_to_best"], cnd["gap_average_to_best"]) == (pytest.approx(15), pytest.approx(10))
    assert table.loc[ORACLE, "gap_average"] == pytest.approx(-5)  # the average is better than any snapshot
    without = stops(one_run(cnd=[1, 2, 1, 1, 1])).set_index("criterion").loc["cnd"]
    assert without[["test_accuracy_average", "gap_average", "gap_average_to_best"]].isna().all()
    assert without["gap_to_best"] == without["gap"]


def test_the_consensus_of_the_members_that_were_recorded():
    falling, rising, flat = [5, 4, 3, 2, 3], [1, 2, 3, 4, 5], [2] * 5
    two = {"prediction_changes": falling, "average_disagreement": rising}
    table = stops(one_run(**two)).set_index("criterion")
    assert (table.loc["consensus", "record"], table.loc["consensus", "reason"]) == (1, "")
    three = two | {"known_polluted_accuracy": flat}
    table = stops(one_run(**three)).set_index("criterion")
    assert (table.loc["consensus", "record"], table.loc["consensus", "spent"]) == (1, 2)
    assert table.loc["consensus", "reason"] == "without KPA"
    alone = stops(one_run(prediction_changes=falling)).set_index("criterion")
    assert "consensus" not in alone.index
    nothing = stops(one_run(prediction_changes=flat, average_disagreement=flat)).set_index("criterion")
    assert np.isnan(nothing.loc["consensus", "record"])
    assert "must have a value that is not the same at every record" in nothing.loc["consensus", "reason"]


def test_a_consensus_has_a_window_and_patience_of_its_own_where_the_run_is_long_enough():
    rng = np.random.default_rng(0)
    members = {name: rng.normal(size=40).tolist() for name in CRITERIA["consensus"].members}
    table = pd.DataFrame({"record": range(1, 41), "epoch": 1.0, "test_accuracy": 0.5} | members)
    about = one_run(cnd=[1, 2, 1, 1, 1]).iloc[0][["run", "dataset", "noise", "noise_rate", "seed"]].to_dict()
    table = table.assign(**about, window=1, patience=1, criteria=",".join(members))
    for length, settings in ((40, {"window": 8, "patience": 5}), (39, {"window": 1, "patience": 1})):
        records = [select_record(members[name][:length], "min", **settings).record for name in members]
        found = stops(table[:length]).set_index("criterion")
        assert found.loc["consensus", "record"] == sorted(records)[1]


def test_references():
    table = stops(one_run(cnd=[1, 2, 1, 1, 1])).set_index("criterion")
    assert table.loc[ORACLE, "record"] == 3
    assert table.loc[ORACLE, "gap"] == 0
    assert table.loc[END, "test_accuracy"] == 0.6
    assert table.loc[END, "gap"] == pytest.approx(30)


def test_a_signal_without_values_is_said_not_fatal():
    table = stops(one_run(prediction_changes=[np.nan] * 5)).set_index("criterion")
    assert np.isnan(table.loc["prediction_changes", "record"])
    assert "window=1: must be at most the 0 values" in table.loc["prediction_changes", "reason"]
    with pytest.warns(UserWarning, match="value of record 3 is nan"):
        table = stops(one_run(cnd=[1, 2, np.nan, 1, 1])).set_index("criterion")
    assert table.loc["cnd", "record"] == 2


def test_real_runs_have_every_criterion(runs_folder, tiny):
    table = stops(runs.load(runs_folder))
    assert set(table.groupby("run").size()) == {len(tiny["criteria"]) + len(["consensus", END, ORACLE])}
    assert (table["gap"].dropna() >= 0).all()
