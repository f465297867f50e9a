import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.stopping import EarlyStopping, select_record, smooth

NAN = math.nan
HAND_WORKED = [
    # values, mode, window, patience, (record, spent)
    ([1, 2, 3, 2, 1], "max", 1, 2, (3, 5)),
    ([1, 2, 3, 2, 4], "max", 1, 1, (3, 4)),
    ([1, 2, 3, 2, 4], "max", 1, 2, (5, 5)),
    ([3, 2, 1, 2, 3], "min", 1, 2, (3, 5)),
    ([3, 2, 1, 2, 0], "min", 1, 1, (3, 4)),
    ([5, 4, 3, 2, 1], "min", 1, 3, (5, 5)),  # never stops: extremum of the whole run
    ([1, 2, 3, 3, 3, 3], "max", 1, 2, (3, 5)),  # a plateau is no improvement
    ([2, 1, 1, 1], "min", 1, 3, (2, 4)),
    ([1, 3, 2, 3, 2], "max", 1, 3, (2, 5)),  # a tie keeps the first
    ([9, 8, 7, 1, 2, 3, 2, 1], "max", 1, 2, (6, 8)),  # nothing counts before the first rise
    ([9, 8, 7, 1, 2, 3], "max", 1, 9, (6, 6)),
    ([4, 3, 2, 1], "max", 1, 2, (1, 4)),  # never rises
    ([4, 4, 4], "max", 1, 1, (1, 3)),
    ([4, 4, 4], "min", 1, 1, (1, 2)),
    ([1, 2, 1], "max", 1, 50, (2, 3)),  # patience longer than the series
    ([0, 0, 6, 6, 0, 0, 0], "max", 2, 1, (4, 5)),  # means from record 2: 0 3 6 3 0 0
    ([6, 0, 0, 6, 6, 6, 6], "min", 2, 2, (3, 5)),  # means from record 2: 3 0 3 6 6 6
    ([1, 2, 3], "max", 3, 1, (3, 3)),
    ([NAN, 3, 1, 2, 2], "min", 1, 2, (3, 5)),
    ([NAN, 3, 1, 1, 5, 5], "min", 2, 1, (4, 5)),  # means from record 3: 2 1 3 5
    ([7], "max", 1, 1, (1, 1)),
    ([-3, -1, 0, 2, -9], "above_zero", 1, 7, (4, 4)),  # whatever the patience
    ([-3, 4, -2, 1], "above_zero", 2, 1, (2, 2)),  # means from record 2: 0.5
    ([-3, -1, -2], "above_zero", 1, 1, (3, 3)),  # never: the last
]


@pytest.mark.parametrize(("values", "mode", "window", "patience", "expected"), HAND_WORKED)
def test_hand_worked_series(values, mode, window, patience, expected):
    assert select_record(values, mode, window, patience) == expected


def offline(values, mode, window, patience):
    """The rule written down a second time, on the whole smoothed series."""
    smoothed = [None] * (window - 1) + [
        math.fsum(values[i - window + 1 : i + 1]) / window for i in range(window - 1, len(values))
    ]
    better = (lambda a, b: a > b) if mode == "max" else (lambda a, b: a < b)
    begin = window - 1
    if mode == "max":
        begin = next((i for i in range(window, len(values)) if smoothed[i] > smoothed[i - 1]), None)
        if begin is None:
            return window, len(values)
    for i in range(begin, len(values)):
        is_extremum = all(better(smoothed[i], smoothed[j]) for j in range(begin, i))
        following = smoothed[i + 1 : i + 1 + patience]
        if is_extremum and len(following) == patience and not any(better(s, smoothed[i]) for s in following):
            return i + 1, i + 1 + patience
    counted = smoothed[begin:]
    extremum = max(counted) if mode == "max" else min(counted)
    return begin + counted.index(extremum) + 1, len(values)


@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    mode=st.sampled_from(["max", "min"]),
    window=st.integers(1, 6),
    patience=st.integers(1, 12),
)
def test_series_online_and_reference_agree(values, mode, window, patience):
    if window > len(values):
        with pytest.raises(ParameterError):
            select_record(values, mode, window, patience)
        return
    selection = select_record(values, mode, window, patience)
    assert selection == offline(values, mode, window, patience)
    stopping = EarlyStopping(mode, window, patience)
    kept = None
    for record, value in enumerate(values, 1):
        stop = stopping.update(value)
        kept = record if stopping.improved else kept
        assert stop == stopping.stop
    assert (stopping.record, stopping.seen) == selection
    assert kept == selection.record
    if selection.spent < len(values):
        assert stopping.stop
        assert selection.spent == selection.record + patience


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), window=st.integers(1, 5), k=st.integers(1, 6))
def test_a_maximum_that_rises_at_once_is_a_minimum_upside_down(values, window, k):
    rising = [-1e7 - 1] * window + [-1e7] + values
    assert select_record(rising, "max", window, k + 1) == select_record([-v for v in rising], "min", window, k + 1)


def test_after_the_stop_nothing_changes():
    stopping = EarlyStopping("max", window=1, patience=2)
    stops = [stopping.update(value) for value in [1, 2, 3, 2, 1, 9]]
    assert stops == [False, False, False, False, True, True]
    assert (stopping.record, stopping.seen, stopping.improved) == (3, 5, False)


def test_numpy_integers_are_integers():
    assert select_record([1, 2, 1], "max", np.int64(1), np.int64(1)) == (2, 3)


def test_window_longer_than_the_series_is_a_clear_error():
    with pytest.raises(ParameterError, match="window=4: must be at most the 3 values of the series"):
        select_record([1, 2, 3], "max", 4, 1)
    with pytest.raises(ParameterError, match="window=3: must be at most the 2 values of the series"):
        select_record([NAN, 2, 3], "max", 3, 1)


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_a_value_that_is_not_finite_is_named(bad):
    with pytest.raises(ValueError, match="value of record 3: must be finite"):
        select_record([1, 2, bad, 4], "min", 1, 5)


@pytest.mark.parametrize(
    ("mode", "window", "patience", "message"),
    [
        ("maximum", 1, 1, "mode='maximum': must be one of max, min, above_zero; did you mean 'max'?"),
        ("max", 0, 1, "window=0: must be an integer of at least 1"),
        ("max", 1, 0, "patience=0: must be an integer of at least 1"),
        ("max", 1.5, 1, "window=1.5: must be an integer of at least 1"),
    ],
)
def test_wrong_parameters(mode, window, patience, message):
    with pytest.raises(ParameterError) as error:
        EarlyStopping(mode, window, patience)
    assert message in str(error.value)


def test_tensors_and_arrays_are_series_too():
    assert select_record(torch.tensor([1.0, 2.0, 1.0]), "max", 1, 1) == (2, 3)
    assert select_record(np.array([1.0, 2.0, 1.0]), "max", 1, 1) == (2, 3)


def test_smooth_checks_its_window():
    with pytest.raises(ParameterError, match="window=0"):
        smooth([1, 2], 0)


def test_smooth_has_no_value_before_the_window_is_full():
    assert np.array_equal(smooth([1, 2, 3, 4], 2), [NAN, 1.5, 2.5, 3.5], equal_nan=True)
    assert np.array_equal(smooth([NAN, 2, 4], 2), [NAN, NAN, 3], equal_nan=True)
    assert np.array_equal(smooth([1, 2], 3), [NAN, NAN], equal_nan=True)
