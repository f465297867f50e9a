from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.cnd import StreamingDivergence
from lib.loops.watching import Watcher
from lib.predictions import AreaUnderMargin, ForgettingEvents, PredictionChanges, changes

HISTORIES = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 2), min_size=n, max_size=n), min_size=1, max_size=9)
)


def test_share_of_samples_that_changed():
    assert changes(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 2, 2, 1])) == 0.5
    assert changes(np.array([1, 1]), np.array([1, 1])) == 0


@pytest.mark.parametrize(("before", "now"), [([0, 1], [0]), ([], []), ([[0]], [[0]])])
def test_shapes_that_do_not_fit(before, now):
    with pytest.raises(ValueError, match=r"must be \(n,\) twice"):
        changes(np.array(before), np.array(now))


@given(HISTORIES, st.integers(1, 4))
def test_changes_over_several_records(history, over):
    tracker = PredictionChanges(over)
    for record, predicted in enumerate(history):
        share = tracker.update(np.array(predicted))
        if record < over:
            assert np.isnan(share)
            continue
        last = history[record - over : record + 1]
        assert share == pytest.approx(np.mean([len({row[i] for row in last}) > 1 for i in range(len(predicted))]))
        if over == 1:
            assert share == changes(history[record - 1], predicted)


@given(HISTORIES, st.data())
def test_forgetting_events_counted_sample_by_sample(history, data):
    n = len(history[0])
    labels = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    tracker = ForgettingEvents()
    for record, predicted in enumerate(history):
        share = tracker.update(torch.tensor(predicted), torch.tensor(labels))
        right = [[p == y for p, y in zip(row, labels, strict=True)] for row in history[: record + 1]]
        if record == 0:
            assert np.isnan(share)
        else:
            assert share == pytest.approx(np.mean([a and not b for a, b in zip(*right[-2:], strict=True)]))
        counts = [sum(a[i] and not b[i] for a, b in pairwise(right)) for i in range(n)]
        assert tracker.counts.tolist() == counts
        assert tracker.learned.tolist() == [any(row[i] for row in right) for i in range(n)]


def test_area_under_margin_by_hand():
    tracker = AreaUnderMargin()
    labels = np.array([0, 2])
    first = tracker.update(np.array([[2.0, 1.0, 0.0], [3.0, 0.0, 1.0]]), labels)
    assert first.tolist() == [1, -2]
    second = tracker.update(np.array([[0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]), labels)
    assert second.tolist() == [(1 - 4) / 2, (-2 + 6) / 2]


def test_wrong_labels_have_a_low_area_in_a_network_that_has_learned():
    logits = 5 * torch.eye(4)[torch.arange(100) % 4]
    labels = torch.arange(100) % 4
    wrong = labels.clone()
    wrong[:20] = (wrong[:20] + 1) % 4
    area = AreaUnderMargin().update(logits, wrong)
    assert area[:20].max() < area[20:].min()


@pytest.mark.parametrize("metric", [PredictionChanges, ForgettingEvents, AreaUnderMargin, StreamingDivergence, Watcher])
def test_every_metric_follows_the_convention(metric):
    assert all(callable(getattr(metric, name)) for name in ("update", "compute", "reset"))


LOGITS, LABELS = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 4
METRICS = {
    "changes": (PredictionChanges, lambda logits: (logits.argmax(dim=1),)),
    "forgetting": (ForgettingEvents, lambda logits: (logits.argmax(dim=1), LABELS)),
    "margin": (AreaUnderMargin, lambda logits: (logits, LABELS)),
}


@pytest.mark.parametrize("name", METRICS)
def test_what_was_updated_last_is_computed_until_it_is_reset(name):
    make, given_of = METRICS[name]
    metric, values = make(), []
    for _ in range(2):
        assert np.isnan(metric.compute())
        for logits in LOGITS:
            values.append(torch.as_tensor(metric.update(*given_of(logits))).mean().item())
            assert metric.compute() == pytest.approx(values[-1], nan_ok=True)
        other = make()
        other.load_state_dict(metric.state_dict())
        assert other.compute() == metric.compute()
        metric.reset()
    assert values[:3] == pytest.approx(values[3:], nan_ok=True)
    assert values[2] != 0
    assert np.isnan(metric.compute())


def test_wrong_arguments():
    with pytest.raises(ParameterError, match="over=0: must be an integer of at least 1"):
        PredictionChanges(0)
    tracker = ForgettingEvents()
    tracker.update(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="must be"):
        tracker.update(np.zeros(2), np.zeros(2))
    margins = AreaUnderMargin()
    with pytest.raises(ValueError, match=r"must be \(n, K\) and \(n,\)"):
        margins.update(np.zeros((3, 1)), np.zeros(3, int))
    margins.update(np.zeros((3, 2)), np.zeros(3, int))
    with pytest.raises(ValueError, match="as before"):
        margins.update(np.zeros((4, 2)), np.zeros(4, int))
