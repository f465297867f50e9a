import numpy as np
import pandas as pd
import pytest

from lib.paper import tables
from lib.paper.printing import Estimate
from lib.study import baselines, statistics
from lib.study.statistics import Friedman


@pytest.fixture(scope="module")
def summary():
    """Five seeds with round numbers: PC is always best, KPA could not stop two runs."""
    rows = []
    for seed in range(5):
        gaps = {"cnd": 2.0 + seed, "prediction_changes": 1.0, "known_polluted_accuracy": 8.0 + seed, "oracle": 0.0}
        for criterion, gap in gaps.items():
            about = {"run": f"r{seed}", "dataset": "digits", "noise": "pair", "noise_rate": 0.4, "seed": seed}
            row = about | {"criterion": criterion, "record": 4.0, "spent": 14.0, "epochs_late": -0.01, "gap": gap}
            row |= {"gap_average": gap, "fallback": False}
            rows.append(row | {"test_accuracy": 0.9 - gap / 100})
    stops = pd.DataFrame(rows)
    failed = (stops["criterion"] == "known_polluted_accuracy") & (stops["seed"] > 2)
    stops.loc[failed, ["record", "spent", "epochs_late", "gap", "test_accuracy"]] = np.nan
    correlated = stops.loc[stops["criterion"] != "oracle", ["run", "criterion"]].assign(pearson=0.5, kendall=np.nan)
    return statistics.summary(stops, correlated)


def test_criteria_are_printed_with_intervals_and_counts(summary):
    cnd, changes, probe, oracle = tables.criteria(summary).to_dict("records")
    assert (cnd["Noise"], cnd["Criterion"]) == ("pair 40%", "CND")
    mean, low, high, best = cnd["Gap to oracle (points)"]
    assert (mean, best) == ("4.0", False)
    assert float(low) < 4 < float(high)
    assert cnd["Epochs after oracle"].mean == "0.0"  # no minus zero
    assert cnd["Kendall τ"] == "–"
    assert (changes["Noise"], changes["Criterion"]) == ("", "PC")
    assert changes["Gap to oracle (points)"] == Estimate("1.0", "1.0", "1.0", best=True)
    assert not changes["Test accuracy (%)"].best
    assert (probe["Runs"], cnd["Runs"]) == ("3 of 5", "5")
    assert (oracle["Rank"], oracle["Holm p"]) == ("", "")


def test_gaps_at_a_glance(summary):
    column = tables.gaps(summary).set_index("Criterion")["pair 40%"]
    assert column.index.tolist() == ["CND", "PC", "KPA", "Friedman p"]
    assert column["PC"].best
    assert float(column["Friedman p"]) == pytest.approx(6 / 6**3, abs=1e-3)  # three blocks, all ranked alike


def test_a_criterion_that_never_stops_says_so(summary):
    never = summary.assign(runs=0, failed=5)
    assert set(tables.criteria(never)["Test accuracy (%)"]) == {"no stop"}


def test_captions_count_runs_and_seeds(summary):
    caption = tables.criteria_caption(summary, "Digits", "load_digits")
    assert "Digits: 5 runs, 5 seeds for each noise" in caption
    assert "Note: 2 of 5 blocks left out, incomplete." in caption
    assert "bold where criteria differ" in caption
    assert caption.endswith("Data: load_digits.")
    assert "5 runs, 5 seeds" in tables.gaps_caption(summary, "Digits")
    untested = summary.assign(friedman_p=np.nan)
    assert "no setting can be tested" in tables.criteria_caption(untested, "Digits", "")


def test_overall_joins_studies_with_ranks(summary):
    ranks = {"cnd": 3.0, "prediction_changes": 2.0, "cnd:average": 1.0}
    across = Friedman(9.0, 0.01, 4, ranks, {"cnd": 0.0001, "cnd:average": 0.5}, "a note")
    none_kept = {"gap_mean": summary["gap_mean"] * 2, "gap_average_mean": np.nan}
    summaries = {"Digits": summary.assign(gap_average_mean=1.0), "NEWS": summary.assign(**none_kept)}
    ends = {"gap_iqm": 3.5, "gap_iqm_low": 3, "gap_iqm_high": 4.25, "improvement": 0.25}
    over_runs = pd.DataFrame([ends | {"improvement_low": 0, "improvement_high": 0.5}], index=["cnd"])
    table = tables.overall(summaries, across, over_runs).set_index("criterion")
    assert table.loc["cnd"].tolist() == [4, 1, 8, 3.5, 3, 4.25, 0.25, 0, 0.5, 0, 3, 1, 0.0001, 0.5]
    assert table.loc["prediction_changes", "settings won"] == 2
    assert "oracle" not in table.index
    printed = tables.overall_printed(table.reset_index(), across)
    assert printed["Criterion"].tolist() == ["CND", "", "PC", "", "KPA", ""]
    assert printed["Kept"].tolist() == ["snapshot", "average"] * 3
    assert printed["Digits"].tolist()[:2] == ["4.0", "1.0"]
    assert printed["NEWS"].tolist()[:2] == ["8.0", ""]
    assert printed["Holm p"].tolist() == ["<0.001", "0.500", "", "", "", ""]
    assert printed["Average rank"].tolist() == ["3.00", Estimate("1.00", best=True), "2.00", "", "", ""]
    caption = tables.overall_caption(summaries, across)
    assert "All studies, 10 runs, 5 seeds in a setting" in caption
    assert printed["Interquartile mean"].tolist() == [Estimate("3.5", "3.0", "4.2"), "", "–", "", "–", ""]
    assert printed["P (better than PC)"][0] == Estimate("0.25", "0.00", "0.50")
    assert "over 4 datasets" in caption
    assert "Note: a note." in caption
    snapshots = Friedman(9.0, 0.01, 4, {"cnd": 3.0}, {"cnd": 0.0001}, "")
    nowhere_kept = tables.overall({"NEWS": summaries["NEWS"]}, snapshots, over_runs)
    assert set(tables.overall_printed(nowhere_kept, snapshots)["Kept"]) == {"snapshot"}


def test_ablation_names_each_choice_once():
    row = {"choice": "window", "value": "2 records", "runs": 3, "gap": 4.0, "gap_low": 3.0, "gap_high": 5.0}
    row |= {"difference": -1.0, "difference_low": np.nan, "difference_high": np.nan}
    printed = tables.ablation(pd.DataFrame([row, row | {"value": "3 records"}]))
    assert printed["Choice"].tolist() == ["window", ""]
    assert printed["Gap to oracle (points)"][0] == Estimate("4.0", "3.0", "5.0")
    assert printed["Difference to the study (points)"][0] == Estimate("-1.0")


def test_baselines_have_a_column_a_noise():
    about = {"held_out": 0.1, "runs": 3, "test_accuracy_mean": 90.0, "test_accuracy_low": 89, "test_accuracy_high": 91}
    rows = [
        about | {"noise": "symmetric", "noise_rate": 0.2, "criterion": "validation_accuracy_noisy"},
        about | {"noise": "pair", "noise_rate": 0.4, "criterion": "oracle"},
    ]
    printed = tables.baselines(pd.DataFrame(rows))
    assert printed["Stopped by"].tolist() == ["10% held out, noisy labels", "Oracle, 10% held out"]
    assert printed["symmetric 20%"].tolist() == [Estimate("90.0", "89.0", "91.0"), ""]
    assert baselines.name_of("cnd", 0) == "CND"
    assert "3 seeds" in tables.baselines_caption(pd.DataFrame(rows), "Digits")
