"""Figures of the paper in one style: the same colour for the same criterion everywhere."""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import typst
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lib.catalogue import NOISES, noise_place, noise_title
from lib.criteria import CRITERIA, LABELS, ORACLE
from lib.paper.provenance import Provenance
from lib.stopping import smooth

_PALETTE = sns.color_palette("colorblind")
COLOURS = {name: row.colour for name, row in CRITERIA.items()}
MARKERS = {name: row.marker for name, row in CRITERIA.items()}
TEST_COLOUR = "0.25"
WIDTH = 6.9
"""Of a figure in inches: the text of a page, so that letters are as large in print as they are set here."""
_DOTS = 200  # of a PNG, per inch
_PNG_HEADER = 33  # bytes of its signature and first chunk
PANELS = 5
"""Settings side by side at most."""
_STYLE = {
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
    """Write a figure as SVG, PDF and PNG with its provenance as metadata; returns the paths.

    The same figure of the same provenance gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    svg, pdf, png = (folder / f"{name}{suffix}" for suffix in (".svg", ".pdf", ".png"))
    if figure.get_layout_engine():
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")
    # Drawn once: drawing takes matplotlib seconds where a figure has many panels.
    about = {"Title": name, "Description": provenance.text(), "Source": provenance.source, "Date": None}
    FigureCanvasSVG(figure).print_svg(svg, metadata=about)
    document = f"title: {json.dumps(name)}, description: {json.dumps(provenance.text())}, date: none"
    page = f'#set document({document})\n#set page(width: auto, height: auto, margin: 0pt)\n#image("{name}.svg")'
    pdf.write_bytes(typst.compile(page.encode(), root=folder, format="pdf"))
    png.write_bytes(_describe(typst.compile(page.encode(), root=folder, format="png", ppi=_DOTS), about))
    return [svg, pdf, png]


def _describe(png: bytes, about: dict[str, str | None]) -> bytes:
    """A PNG with international texts (iTXt chunks) after its header."""
    texts = b""
    for key, value in about.items():
        if value:
            content = b"iTXt" + key.encode() + bytes(5) + value.encode()
            texts += struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_PNG_HEADER] + texts + png[_PNG_HEADER:]


def settings(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each noise and rate of a study by its name, with its rows: clean labels, synthetic kinds, human labels."""
    groups = runs.groupby(["noise", "noise_rate"], sort=True, observed=True)

    def order(group: tuple) -> tuple:
        (noise, rate), _ = group
        return noise_place(noise), noise, rate

    return [(noise_title(*key), panel) for key, panel in sorted(groups, key=order)]


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

    Args:
        runs: table of `lib.runs.load`, one study; a panel a noise, mean over seeds with its range.
    """
    curves = {
        "test_accuracy": ("Test", TEST_COLOUR, "-"),
        "train_accuracy": ("Training, labels as given", _PALETTE[7], ":"),
        "corrupted_accuracy_given": ("Corrupted samples, wrong label (memorized)", _PALETTE[3], "-"),
        "corrupted_accuracy_true": ("Corrupted samples, true label", _PALETTE[2], "--"),
    }
    shown = settings(runs)
    figure, axes = panels(len(shown))
    for axis, (noise, panel) in zip(axes, shown, strict=True):
        for column, (label, colour, line) in curves.items():
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

    Args:
        runs: table of `lib.runs.load`, one of `pages` of a study; of each noise the lowest seed is shown.
        stops: table of `lib.criteria.stops` for the same runs.
    """
    shown = [(noise, _lowest_seed(panel)) for noise, panel in settings(runs)]
    names = [name for name in CRITERIA if any(name in panel["criteria"].iloc[0].split(",") for _, panel in shown)]
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
        column[0].plot(panel["epoch"], panel["test_accuracy"], color=TEST_COLOUR, label="Test accuracy")
        column[0].set_title(noise)
        oracle = run_stops.loc[ORACLE]
        column[0].plot(
            oracle["epoch"], oracle["test_accuracy"], "*", ms=9, color="0.6", mec="k", mew=0.6, label="Oracle"
        )
        for axis, name in zip(column[1:], names, strict=True):
            axis.locator_params(axis="y", nbins=3)
            if name in run_stops.index:
                _signal_and_stop(column[0], axis, panel, name, run_stops.loc[name])
    grid[0, 0].set_ylabel("Test acc.")
    for axis, name in zip(grid[1:, 0], names, strict=True):
        axis.set_ylabel(f"{LABELS[name]}\n({CRITERIA[name].unit})", fontsize=7)
        axis.tick_params(labelsize=6)
    seeds = sorted({panel["seed"].iloc[0] for _, panel in shown})
    figure.text(
        0.5, 0.05 / figure.get_figheight(), f"Epoch (seed {', '.join(map(str, seeds))})", ha="center", va="bottom"
    )
    _lay_out(figure, grid, legend_above(figure, grid[0]))
    return figure


def _lay_out(figure: Figure, grid: np.ndarray, above: float) -> None:
    """Place many panels in inches; measuring every label of them, as layout engines do, takes seconds."""
    (width, height), columns, rows = figure.get_size_inches(), grid.shape[1], grid.shape[0]
    left, right, bottom, top, between, gap = 0.75, 0.08, 0.42, above + 0.22, 0.36, 0.1
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


def gaps(summary: pd.DataFrame) -> Figure:
    """Gap to the oracle of each criterion by kind and rate of noise: means over seeds with 95 % intervals.

    Args:
        summary: table of `lib.study.statistics.summary`, one study.
    """
    shown = settings(summary)
    kinds: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for name, rows in shown:
        noise = rows["noise"].iloc[0]
        kind = "human labels" if noise in NOISES and NOISES[noise].people_of else NOISES.label(noise)
        kinds.setdefault(kind, []).append((name, rows))
    names = [name for name in LABELS if name != ORACLE and name in set(summary["criterion"])]
    figure, axes = plt.subplots(
        1,
        len(kinds),
        figsize=(WIDTH * min(1, 0.4 + 0.1 * len(shown)), 2.7),
        sharey=True,
        squeeze=False,
        width_ratios=[1 + len(settings_of_kind) for settings_of_kind in kinds.values()],
    )
    for axis, (kind, of_kind) in zip(axes[0], kinds.items(), strict=True):
        for i, name in enumerate(names):
            rows = pd.concat([rows[rows["criterion"] == name] for _, rows in of_kind])
            present = [place for place, (_, rows) in enumerate(of_kind) if name in set(rows["criterion"])]
            x = np.array(present) + (i - (len(names) - 1) / 2) * 0.7 / len(names)
            mean, low, high = (rows[f"gap_{part}"].to_numpy() for part in ("mean", "low", "high"))
            ends = np.nan_to_num([mean - low, high - mean]).clip(min=0)
            look = {"color": COLOURS.get(name, "0.6"), "marker": MARKERS.get(name, "_"), "ms": 4, "ls": "none"}
            axis.plot(x, mean, color=look["color"], lw=0.8, alpha=0.3)
            axis.errorbar(x, mean, ends, label=LABELS[name], elinewidth=0.8, **look)
        human = kind == "human labels"
        labels = [name if human else f"{100 * rows['noise_rate'].iloc[0]:g}%" for name, rows in of_kind]
        axis.set_xticks(range(len(labels)), [""] if kind == "clean labels" else labels)
        axis.set(title=kind, xlim=(-0.6, len(labels) - 0.4))
        axis.grid(visible=False, axis="x")
    axes[0, 0].set_ylim(bottom=min(0, axes[0, 0].get_ylim()[0]))
    axes[0, 0].set_ylabel("Gap to oracle (points)")
    figure.supxlabel("Noise rate", fontsize=8)
    legend_above(figure, axes[0])
    return figure


def _signal_and_stop(top, axis, panel: pd.DataFrame, name: str, stop: pd.Series) -> None:
    smoothed = smooth(panel[name], int(panel["window"].iloc[0]))
    axis.plot(panel["epoch"], panel[name], color=COLOURS[name], alpha=0.3, lw=0.7)
    axis.plot(panel["epoch"], smoothed, color=COLOURS[name])
    if pd.isna(stop["epoch"]):
        return
    marker = {"marker": MARKERS[name], "color": COLOURS[name], "ms": 5, "mec": "w", "mew": 0.6, "ls": "none"}
    axis.axvline(stop["epoch"], color=COLOURS[name], lw=0.8, ls="--")
    axis.plot(stop["epoch"], smoothed[int(stop["record"]) - 1], **marker)
    top.plot(stop["epoch"], stop["test_accuracy"], label=f"{LABELS[name]} stops", **marker)


def panels(count: int, height: float = 1.5) -> tuple[Figure, list[Axes]]:
    """A figure of panels with common axes, at most `PANELS` in a row, each of a height in inches."""
    rows = -(-count // PANELS)
    columns = -(-count // rows)
    size = (WIDTH * min(1, 0.12 + 0.29 * columns), 0.6 + height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def legend_above(figure: Figure, axes: Iterable[Axes]) -> float:
    """One legend above the whole figure with each label of the axes once, in as few rows as there is room for.

    Returns its height in inches.
    """
    entries = {}
    for axis in axes:
        entries |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    points = figure.get_figwidth() * 72
    widest = max(len(label) for label in entries) * 3.8 + 30  # points of an entry at the legend's font size
    columns = max(1, min(len(entries), int(points // widest)))
    place = "outside upper center" if figure.get_layout_engine() else "upper center"
    figure.legend(entries.values(), entries.keys(), loc=place, ncols=columns)
    return 0.17 * -(-len(entries) // columns) + 0.08
