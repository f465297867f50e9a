"""Statistics over seeds and settings: bootstrap intervals, correlations, Friedman's test with Holm's post-hoc, ranks.

Seeds are blocks: in one setting (dataset, noise, rate) the same seed gives every criterion the same training. Across
settings, settings are blocks. Smaller values are better, as gaps to the oracle are.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.stats

from lib.catalogue import noise_place
from lib.criteria import CRITERIA, LABELS, SETTING
from lib.stopping import smooth

LEVEL = 0.05
"""Level of every test; intervals cover one minus it."""
BASELINE = "prediction_changes"
"""Criterion that the others are compared with."""
QUANTITIES = ("test_accuracy", "gap", "epochs_late", "spent", "pearson", "kendall")
"""What is averaged over seeds: columns of `lib.criteria.stops` and `correlations`."""
_RESAMPLES = 2000


def intervals(samples: Sequence[Iterable[float]], seed: int = 0) -> np.ndarray:
    """Percentile bootstrap intervals of means, 95 %.

    With the three to five seeds that are usual they are narrower than they should be: resampling cannot show what no
    seed has shown.

    Args:
        samples: the values of each sample; samples may differ in length.
        seed: of the resampling.

    Returns:
        Lower and upper end for each sample, shape (samples, 2); NaN for fewer than two values.
    """
    arrays = [np.asarray(list(sample), dtype=float) for sample in samples]
    found = np.full((len(arrays), 2), np.nan)
    for size in {len(values) for values in arrays if len(values) > 1}:
        places = [i for i, values in enumerate(arrays) if len(values) == size]
        result = scipy.stats.bootstrap(
            (np.stack([arrays[i] for i in places]),),
            np.mean,
            axis=1,
            confidence_level=1 - LEVEL,
            n_resamples=_RESAMPLES,
            batch=100,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        found[places] = np.stack(result.confidence_interval, axis=1)
    return found


def correlations(performances: pd.DataFrame) -> pd.DataFrame:
    """Correlation of each smoothed signal with the test accuracy over the records of each run.

    Args:
        performances: table of `lib.runs.load`.

    Returns:
        A row a run and criterion: run, criterion, pearson, kendall (tau-b), in [-1, 1]; NaN where the signal or the
        accuracy is constant, or has fewer than two records.
    """
    rows = []
    columns = {name: performances[name].to_numpy() for name in performances.columns}
    for run, places in performances.groupby("run", sort=True, observed=True).indices.items():
        accuracy, window = columns["test_accuracy"][places], int(columns["window"][places[0]])
        asked = columns["criteria"][places[0]].split(",")
        for name in CRITERIA:
            if name in asked:
                found = correlation(smooth(columns[name][places], window), accuracy)
                rows.append({"run": run, "criterion": name, **found})
    return pd.DataFrame(rows, columns=["run", "criterion", "pearson", "kendall"])


def correlation(signal: np.ndarray, accuracy: np.ndarray) -> dict[str, float]:
    """Pearson's r and Kendall's tau-b where both are finite, shapes (n,); NaN where one of them is constant there."""
    both = np.isfinite(signal) & np.isfinite(accuracy)
    signal, accuracy = signal[both], accuracy[both]
    if both.sum() < 2 or np.ptp(signal) == 0 or np.ptp(accuracy) == 0:
        return {"pearson": math.nan, "kendall": math.nan}
    return {
        "pearson": float(np.corrcoef(signal, accuracy)[0, 1]),
        "kendall": kendall(signal, accuracy),
    }


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b of two series, shape (n,), neither constant.

    Pair by pair, which for the hundreds of records of a run is many times faster than a call of SciPy, and the same.
    """
    rises = [np.sign(np.subtract.outer(values, values)) for values in (x, y)]
    concordant, *pairs = (np.vdot(a, b) for a, b in ((rises[0], rises[1]), (rises[0],) * 2, (rises[1],) * 2))
    return float(concordant / math.sqrt(pairs[0] * pairs[1]))


@dataclass(frozen=True)
class Friedman:
    """Friedman's test (1937), corrected for ties, of methods over blocks.

    Attributes:
        statistic, p_value: chi-squared with (methods - 1) degrees of freedom; NaN where there can be no test.
        blocks: complete blocks that were compared.
        ranks: average rank of each method, 1 the best; ties share the mean of their ranks.
        against_baseline: Holm-adjusted p-value of each method but the baseline (z of the rank difference, two-sided;
            Demšar, JMLR 2006, section 3.2.2); empty without a baseline, or where the methods do not differ.
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
        """Difference of average ranks from which on two methods differ (Nemenyi; Demšar 2006, section 3.2.2)."""
        return critical_difference(len(self.ranks), self.blocks) if self.ranks else math.nan


def friedman(values: pd.DataFrame, baseline: str | None = BASELINE) -> Friedman:
    """Compare methods over blocks.

    Args:
        values: a row a block, a column a method, smaller is better. Methods without any value and blocks that lack
            one are left out; the note counts the blocks.
        baseline: method that the others are compared with.
    """
    methods = values.dropna(axis="columns", how="all")
    complete = methods.dropna()
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
    statistic, p_value = scipy.stats.friedmanchisquare(*complete.to_numpy().T)
    against = {}
    if baseline in ranks and p_value < LEVEL:
        others = [name for name in names if name != baseline]
        error = math.sqrt(count * (count + 1) / (6 * blocks))
        z = np.array([ranks[name] - ranks[baseline] for name in others]) / error
        against = dict(zip(others, holm(2 * scipy.stats.norm.sf(np.abs(z))).tolist(), strict=True))
    return Friedman(float(statistic), float(p_value), blocks, ranks, against, "; ".join(notes))


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down procedure (1979), shape (n,)."""
    p = np.asarray(list(p_values), dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def critical_difference(methods: int, blocks: int) -> float:
    """Nemenyi's critical difference of average ranks: q sqrt(k (k + 1) / 6 N), q the studentized range over sqrt 2."""
    q = scipy.stats.studentized_range.ppf(1 - LEVEL, methods, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * blocks)))


def in_settings(stops: pd.DataFrame, baseline: str = BASELINE) -> dict[tuple, Friedman]:
    """Friedman's test of the criteria's gaps in each setting, seeds as blocks.

    Args:
        stops: table of `lib.criteria.stops`; its references, oracle and end, are no methods and take no part.
        baseline: criterion that the others are compared with.

    Returns:
        The test of each setting, by the values of `lib.criteria.SETTING`.
    """
    found = {}
    for setting, rows in stops[stops["criterion"].isin(CRITERIA)].groupby(SETTING, sort=True, observed=True):
        gaps = rows.pivot_table("gap", "seed", "criterion", aggfunc="first", dropna=False, observed=True)
        found[setting] = friedman(gaps, baseline)
    return found


def across_settings(stops: pd.DataFrame, baseline: str = BASELINE) -> Friedman:
    """Friedman's test across settings: each a block, its values the gaps averaged over seeds.

    Args:
        stops: as for `in_settings`; criteria that do not occur in every setting are left out, and the note names them.
        baseline: criterion that the others are compared with.
    """
    methods = stops[stops["criterion"].isin(CRITERIA)]
    gaps = methods.groupby([*SETTING, "criterion"], observed=True)["gap"].mean().unstack("criterion")
    shared = gaps.dropna(axis="columns")
    found = friedman(shared, baseline)
    left_out = [LABELS[name] for name in gaps.columns if name not in shared]
    told = [found.note] if found.note else []
    if left_out:
        told.append(f"left out, as not in every setting: {', '.join(left_out)}")
    return Friedman(found.statistic, found.p_value, found.blocks, found.ranks, found.against_baseline, "; ".join(told))


def counts(summary: pd.DataFrame) -> tuple[int, pd.Series]:
    """Runs of a `summary`, and seeds of each of its settings."""
    settings = summary.assign(runs=summary["runs"] + summary["failed"]).groupby(SETTING, observed=True)
    return int(settings["runs"].max().sum()), settings["seeds"].max()


def summary(stops: pd.DataFrame, correlated: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """Every setting and criterion over seeds, with intervals and tests.

    Args:
        stops: table of `lib.criteria.stops`.
        correlated: table of `correlations` for the same runs.
        baseline: criterion that the others are compared with.

    Returns:
        A row a setting and criterion, in the order of `lib.criteria.LABELS`: the setting, criterion, seeds, runs (that
        the criterion stopped), failed (that it did not); of each of `QUANTITIES` mean, low and high (95 %; accuracy in
        %, gap in percentage points, epochs_late in epochs, spent in records); rank, winner, holm_p against the
        baseline, and of the setting's test friedman_p, blocks and note.
    """
    values = stops.assign(test_accuracy=100 * stops["test_accuracy"]).merge(
        correlated, on=["run", "criterion"], how="left"
    )
    rows, samples = [], []
    for key, group in values.groupby([*SETTING, "criterion"], sort=True, observed=True):
        stopped = group["record"].notna()
        rows.append(dict(zip([*SETTING, "criterion"], key, strict=True)) | {"runs": int(stopped.sum())})
        rows[-1] |= {"failed": int((~stopped).sum()), "seeds": group["seed"].nunique()}
        samples.append([group[quantity].dropna().to_numpy() for quantity in QUANTITIES])
    ends = intervals([sample for row in samples for sample in row]).reshape(len(rows), len(QUANTITIES), 2)
    found = in_settings(stops, baseline)
    for row, sample, (low, high) in zip(rows, samples, ends.transpose(0, 2, 1), strict=True):
        for i, quantity in enumerate(QUANTITIES):
            row[f"{quantity}_mean"] = sample[i].mean() if len(sample[i]) else math.nan
            row |= {f"{quantity}_low": low[i], f"{quantity}_high": high[i]}
        test = found.get(tuple(row[name] for name in SETTING), Friedman(math.nan, math.nan, 0))
        row |= {"rank": test.ranks.get(row["criterion"], math.nan), "winner": row["criterion"] in test.winners}
        row["holm_p"] = test.against_baseline.get(row["criterion"], math.nan)
        row |= {"friedman_p": test.p_value, "blocks": test.blocks, "note": test.note}
    places = {"criterion": {name: place for place, name in enumerate(LABELS)}.get, "noise": noise_place}
    return pd.DataFrame(rows).sort_values(
        [*SETTING, "criterion"],
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
        kind="stable",
        ignore_index=True,
    )
