"""The figure of `lib.paper.explorer`: signals, test accuracies and gaps of many runs, drawn anew as a slider moves."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lib.catalogue import CRITERIA, LABELS, NOISES, Noise, noise_title
from lib.study.restop import FinishedRun, Outcome, Settings

Series = Sequence[float] | np.ndarray
_SIZE = (10.5, 4.4)  # inches: with the controls above it, what a laptop shows of a cell's output without scrolling
_STYLE: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "0.9"}
_STYLE |= {"axes.axisbelow": True, "axes.titlesize": 9, "axes.titlelocation": "right", "axes.titley": 1.02}
_CROWD = 20  # runs, from which on lines get thin and see-through


class Plot:
    """Signals above test accuracies, a line a run, beside the gaps to the oracle; a colour a noise and rate.

    Args:
        noises: all that may be shown, so that each keeps its colour whichever are chosen.
        dpi: pixels an inch.
    """

    def __init__(self, noises: Sequence[tuple[str, float]], dpi: int):
        self._colours = _colours(noises)
        self._seen: dict[Axes, tuple[Any, np.ndarray]] = {}
        figure = Figure(figsize=_SIZE, dpi=dpi)
        self._canvas = FigureCanvasAgg(figure)
        places = {"left": 0.075, "right": 0.615, "top": 0.93, "bottom": 0.115, "hspace": 0.2}
        with mpl.rc_context(_STYLE):
            self._signal, self._accuracy = figure.subplots(2, 1, sharex=True, gridspec_kw=places)
            self._gaps = figure.add_axes((0.775, 0.115, 0.2, 0.815))
            self._signal.set_title("pale: as recorded   strong: smoothed   ● stop")
            self._accuracy.set_title("● stop   ★ oracle")
            self._gaps.set_title("● run   | mean   ◇ mean without stopping")
        self._accuracy.set_ylabel("Test accuracy")
        self._gaps.set_xlabel("Gap to oracle (points)")
        # Labels stay where they are as the numbers beside them get longer.
        for axis in (self._signal, self._accuracy):
            axis.yaxis.set_label_coords(-0.09, 0.5)

    def fit(self) -> None:
        """Forget how far axes grew while sliders moved."""
        self._seen.clear()

    def png(self, runs: list[FinishedRun], outcomes: list[Outcome], settings: Settings) -> bytes:
        """The figure of where the settings stop each of the runs, as a PNG file."""
        for axis in (self._signal, self._accuracy, self._gaps):
            for artist in list(axis.collections):
                artist.remove()
        self._colour = [self._colours[run.noise] for run in runs]
        self._thin = min(1.0, (_CROWD / max(1, len(runs))) ** 0.5)
        drawn = tuple((*run.noise, run.seed) for run in runs)
        self._draw_signals(outcomes, settings, drawn)
        self._draw_accuracies(runs, outcomes)
        self._draw_gaps(runs, outcomes, drawn)
        image = io.BytesIO()
        self._canvas.print_png(image, pil_kwargs={"compress_level": 1})
        return image.getvalue()

    def _draw_signals(self, outcomes: list[Outcome], settings: Settings, drawn: tuple[Any, ...]) -> None:
        axis, signals, smoothed = self._signal, [o.signal for o in outcomes], [o.smoothed for o in outcomes]
        self._lines(axis, signals, 1, 0.3)
        self._lines(axis, smoothed, 1.8, 0.9)
        self._dots(axis, _points([o.record for o in outcomes], smoothed))
        axis.set_ylabel(f"{LABELS[settings.criterion]} ({CRITERIA[settings.criterion].unit})")
        recorded = _finite(signals)
        # The first records may lie far off, and would press all others together.
        usual = np.percentile(recorded, [1, 99]) if len(recorded) else []
        shown = (settings.criterion, settings.layer, settings.estimator, settings.quantile, drawn)
        axis.set_ylim(self._grown(axis, shown, [usual, *smoothed]))

    def _draw_accuracies(self, runs: list[FinishedRun], outcomes: list[Outcome]) -> None:
        axis, accuracies = self._accuracy, [run.test_accuracy for run in runs]
        self._lines(axis, accuracies, 1.4, 0.8)
        best = _points([run.oracle for run in runs], accuracies)
        self._dots(axis, best, 90, marker="*", edgecolors="k", zorder=3)
        self._dots(axis, _points([o.record for o in outcomes], accuracies))
        each = runs[0].parameters["records_per_epoch"] if runs else 1
        axis.set_xlabel("Record" if each == 1 else f"Record ({each} an epoch)")
        axis.set_xlim(_limits([[1, max((run.records for run in runs), default=1)]], 0.01))
        axis.set_ylim(_limits(accuracies))

    def _draw_gaps(self, runs: list[FinishedRun], outcomes: list[Outcome], drawn: tuple[Any, ...]) -> None:
        axis, seeds = self._gaps, sorted({run.seed for run in runs})
        noises = [noise for noise in self._colours if noise in {run.noise for run in runs}]
        spread = np.linspace(-0.25, 0.25, len(seeds)) if len(seeds) > 1 else [0]
        heights = [noises.index(run.noise) + spread[seeds.index(run.seed)] for run in runs]
        gaps = pd.DataFrame({"stopped": [o.gap for o in outcomes], "end": [run.gap(run.records) for run in runs]})
        self._dots(axis, list(zip(gaps["stopped"], heights, strict=True)), 40)
        means = gaps.groupby([noises.index(run.noise) for run in runs]).mean()
        colours = [self._colours[noise] for noise in noises]
        axis.scatter(means["end"], means.index, s=30, marker="D", facecolors="none", edgecolors=colours, linewidths=1.2)
        axis.scatter(means["stopped"], means.index, s=300, c="k", marker="|", linewidths=2.5, zorder=5)
        axis.set_xlim(self._grown(axis, drawn, [[0, 1], gaps["stopped"], means["end"]]))
        axis.set_ylim(max(1, len(noises)) - 0.5, -0.5)
        axis.set_yticks(range(len(noises)), [noise_title(*noise) for noise in noises])
        for text, colour in zip(axis.get_yticklabels(), colours, strict=True):
            text.set(color=colour, fontsize=10 if len(noises) < 15 else 8)

    def _lines(self, axis: Axes, series: list[np.ndarray], width: float, alpha: float) -> None:
        """A line a run over its records, the thinner and paler the more there are."""
        paths = [np.column_stack([np.arange(1, len(values) + 1), values]) for values in series]
        width, alpha = width * max(0.4, self._thin), alpha * max(0.5, self._thin)
        lines = LineCollection(paths, colors=self._colour, linewidths=width, alpha=alpha)
        axis.add_collection(lines, autolim=False)

    def _dots(self, axis: Axes, points: Sequence[tuple[float, float]], size: float = 45, **look: Any) -> None:
        """A mark a run, in its colour; none where a coordinate is NaN."""
        x, y = np.reshape(points, (-1, 2)).T
        default: dict[str, Any] = {"edgecolors": "w", "linewidths": 0.5, "zorder": 4}
        axis.scatter(x, y, s=size * max(0.35, self._thin), c=self._colour, **(default | look))

    def _grown(self, axis: Axes, shown: tuple[Any, ...], series: Iterable[Series]) -> tuple[float, float]:
        """Limits around some series, and around all that were asked for before while the same was shown."""
        of, seen = self._seen.get(axis, (None, np.empty(0)))
        values = _finite([*series, seen if of == shown else []])
        self._seen[axis] = shown, values[[values.argmin(), values.argmax()]] if len(values) else values
        return _limits([values])


def _points(records: list[int | None], series: list[np.ndarray]) -> list[tuple[float, float]]:
    """A record of each series, counted from 1, and the value there; NaN where there is none."""
    pairs = zip(records, series, strict=True)
    return [(record, values[record - 1]) if record else (np.nan, np.nan) for record, values in pairs]


def _colours(noises: Sequence[tuple[str, float]]) -> dict[tuple[str, float], tuple[float, float, float, float]]:
    """A hue a kind of noise, darker for a higher rate."""
    maps = [NOISES[kind].colours if kind in NOISES else Noise.colours for kind, _ in noises]
    found = {}
    for place, (noise, name) in enumerate(zip(noises, maps, strict=True)):
        count, before = maps.count(name), maps[:place].count(name)
        found[noise] = mpl.colormaps[name](0.5 + 0.45 * before / (count - 1) if count > 1 else 0.7)
    return found


def _finite(series: Iterable[Series]) -> np.ndarray:
    values = np.concatenate([np.empty(0), *(np.asarray(part, dtype=float) for part in series)])
    return values[np.isfinite(values)]


def _limits(series: Iterable[Series], margin: float = 0.05) -> tuple[float, float]:
    """Just around the finite values of some series; 0 and 1 without any."""
    values = _finite(series)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    room = margin * (high - low) or 0.05
    return low - room, high + room
