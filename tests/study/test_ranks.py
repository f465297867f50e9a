import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lib.study.ranks import (
    Friedman,
    difference_p_values,
    friedman,
    holm,
    permutation_p_value,
)

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
    assert Friedman(0.0, 1.0, 1, {"a": 1, "b": 2}).critical_difference == pytest.approx(1.960, abs=1e-3)


def test_the_published_example_of_holms_procedure():
    found = friedman(-DEMSAR, "C4.5").against_baseline
    # By the normal approximation, regardless of ties, 0.016, 0.019 and 0.607, times 3, 2 and 1, not falling.
    assert found["C4.5+m+cf"] == pytest.approx(3 * 0.016, abs=3 * 0.006)
    assert found["C4.5+m"] == pytest.approx(3 * 0.016, abs=3 * 0.006)
    assert found["C4.5+cf"] == pytest.approx(0.607, abs=0.03)
    assert "C4.5" not in found


def test_for_many_blocks_friedman_is_that_of_scipy():
    found = friedman(-DEMSAR, "C4.5")
    expected = scipy.stats.friedmanchisquare(*DEMSAR.to_numpy().T)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.005)
    assert found.significant
    assert found.winners == ["C4.5+m+cf"]


# Siegel, Nonparametric Statistics for the Behavioral Sciences (1956), table N: exact probabilities.
@pytest.mark.parametrize(
    ("ranks", "statistic", "p_value"),
    [
        ([(1, 2, 3, 4), (1, 2, 4, 3), (2, 1, 3, 4)], 7.4, 0.033),
        ([(1, 2, 3), (1, 2, 3), (1, 2, 3)], 6.0, 0.028),
        ([(1, 2, 3), (1, 2, 3), (1, 3, 2), (1, 2, 3)], 6.5, 0.042),
        ([(1, 2, 3), (1, 2, 3), (1, 3, 2), (1, 2, 3), (2, 1, 3)], 6.4, 0.039),
    ],
)
def test_few_blocks_have_the_published_exact_p_value(ranks, statistic, p_value):
    found = friedman(pd.DataFrame(ranks), None)
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(p_value, abs=5e-4)


def test_a_decision_that_chi_squared_would_flip():
    found = friedman(pd.DataFrame([(1, 2, 3, 4), (1, 2, 4, 3), (2, 1, 3, 4)]), None)
    assert scipy.stats.chi2.sf(found.statistic, 3) > 0.05
    assert found.significant


def rearranged(ranks):
    """Every way to permute the ranks within their blocks."""
    return np.array(list(itertools.product(*(list(itertools.permutations(block)) for block in ranks))))


few_blocks = (
    st.integers(3, 4)
    .flatmap(
        lambda methods: st.lists(
            st.lists(st.integers(0, 3), min_size=methods, max_size=methods), min_size=2, max_size=6 - methods
        )
    )
    .map(lambda values: scipy.stats.rankdata(values, axis=1))
)


@given(few_blocks)
def test_p_values_are_those_of_every_rearrangement_with_ties_too(ranks):
    sums = rearranged(ranks).sum(axis=1)
    spread = (sums**2).sum(axis=1)
    assert permutation_p_value(ranks) == pytest.approx((spread >= (ranks.sum(axis=0) ** 2).sum() - 1e-9).mean())
    seen = ranks.sum(axis=0) - ranks.sum(axis=0)[0]
    expected = [(np.abs(sums[:, 1] - sums[:, 0]) >= abs(difference) - 1e-9).mean() for difference in seen]
    assert difference_p_values(ranks, 0) == pytest.approx(expected)


def test_where_there_are_too_many_rearrangements_random_ones_tell_the_same(monkeypatch):
    ranks = scipy.stats.rankdata(np.random.default_rng(5).normal([0, 0.5, 0.5, 1.5], size=(5, 4)), axis=1)
    exact = permutation_p_value(ranks)
    monkeypatch.setattr("lib.study.ranks._ENUMERATED", 100)
    drawn = permutation_p_value(ranks)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 20_000))
    assert drawn == permutation_p_value(ranks)
    alike = np.tile(np.arange(1.0, 13), (6, 1))  # the p-value of what no random one reaches is not 0
    assert permutation_p_value(alike) == pytest.approx(1 / 20_001)


def test_the_post_hoc_agrees_with_the_test_of_few_blocks():
    same = pd.DataFrame(3 * [(1, 2, 3, 4)], columns=list("abcd"))
    found = friedman(same, "d")
    assert found.p_value == pytest.approx(1 / 24**2)
    # A method is first and the baseline last in three blocks, or the other way round: 2 / 12 ** 3, of three methods.
    assert found.against_baseline["a"] == pytest.approx(3 * 2 / 12**3)


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
    assert found.p_value == pytest.approx(1 / 6)  # the second block as the first


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


def test_nothing_to_compare_gives_no_critical_difference():
    assert math.isnan(Friedman(math.nan, math.nan, 0).critical_difference)
