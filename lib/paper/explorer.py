"""The explorer of finished runs: controls, and a figure that follows them at once; see `notebooks/explorer.ipynb`."""

import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd

from lib.catalogue import LABELS, noise_title
from lib.criteria import COLUMNS, SETTING, row_of_stop
from lib.paper.explorer_figure import Plot
from lib.paper.exploring import comparable
from lib.parameters import located
from lib.runs import table as runs
from lib.study.restop import FinishedRun, Outcome, Settings

_WIDEST = 30  # records of a window; a slider to all 200 of a run could not be set to 5


class Explorer(widgets.VBox):
    """Controls and figure of the finished runs of a folder.

    The controls are attributes: study, noises, seeds, criterion, layer, estimator, window, patience, quantile, mean,
    reset. Without any run there are none.

    Args:
        folder: holds one run folder a run; relative paths start at the project root.
        dpi: of the figure, pixels an inch.

    Attributes:
        settings: how the runs are stopped now.
        chosen: the runs that are shown.
        outcomes: one of each.
        skipped: folders that hold no finished run, with the reason.
        image: the figure.
        text: the numbers below the controls.
    """

    def __init__(self, folder: Path | str = "runs", dpi: int = 100):
        folder = located("folder", folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `skipped` tells
            table = runs.load(folder)
        self.skipped: dict[str, str] = table.attrs["skipped"]
        self.settings, self.chosen, self.outcomes = Settings(), list[FinishedRun](), list[Outcome]()
        self.text, self.image = widgets.HTML(), widgets.Image(format="png", layout={"max_width": "100%"})
        self._groups, self._dpi, self._held = comparable(table, folder), dpi, 0
        if not self._groups:
            self.text.value = escape(f"No finished run in {folder}: run `make demo` first.{self._left_out}")
            super().__init__([self.text])
            return
        self._make_controls()
        self._study_changed()
        columns = [
            widgets.VBox([self.study, self.criterion, self.layer, self.estimator]),
            self.noises,
            self.seeds,
            widgets.VBox([self.window, self.patience, self.quantile, widgets.HBox([self.mean, self.reset])]),
        ]
        super().__init__([widgets.HBox(columns), self.text, self.image])

    @property
    def table(self) -> pd.DataFrame:
        """Where the settings of now stop each chosen run: a row a run, with the columns of `lib.criteria.stops`."""
        rows = []
        for run, outcome in zip(self.chosen, self.outcomes, strict=True):
            about = {name: run.parameters[name] for name in ("run", *SETTING, "seed")}
            values = run.epoch, run.test_accuracy, run.test_accuracy_average
            stop = row_of_stop(*values, outcome.record, outcome.spent, outcome.reason, outcome.fallback)
            rows.append(about | {"criterion": self.settings.criterion} | stop)
        return pd.DataFrame(rows, columns=COLUMNS)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Move several controls inside this context; the figure follows once, in the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._update()

    def _make_controls(self) -> None:
        largest = max(self._groups, key=lambda name: len(self._groups[name].runs))
        self.study = _control(widgets.Dropdown, "Study", options=list(self._groups), value=largest)
        self.criterion = _control(widgets.Dropdown, "Criterion")
        self.layer = _control(widgets.Dropdown, "Layer")
        self.estimator = _control(widgets.Dropdown, "Estimator")
        self.noises = _control(widgets.SelectMultiple, "Noise", "220px", "45px", rows=7)
        self.seeds = _control(widgets.SelectMultiple, "Seed", "110px", "40px", rows=7)
        self.window = _control(widgets.IntSlider, "Window", "340px", min=1, max=1)
        self.patience = _control(widgets.IntSlider, "Patience", "340px", min=1, max=1)
        self.quantile = _control(widgets.FloatSlider, "Quantile", "340px", min=0.0, max=1.0, step=0.01)
        self.mean = _control(widgets.Checkbox, "Mean, no quantile", "180px", "0px")
        self.reset = widgets.Button(
            description="As recorded", tooltip="All sliders, layer and estimator as in the runs"
        )
        self.study.observe(self._study_changed, "value")
        self.reset.on_click(self._reset)
        chosen = (self.noises, self.seeds, self.criterion, self.layer, self.estimator)
        for control in (*chosen, self.mean, self.quantile, self.window, self.patience):
            control.observe(self._update, "value")

    def _study_changed(self, _change=None) -> None:
        group, criterion = self._groups[self.study.value], self.criterion.value
        self._plot = Plot(group.noises, self._dpi)
        with self.together():
            self.noises.options = [(noise_title(*noise), noise) for noise in group.noises]
            self.noises.value = group.noises
            self.seeds.options = self.seeds.value = group.seeds
            self.criterion.options = [(LABELS[name], name) for name in group.criteria]
            self.criterion.value = criterion if criterion in group.criteria else group.criteria[0]
            self.estimator.options = group.estimators
            self.layer.options = [(layer or "all neurons", layer) for layer in group.layers]
            longest = max(run.records for run in group.runs)
            self.window.max = max(min(longest, _WIDEST), group.own.window)
            self.patience.max = max(longest, group.own.patience)
            self._reset()
        for run in self.chosen:
            run.tells(self.settings.layer)  # so that the first move of a slider is as fast as the next

    def _reset(self, _button=None) -> None:
        """Set what a run is recorded with as most of the runs have it."""
        own = self._groups[self.study.value].own
        self._plot.fit()
        with self.together():
            self.window.value, self.patience.value, self.mean.value = own.window, own.patience, own.quantile is None
            if own.quantile is not None:
                self.quantile.value = own.quantile
            if self.layer.options:
                self.layer.value, self.estimator.value = own.layer, own.estimator

    def _update(self, _change=None) -> None:
        if self._held:
            return
        of_cnd = self.criterion.value == "cnd"
        for control in (self.layer, self.estimator, self.mean):
            control.disabled = not of_cnd
        self.quantile.disabled = not of_cnd or self.mean.value
        self.settings = Settings(
            criterion=self.criterion.value,
            window=self.window.value,
            patience=self.patience.value,
            quantile=None if self.mean.value else round(self.quantile.value, 6),
            layer=self.layer.value or "",
            estimator=self.estimator.value or "",
            rule=self._groups[self.study.value].own.rule,
        )
        group = self._groups[self.study.value]
        self.chosen = group.choose(self.settings, self.noises.value, self.seeds.value)
        self.outcomes = [run.stopped(self.settings) for run in self.chosen]
        self.draw()
        self.text.value = self._told()

    def draw(self) -> None:
        """Draw the figure anew."""
        self.image.value = self._plot.png(self.chosen, self.outcomes, self.settings)

    def _told(self) -> str:
        """Two lines of HTML: the numbers, and what was stopped and what not."""
        found = [(run, outcome) for run, outcome in zip(self.chosen, self.outcomes, strict=True) if outcome.record]
        what = LABELS[self.settings.criterion]
        if self.settings.criterion == "cnd":
            what += f", {self.settings.aggregated}"
        reasons = Counter(outcome.reason for outcome in self.outcomes if outcome.reason)
        not_stopped = "".join(f" Not {count}: {reason}." for reason, count in reasons.most_common())
        below = escape(f"{what}: {len(found)} of {len(self.chosen)} runs stopped.{not_stopped}{self._left_out}")
        if not self.chosen:
            return f"<b>No runs chosen</b><br>{escape(self._left_out)}"
        if not found:
            return f"<b>No stop</b><br>{below}"
        stops = np.array([(o.record, o.spent, o.gap) for _, o in found])
        ends = np.array([(run.oracle or math.nan, run.records, run.gap(run.records)) for run, _ in found])
        late = stops[:, 0] - ends[:, 0]
        (record, spent, gap), (_, records, without) = stops.mean(axis=0), ends.mean(axis=0)
        if math.isnan(gap):
            kept = f"Record {record:.1f} is kept on average, {spent:.1f} of {records:g} are trained"
            return f"<b>No gap, as there is no test set</b>. {kept}.<br>{below}"
        return (
            f"<b>Mean gap {gap:.2f} points</b> (without stopping {without:.2f}). "
            f"The kept record lies {abs(late.mean()):.1f} {'after' if late.mean() >= 0 else 'before'} the oracle's on "
            f"average ({np.abs(late).mean():.1f} apart). Trained {spent:.1f} of {records:g} records.<br>{below}"
        )

    @property
    def _left_out(self) -> str:
        return f" Left out, as `skipped` tells: {len(self.skipped)} unfinished or broken." if self.skipped else ""


def _control(kind: type[widgets.Widget], name: str, width: str = "270px", name_width: str = "70px", **options):
    return kind(description=name, layout={"width": width}, style={"description_width": name_width}, **options)
