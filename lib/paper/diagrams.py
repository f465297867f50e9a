"""Figures that explain: densities, ranks, heat maps of the choices, layers, and what happens at high rates."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from lib.criteria import CRITERIA, END, LABELS, ORACLE
from lib.paper.figures import COLOURS, MARKERS, TEST_COLOUR, WIDTH, legend_above, panels, settings
from lib.stopping import smooth
from lib.study.statistics import Friedman


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
        axis.plot(points, ridge, color="w", lw=0.6, zorder=layer + 1)
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
    axis.set(xlabel="Epoch", title=f"{LABELS[name]} keeps epoch {record}:\ntest accuracy {accuracy[record - 1]:.3f}")
    axis.set_ylabel(f"{LABELS[name]} ({CRITERIA[name].unit})", color=COLOURS[name])


def critical_difference(across: Friedman) -> Figure:
    """Average ranks on a line, 1 the best; a bar joins criteria that do not differ (Demšar, JMLR 2006, figure 1)."""
    ranked = sorted(across.ranks.items(), key=lambda item: item[1])
    count, half = len(ranked), -(-len(ranked) // 2)
    figure, axis = plt.subplots(figsize=(WIDTH * 0.75, 0.9 + 0.2 * half + 0.1 * count))
    axis.axis("off")
    axis.plot([1, count], [0, 0], color="k", lw=0.8)
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.15], color="k", lw=0.8)
        axis.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=7)
    below = _bars(axis, ranked, across)
    for i, (name, rank) in enumerate(ranked):
        left = i < half
        y = below - 0.7 - (i if left else count - 1 - i)
        x, side = (0.95, "right") if left else (count + 0.05, "left")
        axis.plot([rank, rank, x], [0, y, y], color=COLOURS[name], lw=1)
        axis.text(x - 0.05 if left else x + 0.05, y, f"{LABELS[name]}  {rank:.2f}", ha=side, va="center", fontsize=8)
    difference = across.critical_difference
    if np.isfinite(across.p_value):
        axis.plot([1, 1 + difference], [1.05, 1.05], color="k", lw=1.2)
        axis.text(1 + difference + 0.05, 1.05, f"critical difference {difference:.2f}", va="center", fontsize=7)
    axis.set(xlim=(-0.1 * count, 1.1 * count + 1), ylim=(below - 0.2 - half, 1.4))
    return figure


def _bars(axis, ranked: list[tuple[str, float]], across: Friedman) -> float:
    """Draw a bar for each longest group that does not differ; returns how far down they reach."""
    values, low = [rank for _, rank in ranked], -0.1
    if not np.isfinite(across.p_value):
        return low
    last = -1
    for i, first in enumerate(values):
        end = max(j for j, value in enumerate(values) if value - first <= across.critical_difference)
        if end > last and end > i:
            low -= 0.25
            axis.plot([first - 0.04, values[end] + 0.04], [low, low], color="0.3", lw=3, solid_capstyle="butt")
        last = max(last, end)
    return low


def heat_maps(maps: dict[str, pd.DataFrame], measured: str = "Gap to oracle (points)") -> Figure:
    """Heat maps side by side in one scale of colours, each cell with its number.

    Args:
        maps: tables of `lib.study.ablation.heat_maps` by title.
        measured: what the numbers are.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(WIDTH, 2.6), squeeze=False)
    values = np.concatenate([table.to_numpy().ravel() for table in maps.values()])
    scale = {"vmin": np.nanmin(values), "vmax": np.nanmax(values), "cmap": "viridis_r"}
    for axis, (title, table) in zip(axes[0], maps.items(), strict=True):
        _heat_map(axis, table, scale)
        axis.set(title=title, ylabel=table.index.name.capitalize(), xlabel=table.columns.name.capitalize())
        axis.tick_params(length=0, rotation=0)
        axis.grid(visible=False)
    figure.colorbar(axes[0, 0].collections[0], ax=axes[0].tolist(), label=measured, shrink=0.8, aspect=30, pad=0.01)
    return figure


def _heat_map(axis: Axes, table: pd.DataFrame, scale: dict) -> None:
    """Cells with their numbers, dark on light and light on dark; seaborn would draw the whole figure for each."""
    mesh = axis.pcolormesh(np.ma.masked_invalid(table.to_numpy()), edgecolors="face", linewidth=0.1, **scale)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            light = np.dot(mesh.to_rgba(value)[:3], (0.2126, 0.7152, 0.0722)) > 0.5
            place = (column + 0.5, row + 0.5)
            axis.annotate(f"{value:.1f}", place, ha="center", va="center", size=6.5, color="0.15" if light else "w")
    axis.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns)
    axis.set_yticks(np.arange(table.shape[0]) + 0.5, table.index)
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)


def layers(by_layer: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """CND of each hidden layer and test accuracy over epochs, a panel a noise, means over seeds.

    Args:
        by_layer: table of `lib.study.ablation.layer_signals`.
        runs: table of `lib.runs.load` for the same study.
    """
    shown = settings(runs)
    figure, axes = panels(len(shown))
    names = list(dict.fromkeys(by_layer["layer"]))
    colours = dict(zip(names, sns.color_palette("viridis", len(names)), strict=True))
    for axis, (noise, panel) in zip(axes, shown, strict=True):
        own = by_layer[by_layer["noise"] == noise]
        for name in names:
            curve = own[own["layer"] == name].groupby("epoch")["cnd"].mean()
            axis.plot(curve, color=colours[name], label=f"Layer {name}")
        right = axis.twinx()
        right.plot(panel.groupby("epoch")["test_accuracy"].mean(), color=TEST_COLOUR, ls=":")
        right.set_ylim(0, 1)
        right.grid(visible=False)
        right.tick_params(right=False, labelright=False)
        axis.plot([], [], color=TEST_COLOUR, ls=":", label="Test accuracy (0 to 1)")
        axis.set_title(noise)
    figure.supylabel("CND (bits)", fontsize=8)
    figure.supxlabel("Epoch", fontsize=8)
    legend_above(figure, axes[:1])
    return figure


def has_rates(runs: pd.DataFrame) -> bool:
    """Whether a study has symmetric noise of several rates."""
    return runs.loc[runs["noise"] == "symmetric", "noise_rate"].nunique() > 1


def high_rates(runs: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Symmetric noise by rate: what there is to gain, how well signals follow test accuracy, and what is left of CND.

    Args:
        runs: table of `lib.runs.load`, one study.
        summary: table of `lib.study.statistics.summary` for the same study.
    """
    symmetric = summary[summary["noise"] == "symmetric"]
    figure, (gain, follows, contrast) = plt.subplots(1, 3, figsize=(WIDTH, 2.5))
    for name, colour, line in ((ORACLE, "k", "-"), ("cnd", COLOURS["cnd"], "-"), (END, "0.6", "--")):
        rows = symmetric[symmetric["criterion"] == name]
        gain.plot(
            100 * rows["noise_rate"],
            rows["test_accuracy_mean"],
            line,
            marker="o",
            ms=3,
            color=colour,
            label=LABELS[name],
        )
    gain.set(title="What there is to gain", xlabel="Noise rate (%)", ylabel="Test accuracy (%)", ylim=(0, 100))
    gain.legend(loc="lower left")
    for name in CRITERIA:
        rows = symmetric[symmetric["criterion"] == name]
        if len(rows) and CRITERIA[name].mode != "above_zero":
            sign = -1 if CRITERIA[name].mode == "min" else 1
            look = {"color": COLOURS[name], "marker": MARKERS[name], "ms": 3.5, "lw": 1}
            follows.plot(100 * rows["noise_rate"], sign * rows["kendall_mean"], label=LABELS[name], **look)
    follows.axhline(0, color="k", lw=0.6)
    follows.set(
        title="Does it follow test accuracy?", xlabel="Noise rate (%)", ylabel="Kendall τ, + as it should", ylim=(-1, 1)
    )
    if follows.lines[:-1]:
        legend_above(figure, [follows])
    shape = cnd_shape(runs)
    for column, label, line in (
        ("peak", "peak", "-"),
        ("fall", "fall after the peak", "--"),
        ("jitter", "jitter of a record", ":"),
    ):
        contrast.plot(
            100 * shape["noise_rate"], shape[column], line, marker="o", ms=3, color=COLOURS["cnd"], label=label
        )
    contrast.set(title="The shape of CND", xlabel="Noise rate (%)", ylabel="Bits")
    contrast.set_ylim(0, 1.45 * contrast.get_ylim()[1])
    contrast.legend(loc="upper left")
    return figure


def cnd_shape(runs: pd.DataFrame) -> pd.DataFrame:
    """How CND looks at each rate of symmetric noise, in bits, means over seeds.

    Args:
        runs: table of `lib.runs.load`, one study.

    Returns:
        A row a rate: noise_rate; peak, the highest smoothed value; fall, from there to the last one; jitter, the
        standard deviation of a record about its trend (of differences between records, over the root of 2); at_once,
        the share of runs whose first smoothed value is the highest, so that CND falls from its start; to_the_end, that
        of those whose last one is. Empty where there is no CND.
    """
    rows = []
    symmetric = runs[runs["noise"] == "symmetric"] if "cnd" in runs else runs[:0]
    for (rate, _), run in symmetric.groupby(["noise_rate", "seed"], observed=True):
        smoothed = smooth(run["cnd"], int(run["window"].iloc[0]))
        smoothed = smoothed[np.isfinite(smoothed)]
        if len(smoothed) < 2:
            continue
        peak, jitter = smoothed.max(), np.nanstd(np.diff(run["cnd"]), ddof=1) / np.sqrt(2)
        about = {"noise_rate": rate, "peak": peak, "fall": peak - smoothed[-1], "jitter": jitter}
        rows.append(about | {"at_once": float(smoothed[0] == peak), "to_the_end": float(smoothed[-1] == peak)})
    columns = ["noise_rate", "peak", "fall", "jitter", "at_once", "to_the_end"]
    return pd.DataFrame(rows, columns=columns).groupby("noise_rate", as_index=False).mean()
