import numpy as np
import pandas as pd
import pytest

from lib.criteria import END, ORACLE, stops
from lib.runs import table as runs


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
    assert set(table.groupby("run").size()) == {len(tiny["criteria"]) + 2}
    assert (table["gap"].dropna() >= 0).all()
