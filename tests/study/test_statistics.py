import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lib.study import statistics
from lib.study.statistics import Friedman, correlation, friedman, holm, intervals

# Demšar (JMLR 2006), table 6: AUC of C4.5 with parameters m and cf tuned or not, on 14 datasets. Where the paper ranks
# two equal printed values apart, the hidden digit is restored.
C45 = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
DEMSAR = pd.DataFrame(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),
        (0.957, 0.978, 0.946, 0.970),
    ],
    columns=C45,
)


def test_the_published_example_of_ranks():
    found = friedman(-DEMSAR, "C4.5")
    assert [round(found.ranks[name], 3) for name in C45] == [3.143, 2.0, 2.893, 1.964]
    assert found.blocks == 14
    assert found.note == ""


def test_the_published_example_of_the_critical_difference():
    assert friedman(-DEMSAR, "C4.5").critical_difference == pytest.approx(1.25, abs=0.01)  # q = 2.569
    assert statistics.critical_difference(2, 1) == pytest.approx(1.960, abs=1e-3)


def test_the_published_example_of_holms_procedure():
    found = friedman(-DEMSAR, "C4.5").against_baseline
    # p-values 0.016, 0.019 and 0.607, times 3, 2 and 1, not falling.
    assert found["C4.5+m+cf"] == pytest.approx(3 * 0.01571, abs=2e-4)
    assert found["C4.5+m"] == pytest.approx(max(3 * 0.01571, 2 * 0.01917), abs=2e-4)
    assert found["C4.5+cf"] == pytest.approx(0.6085, abs=2e-3)
    assert "C4.5" not in found


def test_friedman_is_that_of_scipy():
    found = friedman(-DEMSAR, "C4.5")
    expected = scipy.stats.friedmanchisquare(*DEMSAR.to_numpy().T)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.significant
    assert found.winners == ["C4.5+m+cf"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, order = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
        for step, i in enumerate(order):
            if p_values[i] * (len(p_values) - step) > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Wikipedia's worked example
    assert holm([]).shape == (0,)


def gaps(*rows, columns=("a", "b", "c")):
    return pd.DataFrame(rows, columns=list(columns), dtype=float)


def test_a_missing_seed_leaves_its_block_out_and_says_so():
    found = friedman(gaps((1, 2, 3), (1, np.nan, 3), (1, 3, 2), (1, 2, 3)), "a")
    assert found.blocks == 3
    assert found.note == "1 of 4 blocks left out, incomplete"
    assert found.ranks == pytest.approx({"a": 1, "b": 2 + 1 / 3, "c": 2 + 2 / 3})


def test_a_criterion_without_any_value_leaves_the_others():
    found = friedman(gaps((1, 2, np.nan, 3), (1, 2, np.nan, 3), columns="abcd"), "a")
    assert set(found.ranks) == {"a", "b", "d"}
    assert found.blocks == 2
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(4, 2))


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (gaps((1, 2, 3)), "no test of a single block"),
        (gaps((1, 1, 1), (2, 2, 2)), "no test: all methods tie in every block"),
        (gaps((1, 2), (1, 2), columns="ab"), "no test of 2 methods, which must be at least 3"),
        (gaps((np.nan, 2, 3), (1, np.nan, 3)), "2 of 2 blocks left out, incomplete; no complete block"),
        (gaps(), "no complete block"),
    ],
)
def test_what_cannot_be_tested_is_said(values, note):
    found = friedman(values, "a")
    assert found.note == note
    assert math.isnan(found.p_value)
    assert (found.significant, found.winners, found.against_baseline) == (False, [], {})


def test_ties_share_their_rank():
    assert friedman(gaps((1, 1, 2), (1, 1, 2)), "a").ranks == {"a": 1.5, "b": 1.5, "c": 3}


def test_without_the_baseline_there_is_no_post_hoc():
    assert friedman(gaps((1, 2, 3), (1, 2, 3), (1, 2, 3)), "z").against_baseline == {}


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


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_kendall_is_that_of_scipy_with_ties_too(pairs):
    x, y = np.array(pairs, dtype=float).T
    if np.ptp(x) and np.ptp(y):
        assert statistics.kendall(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


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
                rows.append(row | {"epochs_late": gap, "spent": 2 * record})
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


def test_across_settings_blocks_are_settings(stops):
    found = statistics.across_settings(stops)
    assert found.blocks == 2
    assert found.ranks["prediction_changes"] == 1.5
    some = stops[~((stops["noise_rate"] == 0.2) & (stops["criterion"] == "cnd"))]
    found = statistics.across_settings(some)
    assert "cnd" not in found.ranks
    assert "left out, as not in every setting: CND" in found.note


def test_correlations_of_runs(runs_folder):
    from lib.runs import table as runs

    table = runs.load(runs_folder)
    found = statistics.correlations(table)
    one = table[table["run"] == found["run"].iloc[0]]
    asked = one["criteria"].iloc[0].split(",")
    assert set(found.loc[found["run"] == one["run"].iloc[0], "criterion"]) == set(asked)
    assert found["kendall"].dropna().between(-1, 1).all()


def test_nothing_to_compare_gives_no_critical_difference():
    assert math.isnan(Friedman(math.nan, math.nan, 0).critical_difference)
