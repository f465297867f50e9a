"""Statistics over seeds, settings and datasets: means and intervals, correlations, and what is tested.

In one setting (dataset, noise, rate) seeds are blocks: the same seed gives every criterion the same training. Settings
of one dataset share its samples and seeds and are no blocks of their own: across them each dataset is a block, and
intervals come from resampling the seeds of a dataset, each with all that it has. Smaller gaps to the oracle are better.

Few seeds are usual, so that beside means and ranks stand what Agarwal et al. (NeurIPS 2021) ask for: the interquartile
mean, and the probability of improvement.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from lib.catalogue import AVERAGE, noise_place
from lib.criteria import CRITERIA, LABELS, SETTING
from lib.stopping import smooth
from lib.study.ranks import BASELINE, LEVEL, Friedman, friedman

QUANTITIES = ("test_accuracy", "gap", "gap_average", "epochs_late", "spent", "pearson", "kendall", "improvement")
"""What is averaged over seeds: columns of `lib.criteria.stops` and `correlations`, and `improvement`."""
_BOOTSTRAP = {"confidence_level": 1 - LEVEL, "n_resamples": 2000, "batch": 200, "method": "percentile"}
Statistic = Callable[..., Any]
"""Of values along an `axis`."""


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean without the lowest and the highest quarter of the values, each rounded down; NaN are left out."""
    return scipy.stats.trim_mean(values, 0.25, axis=axis, nan_policy="omit")


def intervals(samples: Sequence[Iterable[float]], statistic: Statistic = np.mean, seed: int = 0) -> np.ndarray:
    """Percentile bootstrap intervals, 95 %.

    With the three to five seeds that are usual they are narrower than they should be: resampling cannot show what no
    seed has shown.

    Args:
        samples: the values of each sample; samples may differ in length.
        statistic: of the values along an `axis`.
        seed: of the resampling.

    Returns:
        Lower and upper end for each sample, shape (samples, 2); NaN for fewer than two values.
    """
    arrays = [np.asarray(list(sample), dtype=float) for sample in samples]
    found = np.full((len(arrays), 2), np.nan)
    for size in {len(values) for values in arrays if len(values) > 1}:
        places = [i for i, values in enumerate(arrays) if len(values) == size]
        alike, rng = np.stack([arrays[i] for i in places]), np.random.default_rng(seed)
        result = scipy.stats.bootstrap((alike,), statistic, axis=1, rng=rng, **_BOOTSTRAP)
        found[places] = np.stack(result.confidence_interval, axis=1)
    return found


def seed_interval(rows: pd.DataFrame, quantity: str, statistic: Statistic = np.nanmean) -> tuple[float, float]:
    """Percentile bootstrap interval, 95 %, of a statistic of all rows, which resamples the seeds of each dataset.

    Datasets are strata; with a seed of a dataset all its rows are drawn, as they are not independent.

    Args:
        rows: a row a run, with columns dataset, seed and the quantity; NaN are left out.
        quantity: a column.
        statistic: of values along an `axis`, which leaves NaN out.

    Returns:
        Lower and upper end; NaN where a dataset has fewer than two seeds.
    """
    known = rows.dropna(subset=quantity)
    numbered = known.assign(place=known.groupby(["dataset", "seed"], observed=True).cumcount())
    strata = [
        dataset.pivot(index="seed", columns="place", values=quantity).to_numpy()
        for _, dataset in numbered.groupby("dataset", observed=True)
    ]
    if min((len(stratum) for stratum in strata), default=0) < 2:
        return math.nan, math.nan

    def of_drawn(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        values = [stratum[seeds].reshape(*seeds.shape[:-1], -1) for stratum, seeds in zip(strata, drawn, strict=True)]
        return statistic(np.concatenate(values, axis=-1), axis=axis)

    seeds, rng = [np.arange(len(stratum)) for stratum in strata], np.random.default_rng(0)
    return tuple(scipy.stats.bootstrap(seeds, of_drawn, vectorized=True, rng=rng, **_BOOTSTRAP).confidence_interval)


def correlations(performances: pd.DataFrame) -> pd.DataFrame:
    """Correlation of each signal with the test accuracy over the records of each run, both smoothed by its window.

    Args:
        performances: table of `lib.runs.load`.

    Returns:
        A row a run and criterion: run, criterion, pearson, kendall (tau-b), in [-1, 1]; NaN where the signal or the
        accuracy is constant, or has fewer than two records.
    """
    rows = []
    columns = {name: performances[name].to_numpy() for name in performances.columns}
    for run, places in performances.groupby("run", sort=True, observed=True).indices.items():
        window = int(columns["window"][places[0]])
        accuracy = smooth(columns["test_accuracy"][places], window)
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
        "kendall": float(scipy.stats.kendalltau(signal, accuracy).statistic),
    }


def improvement(stops: pd.DataFrame, baseline: str = BASELINE) -> pd.Series:
    """Whether each stop leaves fewer points than the baseline's of the same training: 1, 1/2 where equal, or 0.

    Its mean is the probability of improvement, in pairs, as the same run is behind both. NaN for the baseline itself,
    and where one of the two chose no record.

    Args:
        stops: table of `lib.criteria.stops`.
        baseline: criterion that the others are compared with.
    """
    of_baseline = stops["run"].map(stops[stops["criterion"] == baseline].set_index("run")["gap"])
    return ((1 + np.sign(of_baseline - stops["gap"])) / 2).where(stops["criterion"] != baseline)


def in_settings(stops: pd.DataFrame) -> dict[tuple[str, str, float], Friedman]:
    """Friedman's test of the criteria's gaps in each setting, seeds as blocks, by the values of `SETTING`.

    Args:
        stops: table of `lib.criteria.stops`; its references, oracle and end, are no methods and take no part.
    """
    found = {}
    for setting, rows in stops[stops["criterion"].isin(CRITERIA)].groupby(SETTING, sort=True, observed=True):
        gaps = rows.pivot_table("gap", "seed", "criterion", aggfunc="first", dropna=False, observed=True)
        found[setting] = friedman(gaps)
    return found


def across_datasets(stops: Mapping[str, pd.DataFrame]) -> Friedman:
    """Friedman's test across datasets, each a block: its values are the ranks of mean gaps, averaged over its settings.

    What is kept makes a method of its own: beside each criterion, whose gap is that of the snapshot, stands the one
    that keeps the average of the weights there, its name ending in `lib.catalogue.AVERAGE`.

    Args:
        stops: as for `in_settings`, of each study by its name; criteria that do not occur in every setting are left
            out, and the note names them.
    """
    snapshots = _joined(stops).loc[lambda table: table["criterion"].isin(CRITERIA)]
    averages = snapshots.assign(criterion=snapshots["criterion"] + AVERAGE, gap=snapshots["gap_average"])
    methods = pd.concat([snapshots, averages.dropna(subset="gap")])
    gaps = methods.groupby(["study", *SETTING, "criterion"], observed=True)["gap"].mean().unstack("criterion")
    shared = gaps.dropna(axis="columns")
    found = friedman(shared.rank(axis="columns").groupby("dataset", observed=True).mean())
    left_out = ", ".join(LABELS[name] for name in gaps.columns if name not in shared)
    told = [found.note, f"left out, as not in every setting: {left_out}" if left_out else ""]
    return replace(found, note="; ".join(note for note in told if note))


def over_runs(stops: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every criterion over all runs of all studies, datasets being strata whose seeds are resampled.

    Args:
        stops: table of `lib.criteria.stops` of each study by its name.

    Returns:
        A row a criterion, which is the index: gap_iqm, interquartile mean of the gaps in points; improvement,
        probability of improvement over the baseline; of each low and high (95 %). Runs that it did not stop are left
        out.
    """
    joined = _joined(stops).assign(improvement=improvement)
    rows: dict[str, dict[str, float]] = {}
    for criterion, of_runs in joined.groupby("criterion", sort=False, observed=True):
        rows[criterion] = {}
        for name, quantity, statistic in (
            ("gap_iqm", "gap", interquartile_mean),
            ("improvement", "improvement", np.nanmean),
        ):
            known, (low, high) = of_runs[quantity].dropna(), seed_interval(of_runs, quantity, statistic)
            value = float(statistic(known)) if len(known) else math.nan
            rows[criterion] |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _joined(stops: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(study=study) for study, table in stops.items()], ignore_index=True)


def counts(summary: pd.DataFrame) -> tuple[int, pd.Series]:
    """Runs of a `summary`, and seeds of each of its settings."""
    settings = summary.assign(runs=summary["runs"] + summary["failed"]).groupby(SETTING, observed=True)
    return int(settings["runs"].max().sum()), settings["seeds"].max()


def over_seeds(stops: pd.DataFrame, keys: list[str], quantities: Sequence[str]) -> pd.DataFrame:
    """Means of stops over seeds, with their `intervals`.

    Args:
        stops: table of `lib.criteria.stops`, with further columns where keys and quantities name them.
        keys: columns that tell apart what is averaged; the table is sorted by them, criteria as in
            `lib.criteria.LABELS`.
        quantities: columns that are averaged.

    Returns:
        A row a group: keys, runs (that the criterion stopped), failed (that it did not), fallback (of the runs those in
        which a maximum was looked for in a signal that never rose), seeds; of each quantity mean,
        low and high; gap_iqm, the `interquartile_mean` of the gaps, with its low and high. NaN without a value.
    """
    groups = stops.groupby(keys, observed=True)
    table = groups.agg(runs=("record", "count"), failed=("record", lambda record: record.isna().sum()))
    table["fallback"] = groups["fallback"].sum()
    table["seeds"] = groups["seed"].nunique()
    averages: list[tuple[str, str, str, Statistic]] = [(f"{name}_mean", name, name, np.mean) for name in quantities]
    for column, stem, quantity, statistic in [*averages, ("gap_iqm", "gap_iqm", "gap", interquartile_mean)]:
        samples = [values.dropna().to_numpy() for _, values in groups[quantity]]
        table[column] = [statistic(sample) if len(sample) else math.nan for sample in samples]
        table[[f"{stem}_low", f"{stem}_high"]] = intervals(samples, statistic)
    places = {"criterion": list(LABELS).index, "noise": noise_place}
    return table.reset_index().sort_values(
        keys,
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
        kind="stable",
        ignore_index=True,
    )


def summary(stops: pd.DataFrame, correlated: pd.DataFrame) -> pd.DataFrame:
    """Every setting and criterion over seeds, with intervals and tests.

    Args:
        stops: table of `lib.criteria.stops`.
        correlated: table of `correlations` for the same runs.

    Returns:
        The table of `over_seeds` by setting and criterion, of `QUANTITIES` (accuracy in %, gap in percentage points,
        epochs_late in epochs, spent in records), with rank, winner (best rank where the criteria differ, never where a
        stop is a fallback), winner_published (highest mean accuracy there, as CND's paper has it), holm_p against the
        baseline, and of the setting's test friedman_p, blocks and note.
    """
    values = stops.assign(test_accuracy=100 * stops["test_accuracy"], improvement=improvement(stops))
    values = values.merge(correlated, on=["run", "criterion"], how="left")
    table = over_seeds(values, [*SETTING, "criterion"], QUANTITIES)
    found, untested = in_settings(stops), Friedman(math.nan, math.nan, 0)
    tests = [found.get(setting, untested) for setting in table[SETTING].itertuples(index=False, name=None)]
    told = [
        {
            "rank": test.ranks.get(name, math.nan),
            "winner": name in test.winners and not fallback,
            "holm_p": test.against_baseline.get(name, math.nan),
            "friedman_p": test.p_value,
            "blocks": test.blocks,
            "note": test.note,
        }
        for name, fallback, test in zip(table["criterion"], table["fallback"], tests, strict=True)
    ]
    table = table.join(pd.DataFrame(told))
    significant = (table["friedman_p"] < LEVEL) & table["criterion"].isin(CRITERIA)
    highest = table.where(significant).groupby(SETTING, observed=True)["test_accuracy_mean"].transform("max")
    return table.assign(winner_published=significant & (table["test_accuracy_mean"] == highest))
