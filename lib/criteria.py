"""Criteria: where each signal would have stopped a finished run, and what that costs against the oracle."""

import math
from typing import Any

import numpy as np
import pandas as pd

from .catalogue import CRITERIA, END, LABELS, ORACLE
from .stopping import RULES, EarlyStopping, begins_highest, select_consensus, select_record

__all__ = ["COLUMNS", "CRITERIA", "END", "LABELS", "ORACLE", "SETTING", "oracle", "row_of_stop", "stops"]

SETTING = ["dataset", "noise", "noise_rate"]
"""Columns that make up a setting; runs that differ in nothing but the seed are its repetitions."""


def stops(performances: pd.DataFrame) -> pd.DataFrame:
    """Where each criterion stops each run, with the patience and window of the run.

    Args:
        performances: table of `lib.runs.load`.

    Returns:
        A row a run and criterion, and two rows of references (`oracle`, the first record of highest test accuracy,
        an upper bound and never a method, none without a test set; `end`, the last record). Columns: run, dataset,
        noise, noise_rate, seed, criterion, record, epoch, spent (records really trained), spent_epochs, test_accuracy
        (there), test_accuracy_average (of the averaged weights), oracle_accuracy, gap and gap_average (percentage
        points below the oracle, where the snapshot or the average is kept), gap_to_best and gap_average_to_best (below
        the better of the oracles of both), epochs_late (epoch - oracle's epoch), fallback (whether the signal of a
        maximum never rose, so that what is kept is merely its first record), reason. Where a criterion can choose
        nothing, its numbers are NaN and the reason says why; of a consensus the reason also names the members that had
        no say. Without an average its columns are NaN.
    """
    rows: list[dict[str, Any]] = []
    columns = {name: performances[name].to_numpy() for name in performances.columns}
    for places in performances.groupby("run", sort=True, observed=True).indices.values():
        ordered = places[np.argsort(columns["record"][places], kind="stable")]
        rows += _stops_of_run({name: values[ordered] for name, values in columns.items()})
    return pd.DataFrame(rows)


def _stops_of_run(run: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    first = {name: values[0] for name, values in run.items()}
    constant = {name: first[name] for name in ("run", *SETTING, "seed")}
    asked = first["criteria"].split(",")
    rows: list[tuple[Any, ...]] = []
    settings, rule = (int(first["window"]), int(first["patience"])), first.get("stopping_rule", RULES[0])
    for name, criterion in CRITERIA.items():
        members = [member for member in criterion.members if member in asked]
        if name not in asked and len(members) < 2:
            continue
        try:
            if members:
                enough = criterion.window and len(run["epoch"]) >= criterion.least_records
                own = (criterion.window, criterion.patience) if enough else settings
                rows.append((name, *_consensus(run, members, *own)))
                continue
            record, spent = select_record(run[name], criterion.mode, *settings, rule=rule)
            fallback = criterion.mode == "max" and begins_highest(run[name], settings[0], spent)
            rows.append((name, record, spent, "", fallback))
        except ValueError as error:
            rows.append((name, None, None, str(error)))
    records = len(run["epoch"])
    best = oracle(run["test_accuracy"])
    rows += [(END, records, records), (ORACLE, best, records if best else None, "" if best else "there is no test set")]
    values = run["epoch"], run["test_accuracy"], run.get("test_accuracy_average")
    return [constant | {"criterion": name} | row_of_stop(*values, *stop) for name, *stop in rows]


def _consensus(run: dict[str, np.ndarray], members: list[str], window: int, patience: int) -> tuple[int, int, str]:
    stoppings = {name: EarlyStopping(CRITERIA[name].mode, window, patience) for name in members}
    record, spent, left_out = select_consensus({name: run[name] for name in members}, stoppings)
    return record, spent, f"without {', '.join(LABELS[name] for name in left_out)}" if left_out else ""


def row_of_stop(
    epoch: np.ndarray,
    test_accuracy: np.ndarray,
    test_accuracy_average: np.ndarray | None,
    record: int | None,
    spent: int | None,
    reason: str = "",
    fallback: bool = False,
) -> dict[str, float | str]:
    """The columns of `stops`, from record to reason, for a run that stops there.

    Args:
        epoch, test_accuracy, test_accuracy_average: at each record of the run, shape (n,); None: no average was kept.
        record, spent: counted from 1; None where none can be chosen.
        reason: why not.
        fallback: whether a maximum was looked for in a signal that never rises.
    """
    best = oracle(test_accuracy)
    average = np.full(len(epoch), np.nan) if test_accuracy_average is None else test_accuracy_average
    snapshot, averaged, of_oracle = _at(test_accuracy, record), _at(average, record), _at(test_accuracy, best)
    better = np.fmax.reduce([of_oracle, *average])  # leaves NaN out where it can
    return {
        "record": record or math.nan,
        "epoch": _at(epoch, record),
        "spent": spent or math.nan,
        "spent_epochs": _at(epoch, spent),
        "test_accuracy": snapshot,
        "test_accuracy_average": averaged,
        "oracle_accuracy": of_oracle,
        "gap": 100 * (of_oracle - snapshot),
        "gap_average": 100 * (of_oracle - averaged),
        "gap_to_best": 100 * (better - snapshot),
        "gap_average_to_best": 100 * (better - averaged),
        "epochs_late": _at(epoch, record) - _at(epoch, best),
        "fallback": fallback,
        "reason": reason,
    }


def oracle(test_accuracy: np.ndarray) -> int | None:
    """The first record of highest test accuracy, counted from 1; None where all are without a value, NaN."""
    return None if np.isnan(test_accuracy).all() else int(np.nanargmax(test_accuracy)) + 1


def _at(values: np.ndarray, record: int | None) -> float:
    return values[record - 1] if record else math.nan


COLUMNS = ["run", *SETTING, "seed", "criterion", *row_of_stop(np.zeros(1), np.zeros(1), None, 1, 1)]
"""Of the table of `stops`."""
