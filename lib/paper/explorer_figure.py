"""The figure of `lib.paper.explorer`: signals, test accuracies and gaps of many runs, redrawn while a slider moves.

Matplotlib's Agg canvas draws into the bytes of an image, which every front end shows. What one position of a slider has
in common with the next, most texts above all, is drawn once and kept as pixels.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lib.catalogue import noise_title
from lib.criteria import CRITERIA, LABELS
from lib.paper.exploring import Outcome, Recorded, Settings

Noise = tuple[str, float]
"""Its kind and rate."""
_MAPS = {"none": "Greys", "symmetric": "Blues", "pair": "Oranges", "instance": "Greens"}
_OTHERS = "Purples"  # human labels
_SIZE = (10.5, 4.4)  # inches: with the controls above it, what a laptop shows of a cell's output without scrolling
_CROWD = 20  # runs, from which on lines get thin and see-through


class Plot:
    """Signals above test accuracies, a line a run, beside the gaps to the oracle; a colour a noise and rate.

    Args:
        noises: all that may be shown, so that each keeps its colour whichever are chosen.
        dpi: pixels an inch.
    """

    def __init__(self, noises: Sequence[Noise], dpi: int):
        self._colours = _colours(noises)
        self._drawn: list[tuple] = []
        self._background = self._with_signal = self._shown_signal = None
        figure = Figure(figsize=_SIZE, dpi=dpi, layout="none")
        self._canvas = FigureCanvasAgg(figure)
        places = {"left": 0.075, "right": 0.615, "top": 0.93, "bottom": 0.115, "hspace": 0.2}
        self._signal, self._accuracy = figure.subplots(2, 1, sharex=True, gridspec_kw=places)
        self._gaps = figure.add_axes((0.775, 0.115, 0.2, 0.815))
        self._accuracy.set_ylabel("Test accuracy")
        self._gaps.set_xlabel("Gap to oracle (points)")
        for axis, x, title in (
            (self._signal, 0, "pale: as recorded   strong: smoothed   ● stop"),
            (self._accuracy, 0.345, "● stop   ★ oracle"),
            (self._gaps, 0.875, "● run   | mean   ◇ mean without stopping"),
        ):
            # Where titles and labels are is said, because finding places for them takes longer than drawing them.
            axis.set_title(title, loc="right", fontsize=9, y=1.02)
            axis.xaxis.set_label_coords(x, 0.05, figure.transFigure)
            axis.yaxis.set_label_coords(-0.09, 0.5)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
            axis.tick_params(labelsize=10, labelcolor="k")
            axis.xaxis.label.set_size(10)
            axis.yaxis.label.set_size(10)
        axes = (self._signal, self._signal, self._accuracy)
        self._recorded, self._smoothed, self._accuracies = (
            axis.add_collection(LineCollection([]), autolim=False) for axis in axes
        )
        self._oracles = self._accuracy.scatter([], [], marker="*", edgecolors="k", linewidths=0.5, zorder=3)
        self._ends = self._gaps.scatter([], [], marker="D", facecolors="none", s=30, linewidths=1.2, zorder=3)
        self._marks = [
            axis.scatter([], [], edgecolors="w", linewidths=0.5, zorder=4)
            for axis in (self._signal, self._accuracy, self._gaps)
        ]
        self._means = self._gaps.scatter([], [], marker="|", s=300, linewidths=2.5, color="k", zorder=5)
        self._of_signal = [self._signal.yaxis, self._recorded]
        self._moving = [self._smoothed, *self._marks, self._means]
        for artist in (*self._of_signal, *self._moving):
            artist.set_animated(True)

    def show(self, chosen: list[Recorded], outcomes: list[Outcome], settings: Settings) -> None:
        """Show where the settings stop each of the chosen runs."""
        drawn = [(run.noise, run.seed, run.test_accuracy.tobytes()) for run in chosen]  # the same of every estimator
        if drawn != self._drawn or self._background is None:
            self._drawn, self._background = drawn, None
            self._show_runs(chosen)
        self._show_signal(outcomes, settings)
        self._smoothed.set_segments(_lines(outcome.smoothed for outcome in outcomes))
        found = [(*both, y) for *both, y in zip(chosen, outcomes, self._heights, strict=True) if both[1].record]
        points = [
            [(o.record, o.smoothed[o.record - 1]) for _, o, _ in found],
            [(o.record, run.test_accuracy[o.record - 1]) for run, o, _ in found],
            [(o.gap, y) for _, o, y in found],
        ]
        for marks, at in zip(self._marks, points, strict=True):
            _place(marks, at)
            marks.set_facecolor([self._colours[run.noise] for run, *_ in found])
        means = _means((run.noise, o.gap) for run, o, _ in found)
        _place(self._means, [(means[noise], y) for y, noise in enumerate(self._shown) if noise in means])
        self._widen(outcome.gap for outcome in outcomes)

    def png(self) -> bytes:
        """What is shown, as PNG."""
        if self._background is None:
            self._canvas.draw()
            self._background, self._with_signal = self._copy(), None
        if self._with_signal is None:
            self._draw_over(self._background, self._of_signal)
            self._with_signal = self._copy()
        self._draw_over(self._with_signal, self._moving)
        return _png(np.asarray(self._canvas.buffer_rgba()))

    def fit(self) -> None:
        """Forget, before the next `show`, how far axes grew while sliders moved."""
        self._background = None

    def _copy(self):
        return self._canvas.copy_from_bbox(self._canvas.figure.bbox)

    def _draw_over(self, background, artists) -> None:
        self._canvas.restore_region(background)
        for artist in artists:
            artist.axes.draw_artist(artist)

    def _show_signal(self, outcomes: list[Outcome], settings: Settings) -> None:
        """What window and patience do not change; the limits grow where the smoothed signals need it."""
        signal = (settings.criterion, settings.layer, settings.estimator, settings.quantile)
        smoothed = _finite(outcome.smoothed for outcome in outcomes)
        if signal != self._shown_signal or self._background is None:
            self._shown_signal, self._with_signal = signal, None
            self._recorded.set_segments(_lines(outcome.signal for outcome in outcomes))
            self._signal.set_ylabel(f"{LABELS[settings.criterion]} ({CRITERIA[settings.criterion].unit})")
            recorded = _finite(outcome.signal for outcome in outcomes)
            # The first records may lie far off, and would press all others together.
            usual = np.percentile(recorded, [1, 99]) if len(recorded) else []
            self._signal.set_ylim(_limits([usual, smoothed]))
        low, high = self._signal.get_ylim()
        if len(smoothed) and (smoothed.min() < low or smoothed.max() > high):
            self._signal.set_ylim(_limits([[low, high], smoothed]))
            self._with_signal = None

    def _show_runs(self, chosen: list[Recorded]) -> None:
        """What depends on the choice of runs alone."""
        self._shown = sorted({run.noise for run in chosen})
        seeds = sorted({run.seed for run in chosen})
        spread = np.linspace(-0.25, 0.25, len(seeds)) if len(seeds) > 1 else [0]
        self._heights = [self._shown.index(run.noise) + spread[seeds.index(run.seed)] for run in chosen]
        colours = [self._colours[run.noise] for run in chosen]
        crowd = min(1.0, (_CROWD / max(1, len(chosen))) ** 0.5)
        for lines, width, alpha in (
            (self._recorded, 1, 0.3),
            (self._smoothed, 1.8, 0.9),
            (self._accuracies, 1.4, 0.8),
        ):
            lines.set(colors=colours, linewidths=width * max(0.4, crowd), alpha=alpha * max(0.5, crowd))
        for marks, size in zip((*self._marks, self._oracles), (45, 45, 40, 90), strict=True):
            marks.set_sizes([size * max(0.35, crowd)])
        self._accuracies.set_segments(_lines(run.test_accuracy for run in chosen))
        _place(self._oracles, [(run.oracle, run.test_accuracy[run.oracle - 1]) for run in chosen])
        self._oracles.set_facecolor(colours)
        ends = _means((run.noise, run.gap(run.records)) for run in chosen)
        _place(self._ends, [(ends[noise], y) for y, noise in enumerate(self._shown)])
        self._ends.set_edgecolor([self._colours[noise] for noise in self._shown])
        longest = max((run.records for run in chosen), default=1)
        each = chosen[0].parameters["records_per_epoch"] if chosen else 1
        self._accuracy.xaxis.label.set_text("Record" if each == 1 else f"Record ({each} an epoch)")
        self._signal.set_xlim(_limits([[1, longest]], 0.01))
        self._accuracy.set_ylim(_limits(run.test_accuracy for run in chosen))
        self._gaps.set_ylim(max(1, len(self._shown)) - 0.5, -0.5)
        self._gaps.set_yticks(range(len(self._shown)), [noise_title(*noise) for noise in self._shown])
        for text, noise in zip(self._gaps.get_yticklabels(), self._shown, strict=True):
            text.set(color=self._colours[noise], fontsize=10 if len(self._shown) < 15 else 8)
        self._gaps.set_xlim(0, 1)
        self._widen(ends.values())

    def _widen(self, gaps: Iterable[float]) -> None:
        """Make room for gaps that do not fit; what was shown stays where it was while a slider moves."""
        _, high = _limits([[0, 1], list(gaps)])
        if high > self._gaps.get_xlim()[1]:
            self._gaps.set_xlim(-0.04 * high, high)
            self._background = None


def _colours(noises: Sequence[Noise]) -> dict[Noise, tuple]:
    """A hue a kind of noise, darker for a higher rate."""
    groups: dict[str, list[Noise]] = {}
    for noise in noises:
        groups.setdefault(_MAPS.get(noise[0], _OTHERS), []).append(noise)
    return {
        noise: mpl.colormaps[name](depth)
        for name, group in groups.items()
        for noise, depth in zip(group, np.linspace(0.5, 0.95, len(group)) if len(group) > 1 else [0.7], strict=True)
    }


def _lines(series: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [np.column_stack([np.arange(1, len(values) + 1), values]) for values in series]


def _place(marks, points: list[tuple[float, float]]) -> None:
    marks.set_offsets(np.reshape(points, (-1, 2)))


def _means(pairs: Iterable[tuple[Noise, float]]) -> dict[Noise, float]:
    """Mean of the values of each noise."""
    values: dict[Noise, list[float]] = {}
    for noise, value in pairs:
        values.setdefault(noise, []).append(value)
    return {noise: float(np.mean(of_noise)) for noise, of_noise in values.items()}


def _finite(series: Iterable) -> np.ndarray:
    values = np.concatenate([np.empty(0), *(np.asarray(part, dtype=float) for part in series)])
    return values[np.isfinite(values)]


def _limits(series: Iterable, margin: float = 0.05) -> tuple[float, float]:
    """Just around the finite values of some series; 0 and 1 without any."""
    values = _finite(series)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    room = margin * (high - low) or 0.05
    return low - room, high + room


def _png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels, RGBA of shape (height, width, 4).

    Pillow takes three times as long, because it tries every filter on every row.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 4 * width), dtype=np.uint8)  # the first byte of a row: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, level=1)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
