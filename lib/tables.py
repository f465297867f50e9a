"""Tables of the paper: criteria against noise, as CSV for machines, LaTeX for papers, HTML for the report."""

from pathlib import Path

import pandas as pd

from lib.criteria import LABELS, SETTING
from lib.runs import file_stem

COLUMNS = {
    "test_accuracy": "Test accuracy (%)",
    "gap": "Gap to oracle (points)",
    "epoch": "Epoch kept",
    "spent_epochs": "Epochs trained",
}
"""What a table shows of each criterion, and how it is headed."""


_HUMAN = {
    "worse_label": "CIFAR-10N worse",
    "aggre_label": "CIFAR-10N aggregate",
    "random_label1": "CIFAR-10N random 1",
    "random_label2": "CIFAR-10N random 2",
    "random_label3": "CIFAR-10N random 3",
    "noisy_label": "CIFAR-100N fine",
    "noisy_coarse_label": "CIFAR-100N coarse",
}


def noise_name(noise: str, rate: float) -> str:
    """How tables and figures call a kind and rate of noise."""
    if noise == "none":
        return "clean labels"
    return _HUMAN.get(noise) or f"{noise} {100 * rate:g}%"


def sources(runs: pd.DataFrame) -> str:
    """Where the data of some runs is from: every source, with the realised noise where it is not the rate asked for.

    Args:
        runs: table of `lib.runs.load`, one study.
    """
    told = "; ".join(dict.fromkeys(runs["source"]))
    realised = runs[runs["noise"].isin(["instance", *_HUMAN])] if "realised_noise_rate" in runs else runs[:0]
    rates = [
        f"{noise_name(*key)} {100 * rate:.1f}%"
        for key, rate in realised.groupby(["noise", "noise_rate"])["realised_noise_rate"].mean().items()
    ]
    return f"{told}; realised noise: {', '.join(rates)}" if rates else told


def summary(stops: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, criterion by criterion.

    Args:
        stops: table of `lib.criteria.stops`.

    Returns:
        A row a setting and criterion, in the order of `lib.criteria.LABELS`: dataset, noise, noise_rate, criterion,
        runs (that the criterion stopped), failed (that it did not), and mean and std (n - 1; NaN for one run) of
        test_accuracy (%), gap (percentage points), epoch and spent_epochs.
    """
    values = stops.assign(test_accuracy=100 * stops["test_accuracy"])
    grouped = values.groupby([*SETTING, "criterion"], sort=True)
    table = grouped[list(COLUMNS)].agg(["mean", "std"])
    table.columns = ["_".join(column) for column in table.columns]
    table.insert(0, "runs", grouped["record"].count())
    table.insert(1, "failed", grouped.size() - table["runs"])
    order = {name: position for position, name in enumerate(LABELS)}
    table = table.reset_index().sort_values(
        [*SETTING, "criterion"],
        key=lambda column: column.map(order) if column.name == "criterion" else column,
    )
    return table.reset_index(drop=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A summary of one study as it is printed: a row a criterion, each noise named once, "mean ± std" in each cell."""

    def cell(row: pd.Series, column: str) -> str:
        if row["runs"] == 0:
            return "no stop"
        spread = "" if pd.isna(row[f"{column}_std"]) else f" ± {row[f'{column}_std']:.1f}"
        return f"{row[f'{column}_mean']:.1f}{spread}"

    printed = pd.DataFrame(
        {
            "Noise": [noise_name(*pair) for pair in zip(table["noise"], table["noise_rate"], strict=True)],
            "Criterion": table["criterion"].map(LABELS),
            **{heading: table.apply(cell, axis=1, column=column) for column, heading in COLUMNS.items()},
            "Runs": [
                str(runs) if not failed else f"{runs} of {runs + failed}"
                for runs, failed in zip(table["runs"], table["failed"], strict=True)
            ],
        }
    )
    repeated = (printed["Noise"] == printed["Noise"].shift()).to_numpy()
    printed.loc[repeated, "Noise"] = ""
    return printed


def write(table: pd.DataFrame, study: str, source: str, folder: Path) -> list[Path]:
    """Write the summary of one study as CSV and as a LaTeX table (booktabs); returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    csv, tex = (folder / f"criteria_{file_stem(study)}{suffix}" for suffix in (".csv", ".tex"))
    table.to_csv(csv, index=False, float_format="%.6g")
    printed = readable(table)
    latex = printed.to_latex(
        index=False,
        escape=True,
        column_format="ll" + "r" * (printed.shape[1] - 2),
        caption=caption(table, study, source).replace("%", r"\%").replace("_", r"\_").replace("&", r"\&"),
        label=f"tab:criteria-{file_stem(study)}",
        position="t",
    ).replace("±", r"$\pm$")
    tex.write_text(latex)
    return [csv, tex]


def caption(table: pd.DataFrame, study: str, source: str) -> str:
    """What the table shows, with the number of runs and the source of the data."""
    runs = (table["runs"] + table["failed"]).groupby([table["noise"], table["noise_rate"]]).max()
    low, high = runs.min(), runs.max()
    seeds = f"{low} runs (seeds)" if low == high else f"{low} to {high} runs (seeds)"
    return (
        f"Early stopping on {study}: mean ± standard deviation over {seeds} for each noise. "
        f"The oracle keeps the record of highest test accuracy: an upper bound, not a method. Data: {source}."
    )
