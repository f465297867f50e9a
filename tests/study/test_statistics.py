import itertools
import math

import numpy as np
import pandas as pd
import pytest

from lib.study import statistics
from lib.study.statistics import correlation, intervals


def test_an_interval_of_three_values_is_that_of_all_resamples():
    values = [1.0, 2.0, 6.0]
    means = [np.mean(sample) for sample in itertools.product(values, repeat=3)]
    (low, high), (other_low, other_high) = intervals([values, [0.0, 0.0, 0.0]])
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.34)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=1.4)
    assert (other_low, other_high) == (0, 0)


def test_intervals_cover_the_mean_of_normal_samples():
    rng = np.random.default_rng(0)
    found = intervals(rng.normal(3, 1, (300, 40)))
    covered = ((found[:, 0] < 3) & (found[:, 1] > 3)).mean()
    assert 0.9 < covered < 0.98


def test_intervals_of_samples_of_other_lengths_do_not_disturb_each_other():
    alone = intervals([[1.0, 2, 3, 4]])
    among = intervals([[5.0, 6], [1.0, 2, 3, 4], [7.0], []])
    assert np.array_equal(alone[0], among[1])
    assert np.isnan(among[2:]).all()
    assert np.array_equal(intervals([[1.0, 5, 9]]), intervals([[1.0, 5, 9]]))


def test_correlations_are_those_of_scipy_where_both_have_values():
    rng = np.random.default_rng(0)
    signal, accuracy = rng.normal(size=30), rng.normal(size=30)
    signal[:4] = np.nan
    found = correlation(signal, accuracy)
    assert found["pearson"] == pytest.approx(np.corrcoef(signal[4:], accuracy[4:])[0, 1])
    pairs = list(itertools.combinations(range(4, 30), 2))
    concordant = sum(np.sign((signal[i] - signal[j]) * (accuracy[i] - accuracy[j])) for i, j in pairs)
    assert found["kendall"] == pytest.approx(concordant / len(pairs))


@pytest.mark.parametrize("signal", [[1.0, 1, 1, 1], [np.nan] * 4, [np.nan, np.nan, np.nan, 2.0]])
def test_a_constant_signal_has_no_correlation(signal):
    found = correlation(np.array(signal), np.array([0.1, 0.2, 0.3, 0.4]))
    assert all(math.isnan(value) for value in found.values())


@pytest.fixture
def stops():
    """Three seeds of two settings; in the second PC is always best, and CND fails once."""
    rows = []
    for rate, table in ((0.2, [(1, 2, 3), (3, 1, 2), (2, 3, 1)]), (0.4, [(5, 1, 3), (6, 2, 4), (np.nan, 1, 2)])):
        for seed, gaps_of_seed in enumerate(table):
            names = ("cnd", "prediction_changes", "known_polluted_accuracy")
            for name, gap in [*zip(names, gaps_of_seed, strict=True), ("oracle", 0), ("end", 50)]:
                row = {"run": f"{rate}-{seed}", "dataset": "digits", "noise": "pair", "noise_rate": rate, "seed": seed}
                record = np.nan if np.isnan(gap) else 4.0
                row |= {"criterion": name, "record": record, "gap": gap, "test_accuracy": 0.9 - gap / 100}
                rows.append(row | {"epochs_late": gap, "spent": 2 * record, "gap_average": gap - 1, "fallback": False})
    return pd.DataFrame(rows)


@pytest.fixture
def correlated(stops):
    methods = stops[~stops["criterion"].isin(["oracle", "end"])]
    return methods[["run", "criterion"]].assign(pearson=0.5, kendall=np.nan)


def test_in_settings_references_take_no_part(stops):
    found = statistics.in_settings(stops)
    assert list(found) == [("digits", "pair", 0.2), ("digits", "pair", 0.4)]
    assert set(found["digits", "pair", 0.2].ranks) == {"cnd", "prediction_changes", "known_polluted_accuracy"}
    assert found["digits", "pair", 0.4].blocks == 2


def test_the_summary_counts_means_and_tests(stops, correlated):
    table = statistics.summary(stops, correlated).set_index(["noise_rate", "criterion"])
    cnd = table.loc[(0.4, "cnd")]
    assert (cnd["runs"], cnd["failed"], cnd["seeds"], cnd["blocks"]) == (2, 1, 3, 2)
    runs, seeds = statistics.counts(table.reset_index())
    assert (runs, seeds.tolist()) == (6, [3, 3])
    assert cnd["gap_mean"] == 5.5
    assert cnd["gap_low"] == 5
    assert cnd["gap_high"] == 6
    assert cnd["test_accuracy_mean"] == pytest.approx(84.5)
    assert (cnd["spent_mean"], cnd["pearson_mean"], cnd["rank"]) == (8, 0.5, 3)
    assert math.isnan(cnd["kendall_mean"])
    assert cnd["note"] == "1 of 3 blocks left out, incomplete"
    assert (cnd["gap_iqm"], cnd["gap_iqm_low"], cnd["gap_iqm_high"]) == (5.5, 5, 6)
    assert cnd["improvement_mean"] == 0
    assert not table["winner"].any()  # two and three blocks of three methods are too few
    assert math.isnan(table.loc[(0.2, "oracle"), "rank"])
    assert list(table.loc[0.2].index) == ["cnd", "prediction_changes", "known_polluted_accuracy", "end", "oracle"]


def test_winners_are_marked_only_where_the_test_is_significant(stops, correlated):
    many = pd.concat([stops.assign(seed=stops["seed"] + 10 * i, run=stops["run"] + str(i)) for i in range(4)])
    wins = statistics.summary(many, correlated).query("winner")
    assert wins[["noise_rate", "criterion"]].to_numpy().tolist() == [[0.4, "prediction_changes"]]


def test_a_single_seed_has_means_and_no_intervals(stops, correlated):
    table = statistics.summary(stops[stops["seed"] == 0], correlated)
    assert table["gap_mean"].notna().all()
    assert table["gap_low"].isna().all()
    assert set(table["note"]) == {"no test of a single block"}


@pytest.fixture
def three_datasets(stops):
    """The two settings of each of three datasets, one of them in two studies, without averages."""
    stops = stops.assign(gap_average=np.nan)
    other = {name: stops.assign(dataset=name, run=name + stops["run"]) for name in ("digits", "news", "cifar10")}
    return other | {"digits network=small_cnn": stops.assign(run="cnn" + stops["run"])}


def test_settings_of_a_dataset_are_one_block(three_datasets):
    found = statistics.across_datasets(three_datasets)
    assert found.blocks == 3
    # In the setting of 20 % all three tie, in that of 40 % PC is first, KPA second and CND third.
    assert found.ranks == {"cnd": 3, "known_polluted_accuracy": 2, "prediction_changes": 1}
    assert found.p_value == pytest.approx(6 / 6**3)
    assert statistics.across_datasets({"digits": three_datasets["digits"]}).note == "no test of a single block"


def test_what_is_kept_makes_a_method_of_its_own(three_datasets):
    kept = {name: table.assign(gap_average=table["gap"] - 100) for name, table in three_datasets.items()}
    ranks = statistics.across_datasets(kept).ranks
    assert ranks["prediction_changes:average"] == 1
    assert ranks["prediction_changes"] == 4
    assert len(ranks) == 6


def test_what_is_not_in_every_setting_is_not_ranked(stops):
    some = stops[~((stops["noise_rate"] == 0.2) & (stops["criterion"] == "cnd"))]
    found = statistics.across_datasets({"digits": some})
    assert "cnd" not in found.ranks
    assert "left out, as not in every setting: CND" in found.note


def test_improvement_compares_stops_of_one_training(stops):
    better = stops.assign(improvement=statistics.improvement(stops)).set_index(["noise_rate", "seed", "criterion"])
    improvement = better["improvement"]
    assert improvement[0.2, :, "cnd"].tolist() == [1, 0, 1]
    assert improvement[0.2, :, "oracle"].tolist() == [1, 1, 1]
    assert improvement[0.4, :, "cnd"].tolist()[:2] == [0, 0]
    assert math.isnan(improvement[0.4, 2, "cnd"])
    assert improvement[:, :, "prediction_changes"].isna().all()
    equal = stops.assign(gap=1.0)
    assert set(statistics.improvement(equal)[equal["criterion"] == "cnd"]) == {0.5}


def test_interquartile_means_leave_out_the_quarters_at_both_ends():
    assert statistics.interquartile_mean(np.array([0.0, 1, 2, 3, 4, 5, 6, 100])) == 3.5
    assert statistics.interquartile_mean(np.array([1.0, 2, 9])) == 4
    missing = np.array([[0.0, np.nan, 4, 6, 100], [1, 2, 3, 4, np.nan]])
    assert statistics.interquartile_mean(missing).tolist() == [5, 2.5]


def test_over_runs_pools_all_of_a_criterion(three_datasets):
    table = statistics.over_runs(three_datasets)
    cnd = table.loc["cnd"]
    values = sorted(4 * [1, 3, 2, 5, 6])
    assert cnd["gap_iqm"] == np.mean(values[5:-5])
    assert cnd["gap_iqm_low"] <= cnd["gap_iqm"] <= cnd["gap_iqm_high"]
    assert cnd["improvement"] == pytest.approx(2 / 5)
    assert math.isnan(table.loc["prediction_changes", "improvement"])
    assert (table.loc["oracle", ["gap_iqm", "gap_iqm_low", "gap_iqm_high"]] == 0).all()
    one_seed = {name: stops[stops["seed"] == 0] for name, stops in three_datasets.items()}
    assert statistics.over_runs(one_seed)[["gap_iqm_low", "improvement_high"]].isna().all(axis=None)


def rows_of(*strata):
    """A row a value of strata of shape (seeds, settings), each a dataset."""
    return pd.DataFrame(
        {"dataset": str(dataset), "seed": seed, "gap": gap}
        for dataset, stratum in enumerate(strata)
        for seed, gaps in enumerate(stratum)
        for gap in gaps
    )


def test_datasets_are_resampled_by_themselves_and_a_seed_as_a_whole():
    apart = rows_of([[0.0], [0.0]], [[10.0], [10.0]])
    assert statistics.seed_interval(apart, "gap") == (5, 5)  # which of the datasets is never left to chance
    whole = rows_of([[0.0, 10.0], [10.0, 0.0]])
    assert statistics.seed_interval(whole, "gap") == (5, 5)
    rng = np.random.default_rng(0)
    settings = rng.normal(size=(30, 1)) + rng.normal(scale=1e-3, size=(30, 8))  # a seed is alike in all of them
    (of_means,) = intervals([settings.mean(axis=1)])
    assert statistics.seed_interval(rows_of(settings), "gap") == pytest.approx(of_means, abs=0.05)


@pytest.mark.slow
def test_seed_intervals_cover_the_mean_whatever_is_missing():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(100):
        some, others = rng.normal(size=(20, 3)), rng.normal(2, 1, size=(30, 2))
        some[:5, 0] = np.nan
        low, high = statistics.seed_interval(rows_of(some, others), "gap")
        covered.append(low < 120 / 115 < high)
    assert 0.88 < np.mean(covered) <= 0.99


def test_correlations_of_runs(runs_folder):
    from lib.runs import table as runs

    table = runs.load(runs_folder)
    found = statistics.correlations(table)
    one = table[table["run"] == found["run"].iloc[0]]
    asked = one["criteria"].iloc[0].split(",")
    assert set(found.loc[found["run"] == one["run"].iloc[0], "criterion"]) == set(asked)
    assert found["kendall"].dropna().between(-1, 1).all()


def test_without_the_baseline_nothing_is_compared_with_it(stops, correlated):
    alone = stops[stops["criterion"].isin(["cnd", "oracle", "end"])]
    table = statistics.summary(alone, correlated)
    assert table[["improvement_mean", "improvement_low", "holm_p"]].isna().all(axis=None)
    assert table["gap_mean"].notna().all()
    assert statistics.over_runs({"digits": alone})["improvement"].isna().all()
