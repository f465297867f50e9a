"""Criteria: where each signal would have stopped a finished run, and what that costs against the oracle."""

import math

import numpy as np
import pandas as pd

from .catalogue import CRITERIA, END, LABELS, ORACLE
from .stopping import select_record

__all__ = ["CRITERIA", "END", "LABELS", "ORACLE", "SETTING", "stops"]

SETTING = ["dataset", "noise", "noise_rate"]
"""Columns that make up a setting; runs that differ in nothing but the seed are its repetitions."""
_NEEDED = ("run", *SETTING, "seed", "criteria", "window", "patience", "epoch", "test_accuracy")


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
    needed = {*_NEEDED, *CRITERIA}
    columns = {name: performances[name].to_numpy() for name in performances.columns}
    for places in performances.groupby("run", sort=True, observed=True).indices.values():
        ordered = places[np.argsort(columns["record"][places], kind="stable")]
        rows += _stops_of_run({name: values[ordered] for name, values in columns.items() if name in needed})
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
    for name in CRITERIA:
        if name in asked:
            try:
                chosen = select_record(run[name], CRITERIA[name].mode, int(first["window"]), int(first["patience"]))
                rows.append(row(name, *chosen))
            except ValueError as error:
                rows.append(row(name, math.nan, math.nan, str(error)))
    return [*rows, row(END, records, records), row(ORACLE, best + 1, records)]
