"""Ranks of methods over blocks: Friedman's test by permutation, comparisons with a baseline, critical difference.

Blocks are few: three to five seeds, or as many datasets. The approximations that hold for many flip decisions there:
three blocks of four methods with a statistic of 7.4 have p = 0.033, and 0.060 by chi-squared. So nothing is taken from
them but Nemenyi's critical difference, which diagrams draw. Smaller values are better, as gaps to the oracle are.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.stats

LEVEL = 0.05
"""Level of every test; intervals cover one minus it."""
BASELINE = "prediction_changes"
"""Criterion that the others are compared with."""
_ENUMERATED = 200_000  # arrangements looked at for a block, at most: enough for 23 blocks of four methods, 6 of five
_DRAWN = 20_000


@dataclass(frozen=True)
class Friedman:
    """Friedman's test (1937), corrected for ties, of methods over blocks.

    Attributes:
        statistic: of the test; NaN where there can be no test.
        p_value: its `permutation_p_value`; NaN where there can be no test.
        blocks: complete blocks that were compared.
        ranks: average rank of each method, 1 the best; ties share the mean of their ranks.
        against_baseline: Holm-adjusted p-value of each method but the baseline, see `difference_p_values`; empty
            without a baseline, or where the methods do not differ.
        note: what was left out, or why there can be no test; empty where nothing is to be said.
    """

    statistic: float
    p_value: float
    blocks: int
    ranks: Mapping[str, float] = field(default_factory=dict)
    against_baseline: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def significant(self) -> bool:
        """Whether the methods differ."""
        return self.p_value < LEVEL

    @property
    def winners(self) -> list[str]:
        """The methods of best average rank where the methods differ, else none."""
        best = min(self.ranks.values(), default=math.nan)
        return [name for name, rank in self.ranks.items() if rank == best] if self.significant else []

    @property
    def critical_difference(self) -> float:
        """Difference of average ranks from which on two methods differ; NaN without ranks.

        Nemenyi's q sqrt(k (k + 1) / 6 N), q the studentized range over sqrt 2, for k methods and N blocks (Demšar, JMLR
        2006, section 3.2.2). It holds for many blocks; for few it is a guide to the eye.
        """
        methods = len(self.ranks)
        if not methods:
            return math.nan
        q = scipy.stats.studentized_range.ppf(1 - LEVEL, methods, math.inf) / math.sqrt(2)
        return float(q * math.sqrt(methods * (methods + 1) / (6 * self.blocks)))


def friedman(values: pd.DataFrame, baseline: str | None = BASELINE) -> Friedman:
    """Compare methods over blocks.

    Args:
        values: a row a block, a column a method, smaller is better. Methods without any value and blocks that lack
            one are left out; the note counts the blocks.
        baseline: method that the others are compared with.
    """
    complete = values.dropna(axis="columns", how="all").dropna()
    left_out = len(values) - len(complete)
    notes = [f"{left_out} of {len(values)} blocks left out, incomplete"] if left_out else []
    (blocks, count), names = complete.shape, list(complete.columns)
    if blocks == 0:
        return Friedman(math.nan, math.nan, 0, note="; ".join([*notes, "no complete block"]))
    by_block = scipy.stats.rankdata(complete.to_numpy(), axis=1)
    ranks = dict(zip(names, by_block.mean(axis=0).tolist(), strict=True))
    no_test = None
    if count < 3:
        no_test = f"no test of {count} methods, which must be at least 3"
    elif blocks < 2:
        no_test = "no test of a single block"
    elif np.ptp(by_block, axis=1).max() == 0:
        no_test = "no test: all methods tie in every block"
    if no_test:
        return Friedman(math.nan, math.nan, blocks, ranks, note="; ".join([*notes, no_test]))
    statistic = scipy.stats.friedmanchisquare(*by_block.T).statistic
    p_value = permutation_p_value(by_block)
    against = {}
    if baseline in ranks and p_value < LEVEL:
        others = [name for name in names if name != baseline]
        alone = dict(zip(names, difference_p_values(by_block, names.index(baseline)), strict=True))
        against = dict(zip(others, holm(alone[name] for name in others).tolist(), strict=True))
    return Friedman(float(statistic), p_value, blocks, ranks, against, "; ".join(notes))


def permutation_p_value(ranks: np.ndarray) -> float:
    """Share of all ways to permute the ranks within their blocks that give a statistic of Friedman as large.

    Every way counts where methods and blocks are few; else as many as 20,000 random ones, and the observed one.

    Args:
        ranks: shape (blocks, methods); ties share the mean of their ranks.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)  # shared ranks are halves
    observed = np.square(doubled.sum(axis=0)).sum()  # the statistic rises with it alone, ties being what they are
    every = _every_sum(doubled)
    if every:
        sums, chances = every
        return min(1.0, float(chances[np.square(sums).sum(axis=1) >= observed].sum()))
    rng = np.random.default_rng(0)
    sums = rng.permuted(np.tile(doubled[:, None], (1, _DRAWN, 1)), axis=2).sum(axis=0)
    return (1 + np.count_nonzero(np.square(sums).sum(axis=1) >= observed)) / (1 + _DRAWN)


def _every_sum(doubled: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The rank sums, in rising order, that permutations within blocks can give, and their chances.

    Block by block: which method has which sum does not matter. None where there are too many.
    """
    blocks, methods = doubled.shape
    base = 2 * methods * blocks + 1
    if math.factorial(methods) > _ENUMERATED or base**methods >= 2**63:
        return None
    digits = base ** np.arange(methods)  # which make one integer of the sums
    orders = np.array(list(itertools.permutations(range(methods))))
    sums, chances = np.sort(doubled[:1]), np.ones(1)
    for block in doubled[1:]:
        if len(sums) * len(orders) > _ENUMERATED:
            return None
        reached = np.sort((sums[:, None] + block[orders]).reshape(-1, methods), axis=1)
        _, first, places = np.unique(reached @ digits, return_index=True, return_inverse=True)
        sums, chances = reached[first], np.bincount(places, np.repeat(chances, len(orders))) / len(orders)
    return sums, chances


def difference_p_values(ranks: np.ndarray, baseline: int) -> np.ndarray:
    """p-values of the differences of rank sums from a baseline's, two-sided and exact, shape (methods,).

    From the distribution of the difference of two methods where ranks are permuted within their blocks (Eisinga et al.,
    BMC Bioinformatics 18:68, 2017), with ties as they are.

    Args:
        ranks: shape (blocks, methods); ties share the mean of their ranks.
        baseline: its column.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)
    blocks, methods = doubled.shape
    chances = np.ones(1)
    for block in doubled:
        apart = np.subtract.outer(block, block)[~np.eye(methods, dtype=bool)]
        chances = np.convolve(chances, np.bincount(apart + 2 * methods, minlength=4 * methods + 1) / len(apart))
    differences = np.abs(np.arange(len(chances)) - 2 * methods * blocks)
    sums = doubled.sum(axis=0)
    return np.array([min(1.0, chances[differences >= seen].sum()) for seen in np.abs(sums - sums[baseline])])


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down procedure (1979), shape (n,)."""
    p = np.asarray(list(p_values), dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted
