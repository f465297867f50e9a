"""Figures of the paper in one style: the same colour for the same criterion everywhere."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from lib.criteria import CRITERIA, LABELS
from lib.stopping import smooth
from lib.tables import noise_name

_PALETTE = sns.color_palette("colorblind")
_DARKER = [tuple(0.6 * part for part in colour) for colour in _PALETTE]
COLOURS: dict[str, tuple] = dict(zip(CRITERIA, [*_PALETTE, *_DARKER], strict=False))
"""Colour of each criterion, distinct for colour-blind readers too; the later ones are darker, and differ in markers."""
TEST_COLOUR = "0.25"
_MARKERS = dict(zip(CRITERIA, "osD^vPX<>phHd8o*s", strict=True))
_STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "memorization",
    "svg.fonttype": "path",
}


def style() -> None:
    """Use the paper's style for every figure made from here on."""
    mpl.rcParams.update(_STYLE)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as SVG and PNG, the same bytes for the same figure; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for both files
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(png, dpi=150)
    return [svg, png]


def memorization(runs: pd.DataFrame) -> Figure:
    """Accuracy on test, on the training labels, and on corrupted samples against given and true labels.

    Args:
        runs: table of `lib.runs.load`, one study; a panel a noise, mean over seeds with its range.
    """
    curves = {
        "test_accuracy": ("Test", TEST_COLOUR, "-"),
        "train_accuracy": ("Training, labels as given", _PALETTE[7], ":"),
        "corrupted_accuracy_given": ("Corrupted samples, wrong label (memorized)", _PALETTE[3], "-"),
        "corrupted_accuracy_true": ("Corrupted samples, true label", _PALETTE[2], "--"),
    }
    figure, axes = _panels(runs)
    for axis, (noise, panel) in zip(axes, _settings(runs), strict=True):
        for column, (label, colour, line) in curves.items():
            by_epoch = panel.groupby("epoch")[column]
            axis.plot(by_epoch.mean(), line, color=colour, label=label)
            axis.fill_between(by_epoch.min().index, by_epoch.min(), by_epoch.max(), color=colour, alpha=0.15, lw=0)
        axis.set(title=noise, ylim=(0, 1), xlim=(0, None))
    _labelled(figure, axes, "Epoch", "Accuracy")
    return figure


def signals(runs: pd.DataFrame, stops: pd.DataFrame) -> Figure:
    """Every smoothed signal of one run a noise, above its test accuracy, each criterion's stop marked on both.

    Args:
        runs: table of `lib.runs.load`, one study; of each noise the lowest seed is shown.
        stops: table of `lib.criteria.stops` for the same runs.
    """
    shown = [(noise, panel[panel["seed"] == panel["seed"].min()]) for noise, panel in _settings(runs)]
    names = [name for name in CRITERIA if any(name in panel["criteria"].iloc[0].split(",") for _, panel in shown)]
    figure, grid = plt.subplots(
        1 + len(names),
        len(shown),
        figsize=(1 + 2.7 * len(shown), 1.2 + 1.6 * (1 + len(names))),
        sharex="col",
        squeeze=False,
        height_ratios=[1.8] + [1] * len(names),
    )
    for column, (noise, panel) in zip(grid.T, shown, strict=True):
        run_stops = stops[stops["run"] == panel["run"].iloc[0]].set_index("criterion")
        column[0].plot(panel["epoch"], panel["test_accuracy"], color=TEST_COLOUR, label="Test accuracy")
        column[0].set_title(f"{noise}, seed {panel['seed'].iloc[0]}")
        oracle = run_stops.loc["oracle"]
        column[0].plot(oracle["epoch"], oracle["test_accuracy"], "*", ms=15, color="0.6", mec="k", label="Oracle")
        for axis, name in zip(column[1:], names, strict=True):
            if name in run_stops.index:
                _signal_and_stop(column[0], axis, panel, name, run_stops.loc[name])
    grid[0, 0].set_ylabel("Test accuracy")
    for axis, name in zip(grid[1:, 0], names, strict=True):
        axis.set_ylabel(f"{LABELS[name]}\n({CRITERIA[name].unit})", fontsize=10)
    figure.supxlabel("Epoch", fontsize=11)
    figure.align_ylabels(grid[:, 0])
    _legend_above(figure, grid[0])
    return figure


def gaps(stops: pd.DataFrame) -> Figure:
    """Gap to the oracle of each criterion and noise: a bar for the mean over seeds, a dot a run.

    Args:
        stops: table of `lib.criteria.stops`, one study.
    """
    noises = list(dict.fromkeys(noise_name(*pair) for pair in stops.groupby(["noise", "noise_rate"]).groups))
    names = [name for name in LABELS if name != "oracle" and name in set(stops["criterion"])]
    figure, axis = plt.subplots(figsize=(max(6.5, 2.2 + 1.6 * len(noises)), 3.6))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        for place, (_, group) in enumerate(stops.groupby(["noise", "noise_rate"])):
            gap = group.loc[group["criterion"] == name, "gap"].dropna()
            x = place + (i - (len(names) - 1) / 2) * width
            label = LABELS[name] if place == 0 else None
            colour = COLOURS.get(name, "0.75")
            axis.bar(x, gap.mean(), 0.9 * width, color=colour, label=label)
            axis.plot(np.full(len(gap), x), gap, "o", ms=3, color="k", alpha=0.6)
    axis.set_xticks(range(len(noises)), noises)
    axis.set_ylabel("Gap to oracle (points)")
    axis.grid(visible=False, axis="x")
    _legend_above(figure, [axis])
    return figure


def densities(axis: Axes, title: str, values: np.ndarray, labels: np.ndarray) -> None:
    """Draw the class-conditional densities of one neuron's pre-activation, a ridge a class.

    Kernel density estimates, drawn to the same height, for the eye alone; CND itself is computed from histograms.

    Args:
        axis: where to draw.
        title: of the axis.
        values: pre-activation on each sample, shape (n,).
        labels: class of each sample as given, shape (n,).
    """
    classes = [label for label in np.unique(labels) if np.unique(values[labels == label]).size > 1]
    points = np.linspace(values.min(), values.max(), 300)
    colours = sns.color_palette("viridis", len(classes))
    for height, (colour, label) in enumerate(zip(colours, classes, strict=True)):
        density = gaussian_kde(values[labels == label])(points)
        ridge = height + 1.6 * density / density.max()
        layer = 2 * (len(classes) - height)
        axis.fill_between(points, height, ridge, color=colour, alpha=0.75, lw=0, zorder=layer)
        axis.plot(points, ridge, color="w", lw=1, zorder=layer + 1)
    axis.set_yticks(range(len(classes)), [str(label) for label in classes])
    axis.grid(visible=False)
    axis.set(title=title, xlabel="Pre-activation", ylabel="Label as given")


def signal_against_accuracy(axis: Axes, smoothed: np.ndarray, accuracy: np.ndarray, record: int, name: str) -> None:
    """Draw a criterion's smoothed signal (left axis) and test accuracy (right axis) over records, with the stop.

    Args:
        axis: where to draw; the right axis is added to it.
        smoothed, accuracy: one value a record, shape (n,).
        record: chosen record, counted from 1.
        name: criterion, as in `lib.criteria.CRITERIA`.
    """
    records = np.arange(1, len(accuracy) + 1)
    right = axis.twinx()
    right.plot(records, accuracy, color=TEST_COLOUR)
    right.set_ylabel("Test accuracy", color=TEST_COLOUR)
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    axis.plot(records, smoothed, color=COLOURS[name])
    axis.axvline(record, color=COLOURS[name], ls="--", lw=1)
    axis.set(xlabel="Epoch", title=f"{LABELS[name]} keeps epoch {record}: test accuracy {accuracy[record - 1]:.3f}")
    axis.set_ylabel(f"{LABELS[name]} ({CRITERIA[name].unit})", color=COLOURS[name])


def _signal_and_stop(top, axis, panel: pd.DataFrame, name: str, stop: pd.Series) -> None:
    smoothed = smooth(panel[name], int(panel["window"].iloc[0]))
    axis.plot(panel["epoch"], panel[name], color=COLOURS[name], alpha=0.3, lw=1)
    axis.plot(panel["epoch"], smoothed, color=COLOURS[name])
    if pd.isna(stop["epoch"]):
        return
    marker = {"marker": _MARKERS[name], "color": COLOURS[name], "ms": 8, "mec": "w", "ls": "none"}
    axis.axvline(stop["epoch"], color=COLOURS[name], lw=1, ls="--")
    axis.plot(stop["epoch"], smoothed[int(stop["record"]) - 1], **marker)
    top.plot(stop["epoch"], stop["test_accuracy"], label=f"{LABELS[name]} stops", **marker)


def _settings(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(noise_name(*key), panel) for key, panel in runs.groupby(["noise", "noise_rate"], sort=True)]


def _panels(runs: pd.DataFrame):
    count = len(_settings(runs))
    figure, axes = plt.subplots(1, count, figsize=(1 + 2.7 * count, 3.4), sharey=True, squeeze=False)
    return figure, axes[0]


def _labelled(figure: Figure, axes, x: str, y: str) -> None:
    axes[0].set_ylabel(y)
    figure.supxlabel(x, fontsize=11)
    _legend_above(figure, axes)


def _legend_above(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend above the whole figure with each label of the axes once, in as few rows as there is room for."""
    entries = {}
    for axis in axes:
        entries |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    points = figure.get_figwidth() * 72
    widest = max(len(label) for label in entries) * 5 + 40  # points of an entry at the legend's font size
    columns = max(1, min(len(entries), int(points // widest)))
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)
