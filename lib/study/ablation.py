"""What the choices in CND are worth: each changed by itself, everything else as in the study."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.catalogue import CRITERIA, noise_title
from lib.criteria import stops
from lib.parameters import parameter_label
from lib.stopping import select_smoothed, smooth
from lib.study.restop import finished_runs
from lib.study.statistics import seed_interval
from lib.study.studies import SETTING_OF_A_RUN, Study, Variant

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
WINDOWS = (1, 2, 3, 5, 8, 12)
PATIENCES = (1, 2, 5, 10, 20, 50)
MEAN = "mean"
_CND, _AVERAGE = ("cnd", "gap"), ("consensus", "gap_average")  # of CND's choices, and of those of the average


class Divergences:
    """The runs of a table that store the divergences of their neurons.

    Args:
        table: of `lib.runs.load`; runs without divergences, or with damaged ones, are left out.
        folder: holds the run folders; relative paths start at the project root.

    Attributes:
        runs: that are left.
    """

    def __init__(self, table: pd.DataFrame, folder: Path | str):
        self.runs = [run for run in finished_runs(table, folder) if "cnd" in run.criteria and run.tells()]

    @property
    def layers(self) -> list[str]:
        """The layers that every run stores, in the order of the network."""
        first = self.runs[0].layers if self.runs else {}
        return [layer for layer in first if all(layer in run.layers for run in self.runs)]

    def gaps(
        self,
        aggregations: Sequence[float | str | None] = (None,),
        windows: Sequence[int | None] = (None,),
        patiences: Sequence[int | None] = (None,),
        layer: str | None = None,
    ) -> np.ndarray:
        """Points below the oracle of the records that CND keeps by each run's rule, in all combinations.

        Args:
            aggregations: quantiles over the neurons, or `MEAN`; None, here as elsewhere: as the run has it.
            windows, patiences: in records.
            layer: by its name.

        Returns:
            Shape (aggregations, windows, patiences, runs); NaN where CND can keep no record.
        """
        found = np.full((len(aggregations), len(windows), len(patiences), len(self.runs)), np.nan)
        for (i, aggregation), (r, run) in itertools.product(enumerate(aggregations), enumerate(self.runs)):
            changed: dict[str, Any] = {} if layer is None else {"layer": layer}
            if aggregation is not None:
                changed["quantile"] = None if aggregation == MEAN else aggregation
            signal = run.signal(replace(run.own, **changed))
            late = int(np.isfinite(signal).argmax())
            for j, window in enumerate(windows):
                smoothed = smooth(signal, window or run.own.window)
                for k, patience in enumerate(patiences):
                    wait = patience or run.own.patience
                    record = select_smoothed(smoothed, CRITERIA["cnd"].mode, wait, run.own.rule, late)
                    found[i, j, k, r] = run.gap(record)
        return found

    def compared(self, gaps: np.ndarray, reference: np.ndarray) -> pd.DataFrame:
        """Gaps and those of the study, shape (runs,), as a row a run: dataset, seed, gap, reference."""
        about = {name: [run.parameters[name] for run in self.runs] for name in ("dataset", "seed")}
        return pd.DataFrame(about | {"gap": gaps, "reference": reference})


def runs_with_layers(study: Study) -> pd.DataFrame:
    """The runs of a study that store several layers, or those that repeat its trainings to store them."""
    trained_alike = [study.runs, *(variant.runs for variant in study.variants if not variant.changed)]
    return next((runs for runs in trained_alike if runs["cnd_stored_layers"].iloc[0]), study.runs)


def table(study: Study, folder: Path | str) -> pd.DataFrame:
    """Gaps of CND with one choice changed at a time, on the same noises and seeds as the study.

    What the average of the weights reaches back is no choice in CND: its gaps are those of the average that is kept
    where the consensus stops.

    Args:
        study: with its variants; layers, aggregations, windows and patiences come from its stored divergences.
        folder: holds the run folders.

    Returns:
        A row a choice and value: choice, value, runs compared (those that both ways stop), failed (those where the
        change keeps no record), gap and its ends (points, mean over runs, `seed_interval`), difference to the study's
        on the same runs and its ends; of the study itself the difference is 0.
    """
    with_layers = runs_with_layers(study)
    stored = Divergences(study.runs, folder)
    layered = stored if with_layers is study.runs else Divergences(with_layers, folder)
    rows = []
    choices = (*_stored_choices(stored), *_layers(layered), *_unfiltered(study), *_variants(study))
    for choice, value, compared in choices:
        compared["difference"] = compared["gap"] - compared["reference"]
        row = {"choice": choice, "value": value, "runs": compared["difference"].count()}
        row["failed"] = compared["gap"].isna().sum()
        for quantity in ("gap", "difference"):
            low, high = seed_interval(compared, quantity)
            row |= {quantity: compared[quantity].mean(), f"{quantity}_low": low, f"{quantity}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _stored_choices(stored: Divergences) -> Iterator[tuple[str, str, pd.DataFrame]]:
    if not stored.runs:
        return
    reference = stored.gaps()[0, 0, 0]
    yield "as in the study", "", stored.compared(reference, reference)
    aggregations = {MEAN: MEAN} | {f"{100 * quantile:g}% quantile": quantile for quantile in QUANTILES}
    windows = {_in_records(window): window for window in WINDOWS if window <= stored.runs[0].records}
    patiences = {_in_records(patience): patience for patience in PATIENCES}
    for choice, values, gaps in (
        ("aggregation over neurons", aggregations, stored.gaps(aggregations=[*aggregations.values()])[:, 0, 0]),
        ("window", windows, stored.gaps(windows=[*windows.values()])[0, :, 0]),
        ("patience", patiences, stored.gaps(patiences=PATIENCES)[0, 0]),
    ):
        for value, of_value in zip(values, gaps, strict=True):
            yield choice, value, stored.compared(of_value, reference)
    if any(run.own.rule != "published" for run in stored.runs):
        published = np.array([run.stopped(replace(run.own, rule="published")).gap for run in stored.runs])
        yield "stopping rule", "as published", stored.compared(published, reference)


def _in_records(number: int) -> str:
    return f"{number} record{'s' * (number > 1)}"


def _layers(stored: Divergences) -> Iterator[tuple[str, str, pd.DataFrame]]:
    if len(stored.layers) > 1:
        reference = stored.gaps()[0, 0, 0]
        for layer in stored.layers:
            yield "layer", layer, stored.compared(stored.gaps(layer=layer)[0, 0, 0], reference)


def _unfiltered(study: Study) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """CND of all samples, which runs record beside that of the samples that the study's filter lets through."""
    runs = study.runs
    if "cnd_given_all" in runs and runs["cnd_given_all"].notna().any() and runs["cnd_filter"].iloc[0] != "all":
        yield parameter_label("cnd_filter"), "all", _compared(runs.assign(cnd=runs["cnd_given_all"]), runs, *_CND)


def is_shown(variant: Variant) -> bool:
    """Whether a variant changes a choice in CND or in the average, and nothing about training."""
    return bool(variant.changed) and "validation_share" not in variant.changed


def _variants(study: Study) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for variant in sorted(
        filter(is_shown, study.variants),
        key=lambda variant: [(name, str(type(value)), value) for name, value in variant.changed.items()],
    ):
        read, told = (_AVERAGE, ", consensus, average kept") if "average_epochs" in variant.changed else (_CND, "")
        compared = _compared(variant.runs, study.runs, *read)
        if len(compared):
            choice = ", ".join(parameter_label(name) for name in variant.changed)
            value = ", ".join(str(value).replace("_", " ") for value in variant.changed.values())
            yield choice + told, value, compared


def _compared(changed: pd.DataFrame, own: pd.DataFrame, criterion: str, gap: str) -> pd.DataFrame:
    """Gaps of a criterion in changed runs and in those of the study, where both are: columns gap and reference."""
    both = [_gaps_of(runs, criterion, gap) for runs in (changed, own)]
    return pd.concat(both, axis=1, keys=["gap", "reference"], join="inner").reset_index()


def _gaps_of(runs: pd.DataFrame, criterion: str, gap: str) -> pd.Series:
    of_criterion = stops(runs).query("criterion == @criterion").drop_duplicates(SETTING_OF_A_RUN)
    return of_criterion.set_index(["dataset", *SETTING_OF_A_RUN])[gap]


def heat_maps(stored: Divergences) -> dict[str, pd.DataFrame]:
    """Mean gap of CND over runs, in points, as two choices change together: each table's rows and columns are named."""
    window, patience = pd.Index(WINDOWS, name="window"), pd.Index(PATIENCES, name="patience")
    quantile = pd.Index([f"{100 * q:g}%" for q in QUANTILES], name="quantile")
    maps = (
        (window, patience, stored.gaps((None,), WINDOWS, PATIENCES)[0]),
        (window, quantile, stored.gaps(QUANTILES, WINDOWS)[:, :, 0].swapaxes(0, 1)),
        (patience, quantile, stored.gaps(QUANTILES, (None,), PATIENCES)[:, 0].swapaxes(0, 1)),
    )
    return {
        f"{rows.name} × {columns.name}": pd.DataFrame(
            np.ma.masked_invalid(gaps).mean(axis=-1).filled(np.nan), index=rows, columns=columns
        )
        for rows, columns, gaps in maps
    }


def layer_signals(stored: Divergences) -> pd.DataFrame:
    """CND of each stored layer over the epochs: a row a run, record and layer (noise, seed, layer, epoch, cnd)."""
    rows = []
    for layer, run in itertools.product(stored.layers, stored.runs):
        about = {"noise": noise_title(*run.noise), "seed": run.seed, "layer": layer}
        rows.append(pd.DataFrame(about | {"epoch": run.epoch, "cnd": run.signal(replace(run.own, layer=layer))}))
    columns = ["noise", "seed", "layer", "epoch", "cnd"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
