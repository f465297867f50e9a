"""What the choices in CND are worth: each changed by itself, everything else as in the study."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.catalogue import noise_title
from lib.criteria import CRITERIA
from lib.parameters import ROOT, parameter_label
from lib.runs.folder import divergence_by_layer
from lib.stopping import select_record, select_smoothed, smooth
from lib.study.statistics import intervals
from lib.study.studies import SETTING_OF_A_RUN, Study, Variant

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
WINDOWS = (1, 2, 3, 5, 8, 12)
PATIENCES = (1, 2, 5, 10, 20, 50)
MEAN = "mean"
_OF_RUNS = [
    "run",
    *SETTING_OF_A_RUN,
    *("criteria", "window", "patience", "epochs", "records_per_epoch"),
    *("cnd_layer", "cnd_aggregation", "cnd_quantile"),
]


def gap_at_stop(signal: np.ndarray, accuracy: np.ndarray, window: int, patience: int) -> float:
    """Points below the oracle of the record that CND keeps; NaN where it can keep none. Shapes (records,)."""
    try:
        record = select_record(signal, CRITERIA["cnd"].mode, window, patience).record
    except ValueError:
        return np.nan
    return 100 * (np.nanmax(accuracy) - accuracy[record - 1])


class Divergences:
    """The stored divergences of runs, each layer sorted over its neurons so that quantiles are cheap.

    Args:
        runs: table of `lib.runs.load`; runs that store no divergences are left out.
        folder: holds the run folders; relative paths start at the project root.

    Attributes:
        runs: of each run what CND and its stop were set to.
    """

    def __init__(self, runs: pd.DataFrame, folder: Path | str):
        self.runs: list[pd.Series] = []
        self._sorted: list[dict[str, np.ndarray]] = []
        self._accuracies: list[np.ndarray] = []
        for name, records in runs[[*_OF_RUNS, "test_accuracy"]].groupby("run", sort=True, observed=True):
            first = records.iloc[0]
            if "cnd" not in first["criteria"].split(","):
                continue
            try:
                layers = divergence_by_layer(ROOT / folder / str(name))
            except FileNotFoundError:
                continue
            self.runs.append(first)
            self._sorted.append({layer: np.sort(bits, axis=1) for layer, bits in layers.items()})
            self._accuracies.append(records["test_accuracy"].to_numpy())

    @property
    def layers(self) -> list[str]:
        """The layers that every run stores, in the order of the network."""
        if not self._sorted:
            return []
        return [layer for layer in self._sorted[0] if all(layer in stored for stored in self._sorted)]

    def signals(self, aggregation: float | str | None = None, layer: str | None = None) -> Iterator[np.ndarray]:
        """CND of each run, shape (records,), by a quantile or `MEAN` of a layer's neurons; None: as the run has it."""
        for first, stored in zip(self.runs, self._sorted, strict=True):
            bits = stored[layer or first["cnd_layer"] or list(stored)[-1]]
            chosen = aggregation
            if chosen is None:
                chosen = MEAN if first["cnd_aggregation"] == "mean" else first["cnd_quantile"]
            yield bits.mean(axis=1) if chosen == MEAN else sorted_quantile(bits, float(chosen))

    def gaps(
        self,
        aggregations: Sequence[float | str | None] = (None,),
        windows: Sequence[int | None] = (None,),
        patiences: Sequence[int | None] = (None,),
        layer: str | None = None,
    ) -> np.ndarray:
        """Points below the oracle of the records that CND keeps, in all combinations; None: as the run has it.

        Returns:
            Shape (aggregations, windows, patiences, runs); NaN where CND can keep no record.
        """
        found = np.full((len(aggregations), len(windows), len(patiences), len(self.runs)), np.nan)
        for i, aggregation in enumerate(aggregations):
            for run, signal in enumerate(self.signals(aggregation, layer)):
                first, accuracy = self.runs[run], self._accuracies[run]
                for j, window in enumerate(windows):
                    smoothed = smooth(signal, window or int(first["window"]))
                    for k, patience in enumerate(patiences):
                        record = select_smoothed(smoothed, CRITERIA["cnd"].mode, patience or int(first["patience"]))
                        if record:
                            found[i, j, k, run] = 100 * (np.nanmax(accuracy) - accuracy[record - 1])
        return found


def runs_with_layers(study: Study) -> pd.DataFrame:
    """The runs of a study that store several layers, or those that repeat its trainings to store them."""
    trained_alike = [study.runs, *(variant.runs for variant in study.variants if not variant.changed)]
    return next((runs for runs in trained_alike if runs["cnd_stored_layers"].iloc[0]), study.runs)


def sorted_quantile(values: np.ndarray, quantile: float) -> np.ndarray:
    """The quantile, interpolated linearly, of values sorted along the last axis; shape (n, m) gives (n,).

    As `lib.cnd.aggregate` takes it of values in any order; NaN where a value is missing.
    """
    place = quantile * (values.shape[1] - 1)
    low, high = (values[:, at].astype(np.float64) for at in (math.floor(place), math.ceil(place)))
    weight = place % 1
    found = low + weight * (high - low) if weight < 0.5 else high - (1 - weight) * (high - low)
    return np.where(np.isnan(values[:, -1]), np.nan, found)


def table(study: Study, folder: Path | str) -> pd.DataFrame:
    """Gaps of CND with one choice changed at a time, on the same noises and seeds as the study.

    Args:
        study: with its variants; layers, aggregations, windows and patiences come from its stored divergences.
        folder: holds the run folders.

    Returns:
        A row a choice and value: choice, value, runs compared (those that both ways stop), failed (those where the
        change keeps no record), gap and its ends (points, mean over runs), difference to the study's on the same runs
        and its ends; of the study itself the difference is 0.
    """
    with_layers = runs_with_layers(study)
    stored = Divergences(study.runs, folder)
    layered = stored if with_layers is study.runs else Divergences(with_layers, folder)
    rows = [*_stored_choices(stored), *_layers(layered), *_variants(study)]
    samples = [values[np.isfinite(values)] for row in rows for values in (row["gaps"], row["gaps"] - row["reference"])]
    ends = intervals(samples).reshape(len(rows), 2, 2)
    told = []
    for i, row in enumerate(rows):
        gaps, differences = samples[2 * i : 2 * i + 2]
        told.append(
            {
                "choice": row["choice"],
                "value": row["value"],
                "runs": len(differences),
                "failed": int(np.isnan(row["gaps"]).sum()),
                "gap": gaps.mean() if len(gaps) else np.nan,
                "gap_low": ends[i, 0, 0],
                "gap_high": ends[i, 0, 1],
                "difference": differences.mean() if len(differences) else np.nan,
                "difference_low": ends[i, 1, 0],
                "difference_high": ends[i, 1, 1],
            }
        )
    return pd.DataFrame(told)


def _stored_choices(stored: Divergences) -> Iterator[dict]:
    if not stored.runs:
        return
    longest = stored.runs[0]["epochs"] * stored.runs[0]["records_per_epoch"]
    windows = [window for window in WINDOWS if window <= longest]
    changed = {
        "aggregation over neurons": stored.gaps(aggregations=(MEAN, *QUANTILES))[:, 0, 0],
        "window": stored.gaps(windows=windows)[0, :, 0],
        "patience": stored.gaps(patiences=PATIENCES)[0, 0],
    }
    named = {
        "aggregation over neurons": [MEAN, *(f"{100 * quantile:g}% quantile" for quantile in QUANTILES)],
        "window": [f"{window} record{'s' * (window > 1)}" for window in windows],
        "patience": [f"{patience} record{'s' * (patience > 1)}" for patience in PATIENCES],
    }
    reference = stored.gaps()[0, 0, 0]
    yield _row("as in the study", "", reference, reference)
    for choice, values in named.items():
        for value, gaps in zip(values, changed[choice], strict=True):
            yield _row(choice, value, gaps, reference)


def _layers(stored: Divergences) -> Iterator[dict]:
    if len(stored.layers) > 1:
        reference = stored.gaps()[0, 0, 0]
        for layer in stored.layers:
            yield _row("layer", layer, stored.gaps(layer=layer)[0, 0, 0], reference)


def is_shown(variant: Variant) -> bool:
    """Whether a variant changes a choice in CND, and nothing about training."""
    return bool(variant.changed) and "validation_share" not in variant.changed


def _variants(study: Study) -> Iterator[dict]:
    reference = _gaps_of(study.runs)
    for variant in sorted(
        study.variants, key=lambda variant: [(name, str(type(value)), value) for name, value in variant.changed.items()]
    ):
        if not is_shown(variant):
            continue
        both = pd.concat([_gaps_of(variant.runs), reference], axis=1, keys=["variant", "study"], join="inner")
        if len(both):
            choice = ", ".join(parameter_label(name) for name in variant.changed)
            value = ", ".join(str(value).replace("_", " ") for value in variant.changed.values())
            yield _row(choice, value, both["variant"].to_numpy(), both["study"].to_numpy())


def _gaps_of(runs: pd.DataFrame) -> pd.Series:
    found = {}
    needed = [*_OF_RUNS, "cnd", "test_accuracy"] if "cnd" in runs else _OF_RUNS
    for key, records in runs[needed].groupby(SETTING_OF_A_RUN, observed=True):
        first = records.iloc[0]
        if "cnd" in first["criteria"].split(","):
            signal, accuracy = records["cnd"].to_numpy(), records["test_accuracy"].to_numpy()
            found[key] = gap_at_stop(signal, accuracy, int(first["window"]), int(first["patience"]))
    return pd.Series(found, dtype=float)


def _row(choice: str, value: str, gaps: np.ndarray, reference: np.ndarray) -> dict:
    return {"choice": choice, "value": value, "gaps": gaps, "reference": reference}


def heat_maps(stored: Divergences) -> dict[str, pd.DataFrame]:
    """Mean gap of CND over runs, in points, as two choices change together: each table's rows and columns are named."""
    pairs = {
        "window × patience": stored.gaps((None,), WINDOWS, PATIENCES)[0],
        "window × quantile": stored.gaps(QUANTILES, WINDOWS)[:, :, 0].swapaxes(0, 1),
        "patience × quantile": stored.gaps(QUANTILES, (None,), PATIENCES)[:, 0].swapaxes(0, 1),
    }
    names = {"window": WINDOWS, "patience": PATIENCES, "quantile": [f"{100 * q:g}%" for q in QUANTILES]}
    found = {}
    for title, cells in pairs.items():
        rows, columns = title.split(" × ")
        found[title] = pd.DataFrame(_means(cells), index=names[rows], columns=names[columns])
        found[title].index.name, found[title].columns.name = rows, columns
    return found


def _means(values: np.ndarray) -> np.ndarray:
    """Means over the last axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0).sum(axis=-1) / finite.sum(axis=-1)


def layer_signals(stored: Divergences) -> pd.DataFrame:
    """CND of each stored layer over the epochs: a row a run, record and layer (noise, seed, layer, epoch, cnd)."""
    rows = []
    for layer in stored.layers:
        for run, signal in zip(stored.runs, stored.signals(layer=layer), strict=True):
            about = {"noise": noise_title(run["noise"], run["noise_rate"]), "seed": run["seed"], "layer": layer}
            epochs = np.arange(1, len(signal) + 1) / run["records_per_epoch"]
            rows.append(pd.DataFrame(about | {"epoch": epochs, "cnd": signal}))
    return (
        pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["noise", "seed", "layer", "epoch", "cnd"])
    )
