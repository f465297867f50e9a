"""Sentences of the report around its numbers, so that no text outlives the results that it tells of."""

import pandas as pd

from lib.catalogue import DATASETS, noise_title
from lib.criteria import CRITERIA, END, LABELS, ORACLE
from lib.paper.diagrams import cnd_shape
from lib.study.baselines import HELD_OUT
from lib.study.results import Result, Results
from lib.study.statistics import LEVEL, Friedman, counts


def number(count: int, what: str) -> str:
    """A count with its noun."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(names: list[str]) -> str:
    """Names joined by commas and "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def abstract(results: Results, across: Friedman) -> str:
    """What was done and what came out."""
    settings = sum(len(result.summary.groupby(["noise", "noise_rate"])) for result in results.studies)
    runs, more = (frame["run"].nunique() for frame in (results.own_runs, results.runs))
    further = f" (and {number(more - runs, 'run')} for ablations and baselines)" if more > runs else ""
    told = (
        f"We train networks to the end on {listed([result.study.title for result in results.studies])}, "
        f"{number(runs, 'run')} in {number(settings, 'setting')} of label noise{further}, and ask afterwards where "
        "each criterion would have stopped. "
    )
    return told + ranking(across) + " " + cost(results)


def ranking(across: Friedman) -> str:
    """What the average ranks across datasets say."""
    if not across.ranks:
        return "No criterion chose a record in every setting, so that none can be ranked across datasets."
    order = sorted(across.ranks.items(), key=lambda item: item[1])
    ranked = listed([f"{LABELS[name]} ({rank:.2f})" for name, rank in order])
    told = f"Average ranks of the gap to the oracle over {number(across.blocks, 'dataset')}, 1 the best, are {ranked}"
    if pd.isna(across.p_value):
        return f"{told}; too little to be tested."
    if not across.significant:
        return f"{told}; these differences are not significant (Friedman p = {across.p_value:.2g})."
    test = f"Friedman p = {across.p_value:.2g}, critical difference {across.critical_difference:.2f}"
    return f"{told}; the criteria differ ({test})."


def cost(results: Results) -> str:
    """What not stopping costs, and what CND costs, in the study where most is at stake."""
    worst = max(results.studies, key=lambda result: _mean_gaps(result).get(END, 0.0))
    gaps = _mean_gaps(worst)
    best = min((name for name in gaps.index if name in CRITERIA), key=gaps.get, default=None)
    told = f"Training to the end costs up to {gaps[END]:.1f} points (mean over the settings of {worst.study.title})"
    if best is None:
        return f"{told}."
    cnd = f"; CND leaves {gaps['cnd']:.1f}" if "cnd" in gaps and best != "cnd" else ""
    return f"{told}; the best criterion there, {LABELS[best]}, leaves {gaps[best]:.1f}{cnd}."


def _mean_gaps(result: Result) -> pd.Series:
    return result.summary.groupby("criterion", observed=True)["gap_mean"].mean().dropna()


def findings(result: Result) -> str:
    """What a study shows: mean gaps, where criteria differ, who wins, who fails."""
    gaps, summary = _mean_gaps(result), result.summary
    shown = listed([f"{LABELS[name]} {gaps[name]:.1f}" for name in LABELS if name in gaps and name != ORACLE])
    told = f"Points below the oracle, averaged over the settings: {shown}. "
    tests = summary.groupby(["noise", "noise_rate"], observed=True).first()
    significant = tests[tests["friedman_p"] < LEVEL]
    untested = int(tests["friedman_p"].isna().sum())
    if untested == len(tests):
        notes = listed(list(dict.fromkeys(tests["note"])))
        told += f"No difference can be tested ({notes}). " if notes else "No difference can be tested. "
    else:
        tested = number(len(tests) - untested, "tested setting")
        told += f"Criteria differ in {len(significant)} of {tested} (Friedman, p < {LEVEL})"
        won = summary[summary["winner"]]
        counts = won["criterion"].value_counts()
        told += (
            f"; best ranked there: {listed([f'{LABELS[name]} ({count})' for name, count in counts.items()])}. "
            if len(won)
            else ". "
        )
    failed = summary[summary["failed"] > 0]
    if len(failed):
        cases = [
            f"{LABELS[row['criterion']]} in {noise_title(row['noise'], row['noise_rate'])} ({row['failed']} of "
            f"{row['runs'] + row['failed']} runs)"
            for _, row in failed.iterrows()
        ]
        told += f"No record could be chosen by {listed(cases)}. "
    return told.strip()


def held_out(compared: pd.DataFrame) -> str:
    """What early stopping on held-out data ends with, beside CND, which holds nothing out.

    Args:
        compared: table of `lib.study.baselines.table`; not empty.
    """
    means = compared.groupby(["held_out", "criterion"])["test_accuracy_mean"].mean()
    settings = len(compared.groupby(["noise", "noise_rate"]))
    told = []
    for share in sorted(set(compared["held_out"]) - {0.0}):
        ends = [
            f"{means[share, name]:.1f} % with {labels}" for name, labels in HELD_OUT.items() if (share, name) in means
        ]
        told.append(f"with {100 * share:g} % held out at {listed(ends)}")
    beside = {"cnd": "CND, which trains on everything, at", END: "no stopping at", ORACLE: "the oracle at"}
    told += [f"{words} {means[0.0, name]:.1f} %" for name, words in beside.items() if (0.0, name) in means]
    return f"Test accuracy, averaged over {number(settings, 'setting')}, ends {listed(told)}."


def fewest_seeds(results: Results) -> int:
    """The smallest number of seeds of any setting."""
    return int(min(counts(result.summary)[1].min() for result in results.studies))


def data_limits(results: Results) -> list[str]:
    """Which studies come from re-encoded or reduced data, or from elsewhere; a line each."""
    told = []
    for result in results.studies:
        for source in dict.fromkeys(result.study.runs["source"].astype(str)):
            if any(word in source for word in ("re-encoded", "reduced:", "imported")):
                told.append(f"**{result.study.title}**: {source}.")
    return told


def not_asked(results: Results) -> list[str]:
    """What the runs that are there cannot show, in words."""
    told = []
    kinds = {noise for result in results.studies for noise in result.study.runs["noise"].unique()}
    human = kinds - {"none", "symmetric", "pair", "instance"}
    absent = [kind for kind in ("symmetric", "pair", "instance") if kind not in kinds] + ([] if human else ["human"])
    if absent:
        told.append(f"No run has {listed(absent)} noise.")
    for result in results.studies:
        lacks = _lacks(result)
        if lacks:
            told.append(f"{result.study.title}: {listed(lacks)}.")
    return told


def _lacks(result: Result) -> list[str]:
    """What a study lacks of rates, baselines and ablations."""
    runs, variants = result.study.runs, [variant.changed for variant in result.study.variants]
    rates = runs.loc[runs["noise"] == "symmetric", "noise_rate"]
    lacks = [f"no symmetric noise above {100 * rates.max():g}%"] if len(rates) and rates.max() < 0.9 else []
    if not any("validation_share" in changed for changed in variants):
        lacks.append("no baseline on held-out data")
    if not any(changed and "validation_share" not in changed for changed in variants):
        lacks.append("no other estimator, filter, weights or bins")
    return lacks


def departures(results: Results) -> str:
    """Where patience, window and quantile are the published ones, and where not."""
    published, others = [], []
    for result in results.studies:
        runs = result.study.runs
        known = _published(runs["dataset"].iloc[0])
        own = tuple(runs[name].iloc[0] for name in ("patience", "window", "cnd_quantile"))
        told = f"{result.study.title} ({own[0]}, {own[1]}, {own[2]:g})"
        (published if own == known else others).append(told)
    text = "Patience and window in records, and CND quantile, are the same for every noise of a study"
    if published:
        text += f"; they are those published for {listed(published)}"
    if others:
        text += f"; none are published for, or others are used on, {listed(others)}"
    return f"{text}."


def _published(dataset: str) -> tuple | None:
    return DATASETS[dataset].published if dataset in DATASETS else None


def high_rates(result: Result, classes: int) -> str:
    """What becomes of CND as the rate of symmetric noise rises; empty where there are not several rates.

    Args:
        result: of a study.
        classes: K, their number.
    """
    cnd = result.summary[(result.summary["noise"] == "symmetric") & (result.summary["criterion"] == "cnd")]
    rows, shape = cnd.set_index("noise_rate"), cnd_shape(result.study.runs).set_index("noise_rate")
    if len(rows) < 2 or shape.empty:
        return ""
    told = (
        f"Points that CND leaves below the oracle: {_by_rate(rows['gap_mean'], 1)}. Kendall's τ with test accuracy: "
        f"{_by_rate(rows['kendall_mean'], 2)}. Share of runs, in %, in which CND is highest at its first smoothed "
        f"record: {_by_rate(100 * shape['at_once'], 0)}; at its last: {_by_rate(100 * shape['to_the_end'], 0)}."
    )
    if classes and rows.index.max() >= 1 - 1 / classes - 1e-9:
        told += (
            f" At {100 * (1 - 1 / classes):g}% of {classes} classes the right label is given as often as any other: "
            "nothing can be learned."
        )
    return told


def _by_rate(values: pd.Series, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f} at {100 * rate:g}%" for rate, value in values.items())
