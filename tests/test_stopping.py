import io
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib import stopping as stopping_module
from lib.checks import ParameterError
from lib.stopping import EarlyStopping, begins_highest, select_record, select_smoothed, smooth

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


@pytest.mark.parametrize(
    ("values", "mode", "window", "patience", "min_delta", "expected"),
    [
        ([1, 3, 4, 5, 6, 7], "max", 1, 2, 1, (6, 6)),  # 5 and 7 exceed 3 and 5 by more than 1
        ([1, 3, 4, 4, 4], "max", 1, 2, 1, (2, 4)),  # 4 exceeds 3 by 1, not by more
        ([9, 8, 8.5, 9.5, 9, 9], "max", 1, 2, 1, (4, 6)),  # 8.5 is no rise by more than 1 above 8, 9.5 is
        ([9, 8, 8.5, 8], "max", 1, 1, 1, (1, 4)),  # never rises by more than 1
        ([3, 2.5, 1.5, 1], "min", 1, 1, 1, (1, 2)),
        ([-1, 0.5, 2], "above_zero", 1, 1, 1, (2, 2)),
    ],
)
def test_an_improvement_must_exceed_min_delta(values, mode, window, patience, min_delta, expected):
    assert select_record(values, mode, window, patience, min_delta) == expected


def offline(values, mode, window, patience, min_delta):
    """The rule written down a second time, by searching for each improvement in the whole smoothed series."""
    sign, smoothed = -1 if mode == "min" else 1, []
    for end in range(1, len(values) + 1):
        found = [sign * value for value in values[:end] if math.isfinite(value)][-window:]
        has_mean = math.isfinite(values[end - 1]) and len(found) == window
        smoothed.append(math.fsum(found) / window if has_mean else NAN)
    with_mean = [i for i, mean in enumerate(smoothed) if not math.isnan(mean)]
    if not with_mean:
        return None
    if mode == "above_zero":
        record = next((i for i in with_mean if smoothed[i] > 0), with_mean[-1]) + 1
        return record, record if smoothed[record - 1] > 0 else len(values)
    kept = with_mean[0]
    if mode == "max":
        rises = (i for i in with_mean[1:] if smoothed[i] > min(smoothed[j] for j in with_mean if j < i) + min_delta)
        kept = next(rises, None)
        if kept is None:
            return with_mean[0] + 1, len(values)
    while True:
        better = next((i for i in with_mean if i > kept and smoothed[i] > smoothed[kept] + min_delta), None)
        if kept + patience < (len(values) if better is None else better):
            return kept + 1, kept + 1 + patience
        if better is None:
            return kept + 1, len(values)
        kept = better


SERIES = st.lists(st.integers(-5, 5) | st.sampled_from([NAN, math.inf, -math.inf]), min_size=1, max_size=40)
RULES = st.tuples(
    st.sampled_from(["max", "min", "above_zero"]), st.integers(1, 6), st.integers(1, 12), st.sampled_from([0, 0.5, 2])
)


@pytest.mark.filterwarnings("ignore:value of record")
@given(values=SERIES, rule=RULES)
def test_series_online_and_reference_agree(values, rule):
    expected = offline(values, *rule)
    stopping, kept = EarlyStopping(*rule), None
    for record, value in enumerate(values, 1):
        stop = stopping.update(value)
        kept = record if stopping.improved else kept
        assert stop == stopping.stop
    if expected is None:
        assert (stopping.record, stopping.stop) == (None, False)
        with pytest.raises(ParameterError, match="must be at most the"):
            select_record(values, *rule)
        return
    assert select_record(values, *rule) == expected
    assert (stopping.record, stopping.seen) == expected
    assert kept == stopping.record
    if rule[3] == 0:
        smoothed, late = smooth(values, rule[1]), int(np.isfinite(values).argmax())
        assert select_smoothed(smoothed, rule[0], rule[2]) == kept
        as_published = select_record(values, *rule, rule="published")
        assert select_smoothed(smoothed, rule[0], rule[2], "published", late) == as_published.record


def decisions(stopping, values):
    """What a training does record by record."""
    return [(stopping.update(value), stopping.improved, stopping.record, stopping.seen) for value in values]


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


def through_torch(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.filterwarnings("ignore:value of record")
@given(values=SERIES, rule=RULES, data=st.data(), stored=st.sampled_from([through_json, through_torch]))
def test_resumed_anywhere_it_decides_as_if_never_interrupted(values, rule, data, stored):
    cut = data.draw(st.integers(0, len(values)))
    whole = decisions(EarlyStopping(*rule), values)
    interrupted, resumed = EarlyStopping(*rule), EarlyStopping(*rule)
    before = decisions(interrupted, values[:cut])
    state = interrupted.state_dict()
    decisions(interrupted, values[cut:])  # the job goes on for a while after it saved: the state must not follow
    resumed.load_state_dict(stored(state))
    if before:
        assert (resumed.stop, resumed.improved, resumed.record, resumed.seen) == before[-1]
    assert before + decisions(resumed, values[cut:]) == whole
    assert resumed.state_dict() == interrupted.state_dict()


RISE_AND_FALL = [1, 2, 5, 4, 3, 4.5, 2]  # patience 3: keeps record 3, stops at 6


def resumed_after(values):
    stopping, other = EarlyStopping("max", 1, 3), EarlyStopping("max", 1, 3)
    decisions(stopping, values)
    other.load_state_dict(stopping.state_dict())
    return other


def test_a_resumed_job_has_waited_as_long_as_before():
    resumed = resumed_after(RISE_AND_FALL[:5])
    assert resumed.update(RISE_AND_FALL[5])
    assert (resumed.record, resumed.seen) == (3, 6)


def test_a_resumed_job_knows_its_best_value():
    resumed = resumed_after(RISE_AND_FALL[:4])
    assert decisions(resumed, [4.9, 4.99])[-1] == (True, False, 3, 6)  # above all since it resumed, but not above 5


@pytest.mark.parametrize("taken", range(7))
def test_a_job_preempted_before_or_after_an_update_takes_every_record_once(taken):
    # A checkpoint amid epoch e + 1, or after it but before its update, holds `seen` = e: that epoch is taken again.
    stopping = EarlyStopping("max", 1, 3)
    decisions(stopping, RISE_AND_FALL[:taken])
    assert stopping.seen == min(taken, 6)
    resumed = EarlyStopping("max", 1, 3)
    resumed.load_state_dict(stopping.state_dict())
    while not resumed.stop:
        resumed.update(RISE_AND_FALL[resumed.seen])
    assert (resumed.record, resumed.seen) == (3, 6)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (EarlyStopping("min", 5, 10), "mode='max': must be 'min', as where the state was saved"),
        (EarlyStopping("max", 4, 10), "window=5: must be 4, as where the state was saved"),
        (EarlyStopping("max", 5, 11), "patience=10: must be 11, as where the state was saved"),
        (EarlyStopping("max", 5, 10, 0.1), "min_delta=0.0: must be 0.1, as where the state was saved"),
    ],
)
def test_the_state_of_other_settings_is_refused_and_changes_nothing(other, message):
    stopping = EarlyStopping("max", 5, 10)
    decisions(stopping, [1, 2, 3, 4, 5, 6])
    before = stopping.state_dict()
    with pytest.raises(ParameterError) as error:
        stopping.load_state_dict(other.state_dict())
    assert str(error.value) == message
    with pytest.raises(ParameterError, match=r"state without best, improved.*: must be one that state_dict\(\) gave"):
        stopping.load_state_dict({"mode": "max"})
    assert stopping.state_dict() == before


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


@pytest.mark.parametrize(
    ("values", "named"),
    [([1, 2, NAN, NAN, 4], "3 is nan"), ([NAN, 1, math.inf, NAN], "3 is inf"), ([-math.inf, 1, NAN], "1 is -inf")],
)
def test_a_record_without_a_value_is_warned_of_once(values, named):
    stopping = EarlyStopping("min", 1, 5)
    for take in (lambda: select_record(values, "min", 1, 5), lambda: decisions(stopping, values)):
        with pytest.warns(UserWarning, match="value of record") as warned:
            take()
        assert [str(warning.message) for warning in warned] == [
            f"value of record {named}: such a record counts as no improvement"
        ]
        assert warned[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_expected_or_untrained_records_without_a_value_are_not_warned_of():
    assert select_record([NAN, NAN, 3, 1, 2], "min", 1, 5) == (4, 5)
    assert select_record([3, 1, 2, NAN], "min", 1, 1) == (2, 3)  # the training stopped before


def test_a_lost_value_costs_a_record_not_the_training():
    with pytest.warns(UserWarning, match="record 3"):
        assert select_record([1, 2, NAN, 3, 1, 1], "max", 1, 2) == (4, 6)
    with pytest.warns(UserWarning, match="record 3"):
        assert select_record([1, 2, NAN, NAN, 3], "max", 1, 2) == (2, 4)  # a loss that stays NaN stops by patience
    with pytest.warns(UserWarning, match="record 3"):
        assert select_record([2, 4, NAN, 8, 0], "max", 2, 2) == (4, 5)  # means 3, -, 6, 4


def test_a_series_without_any_value_is_an_error():
    with pytest.raises(ParameterError, match="window=1: must be at most the 0 values of the series"):
        select_record([NAN, NAN, math.inf], "max", 1, 1)


@pytest.mark.parametrize(
    ("mode", "window", "patience", "min_delta", "message"),
    [
        ("maximum", 1, 1, 0, "mode='maximum': must be one of max, min, above_zero; did you mean 'max'?"),
        ("max", 0, 1, 0, "window=0: must be an integer of at least 1"),
        ("max", 1, 0, 0, "patience=0: must be an integer of at least 1"),
        ("max", 1.5, 1, 0, "window=1.5: must be an integer of at least 1"),
        ("max", 1, 1, -0.1, "min_delta=-0.1: must be a finite number of at least 0"),
        ("max", 1, 1, NAN, "min_delta=nan: must be a finite number of at least 0"),
        ("max", 1, 1, "0", "min_delta='0': must be a finite number of at least 0"),
    ],
)
def test_wrong_parameters(mode, window, patience, min_delta, message):
    for refused in (EarlyStopping, partial(select_record, [1, 2])):
        with pytest.raises(ParameterError) as error:
            refused(mode, window, patience, min_delta)
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


def test_the_mean_after_a_lost_value_is_over_those_that_there_are():
    assert np.array_equal(smooth([1, 3, NAN, 5, math.inf, 7], 2), [NAN, 2, NAN, 4, NAN, 6], equal_nan=True)


def test_the_published_rule_worked_by_hand():
    """Indices there count from 0."""
    assert select_record([0, 1, 0, 2], "max", 1, 1, rule="published").record - 1 == 3
    assert select_record([0, 1, 0, 2], "max", 1, 1).record - 1 == 1
    assert select_record([1, 1, 0], "min", 1, 1, rule="published").record - 1 == 2
    assert select_record([1, 1, 0], "min", 1, 1).record - 1 == 0
    assert select_record([5, 4, 3, 2, 1], "max", 2, 1, rule="published").record - 1 == 2 - 1  # never rises: w - 1
    # Prediction changes have their first value at the second record, and are kept at the window's end.
    changes = [math.nan, 4, 2, 1, 3, 3, 3, 3]
    assert select_record(changes, "min", 1, 2, rule="published").record == 4
    assert select_record(changes[1:], "min", 1, 2, rule="published").record == 4
    with pytest.raises(ParameterError, match="rule='other': must be one of extremum, published"):
        select_record([1, 2], "max", 1, 1, rule="other")


def published_by_hand(values, mode, window, patience):
    """Index of the record kept, from 0, and records trained, as METHODS describes the published code."""
    start = next(i for i, value in enumerate(values) if not math.isnan(value))
    series = values[start:]
    means = [math.fsum(series[i : i + window]) / window for i in range(len(series) - window + 1)]
    sign = -1 if mode == "min" else 1
    best, kept, waited = None, -1, 0
    for i, mean in enumerate(means):
        value = sign * mean
        if best is None and mode == "max" and not (i and value > sign * means[i - 1]):
            continue
        if best is None or value > best:
            best, kept, waited = value, i, 0
        else:
            waited += 1
            if waited > patience:
                return min(kept + window, len(values) - 1), start + i + window
    return min(kept + window, len(values) - 1), len(values)


@given(
    values=st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30),
    mode=st.sampled_from(["max", "min"]),
    window=st.integers(1, 4),
    patience=st.integers(1, 5),
    late=st.booleans(),
)
def test_the_published_rule_against_a_loop(values, mode, window, patience, late):
    if window > len(values):
        return
    series = [math.nan, *values] if late else values
    index, spent = published_by_hand(series, mode, window, patience)
    found = select_record(series, mode, window, patience, rule="published")
    if begins_highest(series, window, len(series)) and mode == "max":
        assert found.record - 1 == window - 1 + late
    else:
        assert (found.record - 1, found.spent) == (index, spent)


def test_a_maximum_of_what_never_rises_is_told():
    assert begins_highest([5, 4, 4, 3], 1, 4)
    assert not begins_highest([5, 4, 4.5, 3], 1, 4)
    assert begins_highest([5, 4, 4.5, 3], 1, 2)  # the rise comes after the stop
    assert begins_highest([math.nan, 5, 4, 4.4, 3], 2, 5)  # smoothed it falls


@pytest.mark.parametrize("mode", ["max", "above_zero"])
def test_without_numba_the_state_is_of_plain_numbers_too(monkeypatch, mode):
    monkeypatch.setattr(stopping_module, "_followed", stopping_module._followed.py_func)
    stopping = EarlyStopping(mode, 1, 2)
    for value in (1.0, 2.0, 3.0):
        stopping.update(value)
    file = io.BytesIO()
    torch.save(stopping.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == stopping.state_dict()
