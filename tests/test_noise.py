import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lib import noise
from lib.checks import ParameterError

BOTH = pytest.mark.parametrize("kind", [noise.symmetric, noise.pair])


@BOTH
@given(
    labels=st.lists(st.integers(0, 4), max_size=80),
    rate=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 1000),
)
def test_exact_count_and_mask(kind, labels, rate, seed):
    labels = np.array(labels, dtype=np.int64)
    noisy, corrupted, _ = kind(labels, rate, 5, seed)
    assert corrupted.sum() == round(rate * len(labels))
    assert np.array_equal(noisy != labels, corrupted)
    assert ((noisy >= 0) & (noisy < 5)).all()


def test_pair_gives_the_next_class():
    labels = torch.arange(1000) % 4
    noisy, corrupted, _ = noise.pair(labels, 0.5, 4, seed=0)
    assert torch.equal(noisy[corrupted], (labels[corrupted] + 1) % 4)


def test_symmetric_draws_every_other_class_equally():
    labels = np.zeros(60_000, dtype=np.int64)
    noisy, corrupted, _ = noise.symmetric(labels, 0.9, 10, seed=0)
    counts = np.bincount(noisy[corrupted], minlength=10)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 0.001


def test_every_sample_is_as_likely_to_be_corrupted():
    labels = np.arange(100) % 10
    hits = sum(noise.symmetric(labels, 0.3, 10, seed)[1] for seed in range(2000))
    assert chisquare(hits).pvalue > 0.001


@BOTH
def test_seeded_and_of_the_kind_given(kind):
    labels = torch.arange(200) % 10
    noisy, corrupted, _ = kind(labels, 0.4, 10, seed=3)
    again, *_ = kind(labels.numpy(), 0.4, 10, seed=3)
    other, *_ = kind(labels, 0.4, 10, seed=4)
    assert isinstance(noisy, torch.Tensor)
    assert corrupted.dtype == torch.bool
    assert isinstance(again, np.ndarray)
    assert np.array_equal(noisy.numpy(), again)
    assert not torch.equal(noisy, other)


def test_the_input_is_left_alone():
    labels = torch.arange(50) % 5
    noise.symmetric(labels, 0.9, 5, seed=0)
    assert torch.equal(labels, torch.arange(50) % 5)


def test_no_noise_changes_nothing():
    labels = np.arange(20) % 5
    noisy, corrupted, _ = noise.corrupt("none", labels, 0.0, 5, seed=0)
    assert np.array_equal(noisy, labels)
    assert not corrupted.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], 1.0, 2, 0), "noise_rate=1.0: must be a number in [0, 1)"),
        (([0, 1], 0.5, 1, 0), "num_classes=1: must be an integer of at least 2"),
        (([0, 3], 0.5, 2, 0), "labels in [0, 3]: must be in [0, 1]"),
        (([0, 1], 0.5, 2, -1), "seed=-1: must be an integer of at least 0"),
        (([0, 1], 0.5, 2, None), "seed=None: must be an integer of at least 0"),
        (([0.5, 1.0], 0.5, 2, 0), "must be (n,) integers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ParameterError) as error:
        noise.symmetric(*arguments)
    assert message in str(error.value)


def test_unknown_kind():
    with pytest.raises(ParameterError, match="did you mean 'pair'"):
        noise.corrupt("pairs", np.array([0]), 0.1, 2, 0)


def test_probe_labels_are_other_labels_of_distinct_samples():
    labels = torch.arange(300) % 10
    positions, wrong = noise.known_polluted_probe(labels, 100, 10, seed=0)
    assert len(set(positions.tolist())) == 100
    assert (wrong != labels[positions]).all()
    assert chisquare(np.bincount(((wrong - labels[positions]) % 10).numpy(), minlength=10)[1:]).pvalue > 0.001


def test_probe_larger_than_the_data():
    with pytest.raises(ParameterError, match=r"probe_size=5: must be an integer in \[1, 4\]"):
        noise.known_polluted_probe(np.arange(4), 5, 10, seed=0)


def test_noise_and_probe_are_drawn_independently():
    labels = np.zeros(2000, dtype=np.int64)
    hits = 0
    for seed in range(50):
        _, corrupted, _ = noise.symmetric(labels, 0.4, 10, seed)
        positions, _ = noise.known_polluted_probe(labels, 100, 10, seed)
        hits += corrupted[positions].sum()
    assert abs(hits / 5000 - 0.4) < 0.03
