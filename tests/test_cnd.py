import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from lib import histograms
from lib.checks import ParameterError
from lib.cnd import neuron_divergence


def slow_divergence(z, y, num_classes, bins, weights):
    """One neuron and one class at a time, by NumPy's histogram and SciPy's entropy."""
    result = []
    for values in z.T.astype(np.float64):
        edges = np.linspace(values.min(), values.max(), bins + 1)
        classes = [c for c in range(num_classes) if (y == c).any()]
        densities = [np.histogram(values[y == c], edges)[0] / (y == c).sum() for c in classes]
        share = [1 / len(classes) if weights == "uniform" else (y == c).mean() for c in classes]
        mixture = np.sum([w * p for w, p in zip(share, densities, strict=True)], axis=0)
        within = sum(w * entropy(p, base=2) for w, p in zip(share, densities, strict=True))
        result.append(entropy(mixture, base=2) - within)
    return np.array(result)


@pytest.mark.parametrize("weights", ["uniform", "frequency"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [2, 40, 301])
def test_agrees_with_a_slow_independent_reference(weights, dtype, bins):
    rng = np.random.default_rng(0)
    y = rng.choice(9, size=2000, p=np.r_[0, np.arange(1, 9) / 36])
    z = (rng.normal(size=(2000, 100)) + 0.3 * y[:, None] * rng.normal(size=100)).astype(dtype)
    difference = np.abs(neuron_divergence(z, y, 10, bins, weights) - slow_divergence(z, y, 10, bins, weights))
    # Bins are of the precision of the values: a few float32 values at an edge fall to its other side.
    assert (difference < 1e-9).mean() > (0.95 if dtype == np.float32 else 0.99)
    assert difference.max() < (5e-3 if dtype == np.float32 else 1e-9)


@settings(max_examples=60)
@given(
    n=st.integers(1, 60),
    neurons=st.integers(1, 5),
    num_classes=st.integers(1, 6),
    bins=st.integers(2, 50),
    weights=st.sampled_from(["uniform", "frequency"]),
    seed=st.integers(0, 10_000),
)
def test_any_input_is_in_range_and_agrees(n, neurons, num_classes, bins, weights, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, num_classes, n)
    z = rng.normal(size=(n, neurons))
    fast = neuron_divergence(z, y, num_classes, bins, weights)
    assert (fast >= 0).all()
    assert (fast <= np.log2(num_classes) + 1e-9).all()
    if n > 1:
        assert np.abs(fast - slow_divergence(z, y, num_classes, bins, weights)).max() < 1e-9


def test_two_disjoint_classes_have_one_bit():
    z = torch.cat([torch.rand(100, 3), 5 + torch.rand(100, 3)])
    bits = neuron_divergence(z, torch.arange(200) // 100, 2)
    assert torch.allclose(bits, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("k", [3, 7, 10])
def test_disjoint_classes_have_log2_k_bits(k):
    y = torch.arange(50 * k) // 50
    z = y[:, None] * 10 + torch.rand(50 * k, 2, generator=torch.Generator().manual_seed(0))
    bits = neuron_divergence(z, y, k, bins=400)
    assert torch.allclose(bits, torch.full((2,), np.log2(k), dtype=torch.float64))


def test_independent_labels_approach_zero_as_samples_grow():
    rng = np.random.default_rng(0)
    bits = [neuron_divergence(rng.normal(size=(n, 20)), rng.integers(0, 5, n), 5).mean() for n in (300, 3000, 30_000)]
    assert bits[0] > 5 * bits[1] > 25 * bits[2]
    assert bits[2] < 0.005


def test_unequal_disjoint_classes_tell_uniform_from_frequency():
    y = np.repeat([0, 1], [30, 10])
    z = y[:, None] * 100.0 + np.random.default_rng(0).random((40, 1))
    assert neuron_divergence(z, y, 2, weights="uniform")[0] == pytest.approx(1)
    assert neuron_divergence(z, y, 2, weights="frequency")[0] == pytest.approx(entropy([0.75, 0.25], base=2))


def test_a_constant_neuron_has_zero():
    z = torch.stack([torch.full((50,), 3.7), torch.arange(50.0)], dim=1)
    bits = neuron_divergence(z, torch.arange(50) % 2, 2)
    assert bits[0] == 0
    assert bits[1] > 0


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int32])
def test_any_integer_type_of_labels(dtype):
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(600, 30)), rng.integers(0, 2, 600)
    assert np.array_equal(neuron_divergence(z, y.astype(dtype), 2), neuron_divergence(z, y, 2))


def test_a_neuron_of_almost_no_width_is_constant():
    assert neuron_divergence(np.array([[0.0], [1e-320]]), np.array([0, 1]), 2).tolist() == [0]


def test_a_range_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="and so must their range"):
        neuron_divergence(np.array([[-1.7e308], [1.7e308]]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="and so must their range"):
        neuron_divergence(np.array([[-3e38], [3e38]], dtype=np.float32), np.array([0, 1]), 2)


def test_a_missing_class_does_not_count():
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(500, 4)), rng.integers(0, 3, 500)
    assert np.allclose(neuron_divergence(z, y, 3), neuron_divergence(z, 2 * y, 9))


def test_single_sample_and_single_class_have_zero():
    assert neuron_divergence(np.array([[1.0, 2.0]]), np.array([4]), 10).tolist() == [0, 0]
    one_class = neuron_divergence(np.random.default_rng(0).normal(size=(30, 1)), np.zeros(30, int), 10)
    assert one_class == pytest.approx([0], abs=1e-12)


@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_scale_and_shift_of_a_neuron_change_nothing(scale, shift):
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 400)
    z = rng.normal(size=(400, 1)) + y[:, None]
    assert neuron_divergence(scale * z + shift, y, 4) == pytest.approx(neuron_divergence(z, y, 4), abs=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error(bad):
    z = np.zeros((10, 3))
    z[4, 1] = bad
    with pytest.raises(ValueError, match="must be finite"):
        neuron_divergence(z, np.zeros(10, int), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)), np.array([0, 1, 2]), 2), "labels in [0, 2]: must be in [0, 1]"),
        ((np.zeros((3, 2)), np.array([0, -1, 0]), 2), "labels in [-1, 0]: must be in [0, 1]"),
        ((np.zeros((3, 2)), np.array([0, 1]), 2), "must be (n, neurons) floating point and (n,) integers"),
        ((np.zeros((0, 2)), np.zeros(0, int), 2), "none empty"),
        ((np.zeros((3, 0)), np.zeros(3, int), 2), "none empty"),
        ((np.zeros((3, 2), int), np.zeros(3, int), 2), "floating point"),
        ((np.zeros((3, 2)), np.zeros(3, int), 2, 1), "bins=1: must be an integer of at least 2"),
        ((np.zeros((3, 2)), np.zeros(3, int), 2, 40, "uniformly"), "did you mean 'uniform'?"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ParameterError) as error:
        neuron_divergence(*arguments)
    assert message in str(error.value)


def test_both_ways_to_count_agree():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3000, 600, generator=generator)
    y = torch.randint(-1, 5, (3000,), generator=generator)
    low, high = z[y >= 0].amin(0), z[y >= 0].amax(0)
    on_device = histograms._count_on_device(z, y, low, 40 / (high - low), 6, 40)
    assert torch.equal(histograms.count(z, y, 6, 40), on_device)


def test_half_precision_and_non_contiguous_input():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(40, 500, generator=generator).to(torch.bfloat16).T
    y = torch.randint(3, (500,), generator=generator)
    assert torch.equal(neuron_divergence(z, y, 3), neuron_divergence(z.float().contiguous(), y, 3))


def test_corrected_for_its_bias_independent_labels_tell_nothing():
    rng = np.random.default_rng(0)
    z, labels = rng.standard_normal((600, 400)), rng.integers(0, 5, 600)
    plain = neuron_divergence(z, labels, 5)
    corrected = neuron_divergence(z, labels, 5, correction="miller_madow")
    occupied = np.array([np.count_nonzero(np.histogram(column, 40)[0]) for column in z.T])
    expected = 4 * (occupied - 1) / (2 * 600 * np.log(2))
    assert np.allclose(plain - corrected, expected)
    # Without correction 5 classes seem to tell about 0.15 bits; with it, less than a tenth of that on average.
    assert plain.mean() > 0.1
    assert abs(corrected.mean()) < 0.1 * plain.mean()
    with pytest.raises(ParameterError, match="correction='other': must be one of none, miller_madow"):
        neuron_divergence(z, labels, 5, correction="other")
