"""Figures of the paper in one style: the same colour for the same criterion everywhere."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lib.catalogue import noise_place, noise_title
from lib.criteria import CRITERIA, LABELS, ORACLE
from lib.paper.provenance import Provenance
from lib.stopping import smooth

TEST_COLOUR = "0.25"
WIDTH = 6.9
"""Of a figure in inches: the text of a page, so that letters are as large in print as they are set here."""
PANELS = 5
"""Settings side by side at most."""
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "memorization",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


def style() -> None:
    """Use the paper's style for every figure made from here on."""
    mpl.rcParams.update(_STYLE)


def save(figure: Figure, folder: Path, name: str, provenance: Provenance) -> list[Path]:
    """Write a figure as SVG and PDF with its provenance as metadata, and close it; returns the paths.

    The same figure of the same provenance gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    svg, pdf = folder / f"{name}.svg", folder / f"{name}.pdf"
    if layout := figure.get_layout_engine():
        # Once for both, as each is drawn once, which savefig does twice: many panels take seconds.
        layout.execute(figure)
        figure.set_layout_engine("none")
    about = {"Title": name, "Source": provenance.source, "Description": provenance.text(), "Date": None}
    FigureCanvasSVG(figure).print_svg(svg, metadata=about)
    about = {"Title": name, "Subject": provenance.text(), "CreationDate": None}
    FigureCanvasPdf(figure).print_pdf(pdf, metadata=about)
    plt.close(figure)
    return [svg, pdf]


def settings(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each noise and rate of a study by a title that fits its panel, with its rows, in the order of tables."""
    found = dict(iter(runs.groupby(["noise", "noise_rate"], observed=True)))
    ordered = sorted(found, key=lambda setting: (noise_place(setting[0]), *setting))
    return [(fill(noise_title(*setting), 14, break_on_hyphens=False), found[setting]) for setting in ordered]


def pages(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """What `signals` shows: runs of lowest seed of as many settings as fit side by side, pages as even as can be."""
    panels = [_lowest_seed(panel) for _, panel in settings(runs)]
    count = -(-len(panels) // PANELS)
    for part in np.array_split(np.arange(len(panels)), count):
        yield pd.concat([panels[i] for i in part])


def _lowest_seed(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["seed"] == runs["seed"].min()]


def memorization(runs: pd.DataFrame) -> Figure:
    """Accuracy on test, on the training labels, and on corrupted samples against given and true labels.

    What no run could measure, as it has no test set or nobody knows the true labels, has no curve.

    Args:
        runs: table of `lib.runs.load`, one study; a panel a noise, mean over seeds with its range.
    """
    curves = {
        "test_accuracy": ("Test", TEST_COLOUR, "-"),
        "train_accuracy": ("Training, labels as given", "#949494", ":"),
        "corrupted_accuracy_given": ("Corrupted samples, wrong label (memorized)", "#d55e00", "-"),
        "corrupted_accuracy_true": ("Corrupted samples, true label", "#029e73", "--"),
    }
    measured = {column: look for column, look in curves.items() if runs[column].notna().any()}
    shown = settings(runs)
    figure, axes = panels(len(shown))
    for axis, (noise, panel) in zip(axes, shown, strict=True):
        for column, (label, colour, line) in measured.items():
            by_epoch = panel.groupby("epoch")[column]
            axis.plot(by_epoch.mean(), line, color=colour, label=label)
            axis.fill_between(by_epoch.min().index, by_epoch.min(), by_epoch.max(), color=colour, alpha=0.15, lw=0)
        axis.set(title=noise, ylim=(0, 1), xlim=(0, None))
    figure.supylabel("Accuracy", fontsize=8)
    figure.supxlabel("Epoch", fontsize=8)
    legend_above(figure, axes)
    return figure


def signals(runs: pd.DataFrame, stops: pd.DataFrame) -> Figure:
    """Every smoothed signal of one run a noise, below its test accuracy, each criterion's stop marked on both.

    Without a test set the accuracy is that on the training labels, and there is no oracle.

    Args:
        runs: table of `lib.runs.load`, one of `pages` of a study; of each noise the lowest seed is shown.
        stops: table of `lib.criteria.stops` for the same runs.
    """
    shown = [(noise, _lowest_seed(panel)) for noise, panel in settings(runs)]
    names = [name for name in CRITERIA if any(name in panel["criteria"].iloc[0].split(",") for _, panel in shown)]
    tested = runs["test_accuracy"].notna().any()
    accuracy, label = ("test_accuracy", "Test accuracy") if tested else ("train_accuracy", "Training acc.")
    figure, grid = plt.subplots(
        1 + len(names),
        len(shown),
        figsize=(WIDTH if len(shown) > 2 else 0.6 * WIDTH, 0.9 + 0.82 * (1 + len(names))),
        sharex="col",
        squeeze=False,
        height_ratios=[1.6] + [1] * len(names),
        layout="none",
    )
    for column, (noise, panel) in zip(grid.T, shown, strict=True):
        run_stops = stops[stops["run"] == panel["run"].iloc[0]].set_index("criterion")
        column[0].plot(panel["epoch"], panel[accuracy], color=TEST_COLOUR, label=label)
        column[0].set_title(noise)
        oracle = run_stops.loc[ORACLE]
        if tested:
            look = {"ms": 9, "color": "0.6", "mec": "k", "mew": 0.6, "label": "Oracle"}
            column[0].plot(oracle["epoch"], oracle["test_accuracy"], "*", **look)
        for axis, name in zip(column[1:], names, strict=True):
            axis.locator_params(axis="y", nbins=3)
            if name in run_stops.index:
                _signal_and_stop(column[0], axis, panel, name, run_stops.loc[name], panel[accuracy].to_numpy())
    grid[0, 0].set_ylabel(label.replace("accuracy", "acc."))
    for axis, name in zip(grid[1:, 0], names, strict=True):
        axis.set_ylabel(f"{LABELS[name]}\n({CRITERIA[name].unit})", fontsize=7)
        axis.tick_params(labelsize=6)
    seeds = sorted({panel["seed"].iloc[0] for _, panel in shown})
    figure.text(
        0.5, 0.05 / figure.get_figheight(), f"Epoch (seed {', '.join(map(str, seeds))})", ha="center", va="bottom"
    )
    lines = 1 + max(noise.count("\n") for noise, _ in shown)
    _lay_out(figure, grid, legend_above(figure, grid[0]) + 0.12 * lines)
    return figure


def _lay_out(figure: Figure, grid: np.ndarray, above: float) -> None:
    """Place many panels in inches; measuring every label of them, as layout engines do, takes seconds."""
    (width, height), columns, rows = figure.get_size_inches(), grid.shape[1], grid.shape[0]
    left, right, bottom, top, between, gap = 0.75, 0.08, 0.42, above + 0.1, 0.36, 0.1
    panel = (width - left - right - between * (columns - 1)) / columns
    mean_height = (height - bottom - top - gap * (rows - 1)) / rows
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=between / panel,
        hspace=gap / mean_height,
    )
    for axis in grid[:, 0]:
        axis.yaxis.set_label_coords(-0.42 / panel, 0.5)


def _signal_and_stop(top, axis, panel: pd.DataFrame, name: str, stop: pd.Series, accuracy: np.ndarray) -> None:
    colour = CRITERIA[name].colour
    smoothed = smooth(panel[name], int(panel["window"].iloc[0]))
    axis.plot(panel["epoch"], panel[name], color=colour, alpha=0.3, lw=0.7)
    axis.plot(panel["epoch"], smoothed, color=colour)
    if pd.isna(stop["epoch"]):
        return
    marker = {"marker": CRITERIA[name].marker, "color": colour, "ms": 5, "mec": "w", "mew": 0.6, "ls": "none"}
    axis.axvline(stop["epoch"], color=colour, lw=0.8, ls="--")
    record = int(stop["record"]) - 1
    axis.plot(stop["epoch"], smoothed[record], **marker)
    top.plot(stop["epoch"], accuracy[record], label=f"{LABELS[name]} stops", **marker)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of panels with common axes, at most `PANELS` in a row."""
    rows = -(-count // PANELS)
    columns = -(-count // rows)
    size = (WIDTH * min(1, 0.12 + 0.29 * columns), 0.6 + 1.5 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def legend_above(figure: Figure, axes: Iterable[Axes]) -> float:
    """One legend above the whole figure with each label of the axes once, in as few rows as there is room for.

    Returns its height in inches.
    """
    entries: dict[str, Any] = {}
    for axis in axes:
        entries |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    points = figure.get_figwidth() * 72
    widest = max(len(label) for label in entries) * 3.8 + 30  # points of an entry at the legend's font size
    columns = max(1, min(len(entries), int(points // widest)))
    place: Any = "outside upper center" if figure.get_layout_engine() else "upper center"
    figure.legend(list(entries.values()), list(entries), loc=place, ncols=columns)
    return 0.17 * -(-len(entries) // columns) + 0.08
