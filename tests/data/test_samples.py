import dataclasses

import pytest
import torch

from lib import data
from lib.checks import ParameterError
from lib.data.samples import draw
from lib.parameters import Experiment


@pytest.fixture(scope="module")
def digits():
    return data.load(Experiment())


def test_parts_are_disjoint_and_labels_fit(digits):
    samples = draw(Experiment(validation_share=0.1, criteria=("known_polluted_accuracy",)), digits)
    everything = torch.cat([samples.train.rows, samples.validation.rows]).sort().values
    assert torch.equal(everything, torch.arange(len(digits.y_train)))
    assert len(samples.validation) == round(0.1 * len(digits.y_train))
    for part in (samples.train, samples.validation, samples.probe):
        assert torch.equal(part.true, digits.y_train[part.rows])
        assert torch.equal(part.corrupted, part.given != part.true)
    corrupted = samples.train.corrupted.sum() + samples.validation.corrupted.sum()
    assert corrupted == round(0.4 * len(digits.y_train))
    given = dict(zip(samples.train.rows.tolist(), samples.train.given.tolist(), strict=True))
    assert all(
        given[row] != label
        for row, label in zip(samples.probe.rows.tolist(), samples.probe.given.tolist(), strict=True)
    )


def test_what_is_not_asked_for_is_not_drawn(digits):
    samples = draw(Experiment(criteria=("cnd",)), digits)
    assert samples.probe is None
    assert samples.validation is None
    assert len(samples.train) == len(digits.y_train)


def test_measured_samples_are_some_of_the_training_samples(digits):
    samples = draw(Experiment(signal_samples=100), digits)
    assert len(samples.measured) == 100
    assert set(samples.measured.rows.tolist()) < set(samples.train.rows.tolist())
    assert len(draw(Experiment(), digits).measured) == len(digits.y_train)


def test_an_epoch_sees_each_sample_and_the_probe_once_in_equal_batches(digits):
    samples = draw(Experiment(), digits)
    batches = samples.batches(64, seed=0, epoch=1)
    assert len(batches) == samples.batches_per_epoch(64)
    assert {len(batch.rows) for batch in batches} <= {62, 63, 64}
    rows = torch.cat([batch.rows for batch in batches])
    expected = torch.cat([samples.train.rows, samples.probe.rows])
    assert torch.equal(rows.sort().values, expected.sort().values)
    assert torch.equal(rows, expected[torch.cat([batch.places for batch in batches])])


def test_batches_follow_from_seed_and_epoch(digits):
    samples = draw(Experiment(), digits)
    first = [samples.batches(64, seed, epoch)[0][0] for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[3])


def test_the_seed_changes_the_noise(digits):
    masks = [draw(Experiment(seed=seed), digits).train.corrupted for seed in (0, 1)]
    assert not torch.equal(*masks)


def test_a_held_out_share_that_leaves_nothing(digits):
    with pytest.raises(ParameterError, match=r"validation_share=0\.9999: must leave samples on both sides"):
        draw(Experiment(validation_share=0.9999), digits)
    with pytest.raises(ParameterError, match=r"validation_share=0\.0001: must leave samples on both sides"):
        draw(Experiment(validation_share=0.0001), digits)


def test_the_measured_samples_are_the_first_ones_whatever_the_seed(digits):
    drawn = [draw(Experiment(signal_samples=100, seed=seed), digits).measured.rows for seed in (0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], torch.arange(100))


@pytest.mark.parametrize("numbers", [range(10), [3, 1, 7, 0, 9, 2, 8, 4, 6, 5]])
def test_where_samples_lie_by_class_those_measured_are_of_every_class(digits, numbers):
    order = torch.tensor(numbers)[digits.y_train].sort(stable=True).indices
    by_class = dataclasses.replace(digits, x_train=digits.x_train.take(order), y_train=digits.y_train[order])
    drawn = [draw(Experiment(signal_samples=200, seed=seed), by_class).measured for seed in (0, 1)]
    assert torch.equal(drawn[0].rows, drawn[1].rows)
    assert drawn[0].true.unique().tolist() == list(range(10))


def test_a_probe_of_clean_samples_carries_no_true_label(digits):
    settings = {"noise_rate": 0.6, "probe_size": 200}
    of_all, of_clean = (draw(Experiment(probe_of=which, **settings), digits) for which in ("all", "clean"))
    assert of_clean.probe.corrupted.all()
    wrong = dict(zip(of_clean.train.rows.tolist(), of_clean.train.corrupted.tolist(), strict=True))
    assert not any(wrong[row] for row in of_clean.probe.rows.tolist())
    # Of 60 % wrong labels, one in nine of the others is the true one: 6.7 % of a probe of all samples.
    share = 1 - of_all.probe.corrupted.double().mean().item()
    assert share == pytest.approx(0.6 / 9, abs=0.06)
    with pytest.raises(ParameterError, match=r"probe_size=900: must be an integer in \[1, 503\]"):
        draw(Experiment(probe_of="clean", noise_rate=0.6, probe_size=900), digits)
