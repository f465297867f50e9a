"""Criteria: where each signal would have stopped a finished run, and what that costs against the oracle."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.choices import CHOICES
from lib.stopping import select_record


@dataclass(frozen=True)
class Criterion:
    """A way to choose the record to keep.

    Attributes:
        name: the column of the signal, as in `Experiment.criteria`.
        label: how tables and figures call it.
        mode: "max" or "min", the extremum looked for, or "above_zero".
        unit: of the signal's values, for axes.
    """

    name: str
    label: str
    mode: str
    unit: str


CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion
    for criterion in (
        Criterion("cnd", "CND", "max", "bits"),
        Criterion("prediction_changes", "PC", "min", "share"),
        Criterion("known_polluted_accuracy", "KPA", "min", "accuracy"),
        Criterion("known_polluted_log_likelihood", "KPA log-lik.", "min", "nats"),
        Criterion("validation_accuracy_noisy", "Val. noisy", "max", "accuracy"),
        Criterion("validation_accuracy_clean", "Val. clean", "max", "accuracy"),
        Criterion("prediction_changes_long", "PC long", "min", "share"),
        Criterion("forgetting_events", "Forgetting", "min", "share"),
        Criterion("area_under_margin", "AUM", "max", "logits"),
        Criterion("firing_frequency", "Firing", "min", "share"),
        # On digits with 40 % symmetric noise (seeds 100 and 101) these three rise from the first record to the last:
        # they have no extremum near the best one, and as criteria they do not stop.
        Criterion("loss_sensitivity", "LS", "max", "nats/unit"),
        Criterion("batch_loss_sensitivity", "LS batch", "max", "nats/unit"),
        Criterion("critical_sample_ratio", "CSR", "max", "share"),
        Criterion("von_neumann_entropy", "von Neumann", "max", "nats"),
        Criterion("edge_entropy", "Shannon", "max", "nats"),
        Criterion("gradient_disparity", "GD", "min", "distance"),
        Criterion("evidence", "Evidence", "above_zero", "1"),
    )
}
"""Every criterion by name, in the order of tables and legends."""

ORACLE, END = "oracle", "end"
LABELS: dict[str, str] = {name: c.label for name, c in CRITERIA.items()} | {
    END: "No stopping",
    ORACLE: "Oracle",
}
"""What tables and figures call each criterion, with the two references: the last record, and the best one."""

PUBLISHED: dict[str, tuple[int, int, float]] = {
    "news": (100, 4, 0.1),
    "cifar10": (10, 5, 0.9),
    "cifar100": (10, 5, 0.9),
}
"""Patience and window in records, and CND quantile, of the final simulations."""

SETTING = ["dataset", "noise", "noise_rate"]
"""Columns that make up a setting; runs that differ in nothing but the seed are its repetitions."""
_NEEDED = {"run", *SETTING, "seed", "criteria", "window", "patience", "epoch", "test_accuracy", *CRITERIA}


def stops(performances: pd.DataFrame) -> pd.DataFrame:
    """Where each criterion stops each run, with the patience and window of the run.

    Args:
        performances: table of `lib.runs.load`.

    Returns:
        A row a run and criterion, and two rows of references (`oracle`, the first record of highest test accuracy,
        an upper bound and never a method; `end`, the last record). Columns: run, dataset, noise, noise_rate, seed,
        criterion, record, epoch, spent (records really trained), spent_epochs, test_accuracy (at the record),
        oracle_accuracy, gap (percentage points below the oracle), epochs_late (epoch - oracle's epoch), reason. Where a
        criterion can choose nothing, its numbers are NaN and the reason says why.
    """
    rows: list[dict] = []
    columns = {name: performances[name].to_numpy() for name in performances.columns}
    for places in performances.groupby("run", sort=True, observed=True).indices.values():
        ordered = places[np.argsort(columns["record"][places], kind="stable")]
        rows += _stops_of_run({name: values[ordered] for name, values in columns.items() if name in _NEEDED})
    return pd.DataFrame(rows)


def _stops_of_run(run: dict[str, np.ndarray]) -> list[dict]:
    test_accuracy, epoch = run["test_accuracy"], run["epoch"]
    first = {name: values[0] for name, values in run.items()}
    best, records = int(np.argmax(np.nan_to_num(test_accuracy, nan=-1))), len(epoch)
    constant = {"run": first["run"], **{name: first[name] for name in SETTING}, "seed": first["seed"]}

    def row(criterion: str, record: float, spent: float, reason: str = "") -> dict:
        found = not math.isnan(record)
        accuracy = test_accuracy[int(record) - 1] if found else math.nan
        return constant | {
            "criterion": criterion,
            "record": record,
            "epoch": epoch[int(record) - 1] if found else math.nan,
            "spent": spent,
            "spent_epochs": epoch[int(spent) - 1] if found else math.nan,
            "test_accuracy": accuracy,
            "oracle_accuracy": test_accuracy[best],
            "gap": 100 * (test_accuracy[best] - accuracy),
            "epochs_late": epoch[int(record) - 1] - epoch[best] if found else math.nan,
            "reason": reason,
        }

    rows = []
    asked = first["criteria"].split(",")
    for name in CHOICES["criteria"]:
        if name in asked:
            try:
                chosen = select_record(run[name], CRITERIA[name].mode, int(first["window"]), int(first["patience"]))
                rows.append(row(name, *chosen))
            except ValueError as error:
                rows.append(row(name, math.nan, math.nan, str(error)))
    return [*rows, row(END, records, records), row(ORACLE, best + 1, records)]
