"""Criteria: where each signal would have stopped a finished run, and what that costs against the oracle."""

import math

import numpy as np
import pandas as pd

from .catalogue import CRITERIA, END, LABELS, ORACLE
from .stopping import select_record

__all__ = ["CRITERIA", "END", "LABELS", "ORACLE", "SETTING", "gap", "oracle", "row_of_stop", "stops"]

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
    first = {name: values[0] for name, values in run.items()}
    constant = {name: first[name] for name in ("run", *SETTING, "seed")}
    asked = first["criteria"].split(",")
    rows: list[tuple] = []
    for name in CRITERIA:
        if name in asked:
            try:
                chosen = select_record(run[name], CRITERIA[name].mode, int(first["window"]), int(first["patience"]))
                rows.append((name, *chosen))
            except ValueError as error:
                rows.append((name, None, None, str(error)))
    records = len(run["epoch"])
    rows += [(END, records, records), (ORACLE, oracle(run["test_accuracy"]), records)]
    values = run["epoch"], run["test_accuracy"]
    return [constant | {"criterion": name} | row_of_stop(*values, *stop) for name, *stop in rows]


def row_of_stop(
    epoch: np.ndarray, test_accuracy: np.ndarray, record: int | None, spent: int | None, reason: str = ""
) -> dict[str, float | str]:
    """The columns of `stops`, from record to reason, for a run that stops there.

    Args:
        epoch, test_accuracy: at each record of the run, shape (n,).
        record, spent: counted from 1; None where none can be chosen.
        reason: why not.
    """
    best = oracle(test_accuracy)
    return {
        "record": record or math.nan,
        "epoch": _at(epoch, record),
        "spent": spent or math.nan,
        "spent_epochs": _at(epoch, spent),
        "test_accuracy": _at(test_accuracy, record),
        "oracle_accuracy": _at(test_accuracy, best),
        "gap": gap(test_accuracy, record),
        "epochs_late": _at(epoch, record) - _at(epoch, best),
        "reason": reason,
    }


def oracle(test_accuracy: np.ndarray) -> int:
    """The first record of highest test accuracy, counted from 1; a record without a value, NaN, is none."""
    return int(np.argmax(np.nan_to_num(test_accuracy, nan=-1))) + 1


def gap(test_accuracy: np.ndarray, record: int | None) -> float:
    """Percentage points of test accuracy at a record, counted from 1, below the oracle; NaN without a record."""
    return 100 * (_at(test_accuracy, oracle(test_accuracy)) - _at(test_accuracy, record))


def _at(values: np.ndarray, record: int | None) -> float:
    return values[record - 1] if record else math.nan
