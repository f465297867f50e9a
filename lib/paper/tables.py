"""Tables of the paper: what stands in them, and how they are captioned."""

import math

import pandas as pd

from lib.catalogue import AVERAGE, noise_title
from lib.criteria import LABELS, ORACLE
from lib.paper.printing import Cell, Estimate, plain
from lib.study.baselines import name_of
from lib.study.ranks import BASELINE, LEVEL, Friedman
from lib.study.statistics import counts

HEADINGS = {
    "test_accuracy": ("Test accuracy (%)", 1),
    "gap": ("Gap to oracle (points)", 1),
    "gap_average": ("Gap, average kept (points)", 1),
    "gap_iqm": ("Its interquartile mean", 1),
    "improvement": (f"P (better than {LABELS[BASELINE]})", 2),
    "epochs_late": ("Epochs after oracle", 1),
    "spent": ("Records spent", 0),
    "pearson": ("Pearson r", 2),
    "kendall": ("Kendall τ", 2),
}
"""What a table shows of each criterion: its heading and the digits after the point."""
_AVERAGE_KEPT = ", average kept"
_KEPT = {"": "", _AVERAGE_KEPT: AVERAGE}


def criteria(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary of one study as it is printed: a row a noise and criterion, each noise named once."""
    tested: dict[str, list[Cell]] = {
        "Rank": [plain(rank, 1) for rank in summary["rank"]],
        "Holm p": [plain(p, 3) for p in summary["holm_p"]],
    }
    return _by_criterion(summary, HEADINGS, tested)


def stops(kept: pd.DataFrame) -> pd.DataFrame:
    """Where the criteria stop a study without a test set: `lib.study.results.Result.kept` as it is printed."""
    return _by_criterion(kept, {"epoch": ("Epoch kept", 1), "spent": HEADINGS["spent"]}, {})


def _by_criterion(
    averaged: pd.DataFrame, headings: dict[str, tuple[str, int]], further: dict[str, list[Cell]]
) -> pd.DataFrame:
    """A table of `lib.study.statistics.over_seeds`, with some more columns before that of runs."""
    printed: dict[str, list[Cell]] = {
        "Noise": [noise_title(*pair) for pair in zip(averaged["noise"], averaged["noise_rate"], strict=True)],
        "Criterion": [LABELS[name] for name in averaged["criterion"]],
    }
    for quantity, (heading, digits) in headings.items():
        printed[heading] = [_cell(row, quantity, digits) for _, row in averaged.iterrows()]
    printed |= further
    printed["Runs"] = [
        (f"{runs} of {runs + failed}" if failed else str(runs)) + (f", {never} never rose" if never else "")
        for runs, failed, never in zip(averaged["runs"], averaged["failed"], averaged["fallback"], strict=True)
    ]
    return _named_once(pd.DataFrame(printed))


def gaps(summary: pd.DataFrame) -> pd.DataFrame:
    """Gaps of one study at a glance: a row a criterion, a column a noise, the test of each below."""
    columns: dict[str, dict[str, Cell]] = {}
    for (noise, rate), setting in summary[summary["criterion"] != ORACLE].groupby(["noise", "noise_rate"], sort=False):
        cells = {LABELS[row["criterion"]]: _cell(row, "gap", 1) for _, row in setting.iterrows()}
        columns[noise_title(noise, rate)] = cells | {"Friedman p": plain(setting["friedman_p"].iloc[0], 3)}
    table = pd.DataFrame(columns).fillna("").rename_axis("Criterion")
    return table.loc[[*(name for name in table.index if name != "Friedman p"), "Friedman p"]].reset_index()


def overall(summaries: dict[str, pd.DataFrame], across: Friedman, over_runs: pd.DataFrame) -> pd.DataFrame:
    """All studies in numbers: the mean gap of each criterion in each, and its average rank across datasets.

    Args:
        summaries: table of `lib.study.statistics.summary` of each study, by its name.
        across: `lib.study.statistics.across_datasets` of all their stops.
        over_runs: table of `lib.study.statistics.over_runs` for them.

    Returns:
        A row a criterion: criterion, its mean gap in points over the settings of each study where the snapshot is kept,
        and where the average of the weights is, gap_iqm and improvement with their ends, settings won, average rank and
        Holm p against the baseline where either is kept.
    """
    everything = pd.concat(summaries.values())
    columns = {}
    for study, summary in summaries.items():
        gaps = summary.groupby("criterion", observed=True)[["gap_mean", "gap_average_mean"]].mean()
        columns[study] = gaps["gap_mean"]
        if gaps["gap_average_mean"].notna().any():
            columns[study + _AVERAGE_KEPT] = gaps["gap_average_mean"]
    columns |= dict(over_runs.items())
    columns["settings won"] = everything.groupby("criterion", observed=True)["winner"].sum()
    table = pd.DataFrame(columns)
    for heading, values in (("average rank", across.ranks), ("Holm p", across.against_baseline)):
        for told, kept in _KEPT.items():
            of_kept = {name: values[name + kept] for name in table.index if name + kept in values}
            table[heading + told] = pd.Series(of_kept, dtype=float)
    order = [name for name in LABELS if name in table.index and name != ORACLE]
    return table.loc[order].rename_axis("criterion").reset_index()


def overall_printed(table: pd.DataFrame, across: Friedman) -> pd.DataFrame:
    """The table of `overall` as it is printed: a row a criterion with the snapshot kept, one with the average kept."""
    gaps = table.columns[1 : table.columns.get_loc("gap_iqm")]
    studies = [study for study in gaps if not study.endswith(_AVERAGE_KEPT)]
    rows = []
    for _, row in table.iterrows():
        for told, kept in _KEPT.items():
            rank = plain(row[f"average rank{told}"], 2)
            cells: dict[str, Cell] = {"Criterion": LABELS[row["criterion"]], "Kept": "average" if told else "snapshot"}
            cells |= {study: plain(row.get(study + told, math.nan), 1) for study in studies}
            cells["Average rank"] = Estimate(rank, best=True) if row["criterion"] + kept in across.winners else rank
            cells["Holm p"] = plain(row[f"Holm p{told}"], 3)
            if not told:
                cells["Interquartile mean"] = Estimate.of(row, "gap_iqm", 1)
                heading, digits = HEADINGS["improvement"]
                cells[heading] = Estimate.of(row, "improvement", digits)
                cells["Settings won"] = plain(row["settings won"], 0)
            if not told or any(list(cells.values())[2:]):
                rows.append(cells)
    return _named_once(pd.DataFrame(rows).fillna(""))


def criteria_caption(summary: pd.DataFrame, study: str, source: str) -> str:
    """What a table of one study shows, with the number of runs and seeds and the source of the data."""
    tested = "no setting can be tested" if summary["friedman_p"].isna().all() else "bold where criteria differ"
    notes = "; ".join(dict.fromkeys(note for note in summary["note"] if note))
    return (
        f"{study}: {_seeds(summary)}; means over seeds with bootstrap 95 % intervals. Best average rank of gaps: "
        f"{tested} (Friedman by permutation, seeds as blocks, p < {LEVEL}); Holm-adjusted exact p against "
        f"{LABELS[BASELINE]}. The interquartile mean of fewer than four seeds is their mean. P (better): share of the "
        f"runs in which a smaller gap is left than by {LABELS[BASELINE]}, "
        "equal ones by half. Gap, average kept: points below the oracle of snapshots where the moving average of the "
        "weights is kept; negative is better than any snapshot. Never rose: runs in which a maximum was looked for in "
        f"a signal that only fell, so that what is kept is no choice.{f' Note: {notes}.' if notes else ''} No "
        "correlation is given where a signal is constant. The oracle is an upper bound, not a method. Data: "
        f"{source}."
    )


def stops_caption(kept: pd.DataFrame, study: str, source: str) -> str:
    """What the stops of a study without a test set show."""
    return (
        f"{study}: the epoch that each criterion keeps and the records that are trained to know it, {_seeds(kept)}; "
        "means over seeds with bootstrap 95 % intervals. Never rose: runs in which a maximum was looked for in a "
        "signal that only fell, so that what is kept is no choice. Left out: test accuracy, oracle, gaps, ranks and "
        f"correlations, which need a test set. Data: {source}."
    )


def gaps_caption(summary: pd.DataFrame, study: str) -> str:
    """What the gaps at a glance show."""
    return (
        f"{study}: points below the oracle, means over seeds with bootstrap 95 % intervals, {_seeds(summary)}; bold: "
        f"best average rank where criteria differ (Friedman by permutation, seeds as blocks, p < {LEVEL})."
    )


def ablation(changed: pd.DataFrame) -> pd.DataFrame:
    """The table of `lib.study.ablation.table` as it is printed."""
    printed: dict[str, list[Cell]] = {
        "Choice": changed["choice"].tolist(),
        "Value": [str(value) for value in changed["value"].fillna("")],
    }
    for column, heading in (("gap", "Gap to oracle (points)"), ("difference", "Difference to the study (points)")):
        printed[heading] = [Estimate.of(row, column, 1) for _, row in changed.iterrows()]
    printed["Runs"] = [str(runs) for runs in changed["runs"]]
    return _named_once(pd.DataFrame(printed))


def ablation_caption(changed: pd.DataFrame, study: str, seeds: int) -> str:
    """What the ablation shows."""
    return (
        f"{study}: CND with one choice changed at a time, everything else as in the study; average epochs: the average "
        "of the weights, kept where the consensus stops, against the oracle of snapshots. Means over runs of all "
        f"noises and seeds with bootstrap 95 % intervals, which resample seeds with all their noises; differences on "
        f"the same {_span(changed['runs'])} runs of up to {seeds} seed{'s' * (seeds != 1)}. What is best here was "
        "found on test data: no choice was made by it."
    )


def baselines(held_out: pd.DataFrame) -> pd.DataFrame:
    """The table of `lib.study.baselines.table` as it is printed: a row a way of stopping, a column a noise."""
    rows: dict[str, dict[str, Cell]] = {}
    for _, row in held_out.iterrows():
        noise = noise_title(row["noise"], row["noise_rate"])
        rows.setdefault(name_of(row["criterion"], row["held_out"]), {})[noise] = Estimate.of(row, "test_accuracy", 1)
    return pd.DataFrame([{"Stopped by": name, **cells} for name, cells in rows.items()]).fillna("")


def baselines_caption(held_out: pd.DataFrame, study: str) -> str:
    """What the baselines show."""
    return (
        f"{study}: test accuracy in % at the stop, means over {_span(held_out['runs'])} seeds with bootstrap 95 % "
        "intervals. Baselines on held-out data train on what is left; the others on everything, with the same noises "
        "and seeds."
    )


def overall_caption(summaries: dict[str, pd.DataFrame], across: Friedman) -> str:
    """What the overall table shows."""
    counted = {study: counts(summary) for study, summary in summaries.items()}
    runs, seeds = sum(runs for runs, _ in counted.values()), pd.concat([seeds for _, seeds in counted.values()])
    largest = max(counted, key=lambda study: counted[study][0])
    share = f"{100 * counted[largest][0] / runs:.0f} % of them of {largest}"
    test = f"; Friedman p = {across.p_value:.3g} by permutation, exact Holm-adjusted p against {LABELS[BASELINE]}"
    told = "" if pd.isna(across.p_value) else test
    datasets = "1 dataset" if across.blocks == 1 else f"{across.blocks} datasets"
    note = f" Note: {across.note}." if across.note else ""
    return (
        f"All studies, {runs} runs, {_span(seeds)} seeds in a setting: points below the oracle, averaged over the "
        f"settings of each study, with the snapshot of a stop kept and with the average of the weights there; average "
        f"rank over {datasets}, 1 the best, of all criteria with either kept{told} (settings of one dataset share its "
        f"samples and seeds, and are one block); interquartile mean of the points over all runs, {share}, and share of "
        f"them in which a smaller gap is left than by {LABELS[BASELINE]}, with bootstrap 95 % intervals that resample "
        f"the seeds of each dataset, all settings of a seed together; settings won: of best rank, ties too, where "
        f"Friedman's test is significant, which need not differ from the second.{note}"
    )


def _span(counts: pd.Series) -> str:
    """The smallest and the largest of some counts, or the one that they are."""
    return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def _seeds(summary: pd.DataFrame) -> str:
    """How many runs and seeds a summary is of."""
    runs, of_setting = counts(summary)
    seeds = _span(of_setting)
    return f"{runs} run{'' if runs == 1 else 's'}, {seeds} seed{'' if seeds == '1' else 's'} for each noise"


def _cell(row: pd.Series, quantity: str, digits: int) -> Cell:
    if row["runs"] == 0:
        return "no stop"
    return Estimate.of(row, quantity, digits, best=quantity == "gap" and row["winner"])


def _named_once(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which the first cell of each group of rows alone is filled."""
    first = table.iloc[:, 0]
    table.iloc[:, 0] = first.where(first != first.shift(), "")
    return table
