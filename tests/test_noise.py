import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, truncnorm

from lib import noise
from lib.catalogue import NOISES
from lib.checks import ParameterError
from lib.data import load
from lib.data.inputs import Inputs
from lib.data.samples import draw
from lib.parameters import Experiment
from lib.seeds import stream

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
    noisy, corrupted, _ = noise.none(labels, 0.0, 5, seed=0)
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


def inputs_of(n, features=6, seed=0):
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def class_probabilities(x, label, num_classes, seed):
    """The distribution over other classes of one sample, written out (Xia et al., 2020, Algorithm 2)."""
    weights = stream(seed, "noise", label).standard_normal((len(x), num_classes), dtype=np.float32)
    scores = [math.exp(sum(x[i] * weights[i, k] for i in range(len(x)))) for k in range(num_classes)]
    scores[label] = 0
    return np.array(scores) / sum(scores)


def test_instance_noise_follows_the_input_of_each_sample():
    kinds, repeats, classes, seed = 3, 20_000, 4, 5
    x = inputs_of(kinds).repeat_interleave(repeats, dim=0)
    labels = torch.full((kinds * repeats,), 2)
    noisy, corrupted, _ = noise.instance(labels, x, 0.6, classes, seed)
    for kind in range(kinds):
        rows = slice(kind * repeats, (kind + 1) * repeats)
        counts = np.bincount(noisy[rows][corrupted[rows]].numpy(), minlength=classes)
        expected = class_probabilities(x[kind * repeats].tolist(), 2, classes, seed)
        assert counts[2] == expected[2] == 0
        others = expected > 0
        assert chisquare(counts[others], expected[others] * counts.sum()).pvalue > 0.001


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.4, 0.9])  # the spread of single rates shows at the ends
def test_the_realised_rate_of_instance_noise(rate):
    n = 100_000
    labels = torch.arange(n) % 10
    noisy, corrupted, realised = noise.instance(labels, inputs_of(n), rate, 10, seed=1)
    low, high = -rate / 0.1, (1 - rate) / 0.1
    mean = truncnorm.mean(low, high, rate, 0.1) if rate else 0
    assert realised == corrupted.double().mean().item() == (noisy != labels).double().mean().item()
    assert abs(realised - mean) <= 4 * math.sqrt(mean * (1 - mean) / n)
    by_class = [corrupted[labels == label].double().mean().item() for label in range(10)]
    assert max(abs(share - realised) for share in by_class) < 0.025


def test_instance_noise_does_not_depend_on_how_samples_are_grouped(monkeypatch):
    labels, x = torch.arange(3000) % 7, inputs_of(3000)
    whole = noise.instance(labels, x, 0.5, 7, seed=0).labels
    monkeypatch.setattr(noise, "_ROWS", 11)
    assert torch.equal(noise.instance(labels, x, 0.5, 7, seed=0).labels, whole)


def test_instance_noise_agrees_for_images_and_their_pixels():
    images = torch.randint(0, 256, (200, 5, 5, 3), dtype=torch.uint8)
    inputs = Inputs.normalised(images, [127.5] * 3, [51.0] * 3, are_images=True)
    labels = torch.arange(200) % 4
    assert torch.equal(
        noise.instance(labels, inputs, 0.5, 4, seed=0).labels, noise.instance(labels, inputs[:], 0.5, 4, seed=0).labels
    )


def test_instance_noise_checks_its_arguments():
    labels = np.arange(6) % 3
    with pytest.raises(ParameterError, match=r"inputs of 5 samples: must be as many as the 6 labels"):
        noise.instance(labels, inputs_of(5), 0.3, 3, seed=0)
    with pytest.raises(ParameterError, match=r"noise_rate=1\.0: must be a number in \[0, 1\)"):
        noise.instance(labels, inputs_of(6), 1.0, 3, seed=0)


def transition_matrix(labels, noisy, classes):
    return np.array([[((labels == a) & (noisy == b)).sum() for b in range(classes)] for a in range(classes)])


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_transition_matrices(rate):
    classes, each = 5, 8000
    labels = np.repeat(np.arange(classes), each)
    stay, other = (1 - rate) * each, rate * each / (classes - 1)
    expected = np.full((classes, classes), other) + (stay - other) * np.eye(classes)
    found = transition_matrix(labels, noise.symmetric(labels, rate, classes, seed=2).labels, classes)
    assert chisquare(found.ravel(), expected.ravel(), ddof=classes).pvalue > 0.001
    found = transition_matrix(labels, noise.pair(labels, rate, classes, seed=2).labels, classes)
    expected = stay * np.eye(classes) + rate * each * np.roll(np.eye(classes), 1, axis=1)
    assert (found[expected == 0] == 0).all()
    assert chisquare(found[expected > 0], expected[expected > 0], ddof=classes).pvalue > 0.001


@pytest.mark.parametrize("kind", ["symmetric", "pair", "instance"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_every_kind_says_its_realised_rate(kind, rate):
    labels = torch.arange(1000) % 10
    given = {"inputs": inputs_of(1000)} if kind == "instance" else {}
    noisy = NOISES[kind](labels=labels, rate=rate, num_classes=10, seed=0, **given)
    assert noisy.rate == (noisy.labels != labels).double().mean().item() == noisy.corrupted.double().mean().item()
    assert noisy.rate == pytest.approx(rate, abs=0.07)


def test_the_transition_matrix_has_the_share_of_each_true_class_that_carries_each_label():
    true, given_labels = torch.tensor([0, 0, 0, 0, 2, 2]), torch.tensor([0, 0, 1, 2, 2, 0])
    expected = [[0.5, 0.25, 0.25], [math.nan] * 3, [0.5, 0, 0.5]]
    np.testing.assert_array_equal(noise.transition_matrix(true, given_labels, 3), expected)
    with pytest.raises(ParameterError, match=r"given labels \(5\): must be as many as the 6 true ones"):
        noise.transition_matrix(true, given_labels[:5], 3)


def test_the_transition_matrix_of_pair_noise_has_its_rate_beside_the_diagonal():
    true = np.repeat(np.arange(4), 1000)
    shares = noise.transition_matrix(true, noise.pair(true, 0.3, 4, seed=0).labels, 4)
    assert np.roll(np.eye(4), 1, axis=1)[shares > 0].sum() == 4
    assert shares.diagonal().mean() == pytest.approx(0.7)
    assert shares.sum(axis=1) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("kind", ["symmetric", "pair", "instance"])
def test_a_sample_keeps_its_label_in_whatever_order_batches_come(kind):
    seen = {}
    for batch_size in (64, 17):
        experiment = Experiment(noise=kind, batch_size=batch_size, criteria=("cnd",))
        samples = draw(experiment, load(experiment))
        for epoch in (1, 2):
            for rows, labels, _ in samples.batches(batch_size, experiment.seed, epoch):
                for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
                    assert seen.setdefault(row, label) == label
    assert len(seen) == 1257


_CIFAR_SIZED = """
import resource, torch
from lib.data.inputs import Inputs
from lib.noise import instance
images = torch.zeros(1, 32, 32, 3, dtype=torch.uint8).expand(50_000, -1, -1, -1)
inputs = Inputs.normalised(images, [127.5] * 3, [51.0] * 3, are_images=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
instance(torch.arange(50_000) % 10, inputs, 0.4, 10, seed=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_cifar_sized_noise_needs_little_memory():
    # In a process of its own: the peak of this one is that of the tests before.
    done = subprocess.run([sys.executable, "-c", _CIFAR_SIZED], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 500_000  # kilobytes


def test_instance_noise_of_classes_with_a_single_sample():
    labels, x = np.arange(50), np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    noisy, corrupted, _ = noise.instance(labels, x, 0.9, 50, seed=0)
    assert 30 < corrupted.sum() < 50
    assert np.array_equal(noisy != labels, corrupted)


def test_instance_noise_takes_arrays():
    labels, x = np.arange(60) % 3, np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    from_array = noise.instance(labels, x, 0.5, 3, seed=0)
    assert np.array_equal(from_array.labels, noise.instance(labels, torch.from_numpy(x), 0.5, 3, seed=0).labels)


def test_the_transition_matrix_of_short_integers():
    labels = np.repeat(np.arange(100), 5).astype(np.uint8)
    assert np.array_equal(noise.transition_matrix(labels, labels, 100), np.eye(100))
