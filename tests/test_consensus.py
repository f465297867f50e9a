"""The consensus of criteria, against what follows from every prefix of their series."""

import json
import math
from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.stopping import Consensus, EarlyStopping, select_consensus, select_record

SERIES = st.lists(st.integers(0, 5).map(float) | st.just(math.nan), min_size=1, max_size=25)


def members(*rules):
    return {str(i): EarlyStopping(*rule) for i, rule in enumerate(rules)}


def by_hand(series, rules):
    """Record and spent by the definition: at each record ask of each prefix what may still come of it."""
    length = len(series[0])
    for t in range(1, length + 1):
        bounds = []
        for values, rule in zip(series, rules, strict=True):
            known = [value for value in values[:t] if not math.isnan(value)]
            if len(set(known)) < 2:
                continue
            try:
                record, _spent = select_record(values[:t], *rule)
            except ParameterError:
                bounds.append((t + 1, math.inf))
                continue
            alone = EarlyStopping(*rule)
            stopped = any([alone.update(value) for value in values[:t]])
            bounds.append((record, record if stopped else math.inf))
        if bounds:
            middle = (len(bounds) - 1) // 2
            least, most = (sorted(bound[side] for bound in bounds)[middle] for side in (0, 1))
            if least == most:
                return least, t
    records = [low for low, _ in bounds if low <= length]
    return (median_low(records), length) if records else None


@given(
    length=st.integers(1, 20),
    data=st.data(),
    rules=st.lists(
        st.tuples(st.sampled_from(["min", "max"]), st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4
    ),
)
@pytest.mark.filterwarnings("ignore:value of record")
def test_online_and_finished_agree_with_the_definition(length, data, rules):
    value = st.integers(0, 4).map(float) | st.just(math.nan)
    series = [data.draw(st.lists(value, min_size=length, max_size=length)) for _ in rules]
    expected = by_hand(series, rules)
    named = {str(i): values for i, values in enumerate(series)}
    if expected is None:
        with pytest.raises(ParameterError, match="must have a value that is not the same at every record"):
            select_consensus(named, members(*rules))
        return
    assert select_consensus(named, members(*rules))[:2] == expected
    online, cut = Consensus(members(*rules)), data.draw(st.integers(0, length))
    for t in range(length):
        if t == cut:  # a preempted job goes on with the same decisions
            state = json.loads(json.dumps(online.state_dict()))
            online = Consensus(members(*rules))
            online.load_state_dict(state)
        before = online.candidates
        if online.update({name: values[t] for name, values in named.items()}):
            break
        assert online.candidates <= before | {t + 1}  # nothing that was dropped comes back
    assert (online.record, online.seen) == expected
    assert online.record in online.candidates


def test_one_member_is_its_own_consensus():
    values = [3, 2, 1, 2, 2, 0]
    assert (
        select_consensus({"0": values}, members(("min", 1, 2)))
        == (*select_record(values, "min", 1, 2), ())
        == (3, 5, ())
    )


def test_two_of_three_decide():
    series = {"0": [3, 1, 2, 2, 2, 2, 2], "1": [5, 4, 3, 2, 3, 3, 3], "2": [9, 8, 7, 6, 5, 4, 3]}
    consensus = Consensus(members(*[("min", 1, 2)] * 3))
    stopped_at = next(
        t for t in range(1, 8) if consensus.update({name: values[t - 1] for name, values in series.items()})
    )
    # The first keeps 2 and the second 4, known at record 6; the third falls on, so it keeps a later one than both.
    assert (consensus.record, stopped_at) == (4, 6)
    assert consensus.candidates == {4}
    assert consensus.update({"0": 0}) is True
    assert consensus.record == 4


def test_a_constant_or_missing_member_has_no_say():
    constant = Consensus(members(*[("min", 1, 1)] * 3))
    for value in (3.0, 1.0, 2.0):
        constant.update({"0": value, "1": 0.0})
    assert constant.left_out == ("1", "2")
    assert (constant.record, constant.stop) == (2, True)


def test_wrong_members_and_states():
    with pytest.raises(ParameterError, match=r"members=\{\}: must be at least one"):
        Consensus({})
    state = Consensus(members(("min", 1, 1))).state_dict()
    with pytest.raises(ParameterError, match=r"members=\['0', '1'\]: must be \['0'\], as in the state"):
        Consensus(members(("min", 1, 1), ("min", 1, 1))).load_state_dict(state)
    with pytest.raises(ParameterError, match="patience=2: must be 1"):
        Consensus(members(("min", 1, 2))).load_state_dict(state)
