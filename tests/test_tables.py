import numpy as np
import pandas as pd
import pytest

from lib import runs, tables
from lib.criteria import stops


@pytest.fixture(scope="module")
def made_up():
    """Stops of two seeds with round numbers; the second run of PC could not be stopped."""
    rows = [
        ("cnd", 0, 10.0, 5.0, 7.0, 0.90, 2.0),
        ("cnd", 1, 14.0, 7.0, 9.0, 0.80, 4.0),
        ("prediction_changes", 0, 6.0, 3.0, 5.0, 0.7, 10.0),
        ("prediction_changes", 1, np.nan, np.nan, np.nan, np.nan, np.nan),
    ]
    columns = ["criterion", "seed", "record", "epoch", "spent_epochs", "test_accuracy", "gap"]
    return pd.DataFrame(rows, columns=columns).assign(dataset="digits", noise="pair", noise_rate=0.4, run="r")


def test_means_and_standard_deviations(made_up):
    cnd, changes = tables.summary(made_up).to_dict("records")
    assert cnd["criterion"] == "cnd"
    assert (cnd["runs"], cnd["failed"]) == (2, 0)
    assert cnd["test_accuracy_mean"] == pytest.approx(85)
    assert cnd["test_accuracy_std"] == pytest.approx(np.std([90, 80], ddof=1))
    assert (cnd["gap_mean"], cnd["epoch_mean"], cnd["spent_epochs_mean"]) == (3, 6, 8)
    assert (changes["runs"], changes["failed"]) == (1, 1)
    assert changes["gap_mean"] == 10
    assert np.isnan(changes["gap_std"])


def test_readable(made_up):
    cnd, changes = tables.readable(tables.summary(made_up)).to_dict("records")
    assert (cnd["Noise"], cnd["Criterion"]) == ("pair 40%", "CND")
    assert cnd["Gap to oracle (points)"] == "3.0 ± 1.4"
    assert (changes["Noise"], changes["Criterion"]) == ("", "PC")
    assert changes["Gap to oracle (points)"] == "10.0"
    assert changes["Runs"] == "1 of 2"


def test_a_criterion_that_never_stops(made_up):
    only = made_up[made_up["record"].isna()]
    assert tables.readable(tables.summary(only))["Epoch kept"].tolist() == ["no stop"]


def test_files(runs_folder, tmp_path):
    summary = tables.summary(stops(runs.load(runs_folder)))
    csv, tex = tables.write(summary, "digits", "load_digits & 100 % real", tmp_path / "figures")
    assert pd.read_csv(csv)["criterion"].tolist() == summary["criterion"].tolist()
    latex = tex.read_text()
    assert r"\toprule" in latex
    assert r"load\_digits \& 100 \% real" in latex
    assert r"symmetric 40\%" in latex
    assert "±" not in latex


def test_caption_counts_the_seeds(made_up):
    assert "over 2 runs (seeds) for each noise" in tables.caption(tables.summary(made_up), "digits", "somewhere")
