import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import entropy, gaussian_kde, norm
from sklearn.feature_selection import mutual_info_classif

from lib.checks import ParameterError
from lib.cnd import ESTIMATORS, StreamingDivergence, aggregate, neuron_divergence

EVERY = pytest.mark.parametrize("estimator", ["histogram", *ESTIMATORS])
BOTH = pytest.mark.parametrize("weights", ["uniform", "frequency"])


def two_normals(n, distance, seed=0, neurons=1, share=0.5):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) >= share * n).astype(int)
    return rng.normal(size=(n, neurons)) + distance * y[:, None], y


def mixture_divergence(densities, weights, low, high):
    """Divergence in bits of densities given as functions, by adaptive quadrature."""

    def h(density):
        def integrand(x):
            value = density(x)
            return -value * np.log2(value) if value > 1e-300 else 0.0

        return quad(integrand, low, high, limit=500, epsabs=1e-8, points=np.linspace(low, high, 21)[1:-1])[0]

    mixture = h(lambda x: sum(w * p(x) for w, p in zip(weights, densities, strict=True)))
    return mixture - sum(w * h(p) for w, p in zip(weights, densities, strict=True))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    distance=st.floats(0, 8),
    ratio=st.floats(0.1, 10),
    share=st.sampled_from([0.5, 0.2]),
    weights=st.sampled_from(["uniform", "frequency"]),
)
def test_gaussian_agrees_with_numerical_integration(distance, ratio, share, weights):
    z, y = two_normals(400, 0, share=share)
    z[y == 1] = z[y == 1] * ratio + distance
    moments = [(z[y == label].mean(), z[y == label].std()) for label in (0, 1)]
    densities = [norm(*pair).pdf for pair in moments]
    told = [share, 1 - share] if weights == "frequency" else [0.5, 0.5]
    low, high = min(m - 9 * s for m, s in moments), max(m + 9 * s for m, s in moments)
    expected = mixture_divergence(densities, told, low, high)
    assert neuron_divergence(z, y, 2, weights=weights, estimator="gaussian")[0] == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
@BOTH
def test_kernel_agrees_with_scipys_density(weights):
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [150, 300, 80])
    z = rng.normal(size=(530, 1)) * (1 + y[:, None]) + 3 * y[:, None] + 4 * (rng.random((530, 1)) < 0.3)
    kernels = [gaussian_kde(z[y == label, 0]) for label in range(3)]
    told = np.bincount(y) / len(y) if weights == "frequency" else np.full(3, 1 / 3)
    expected = mixture_divergence([lambda x, k=k: k(x)[0] for k in kernels], told, z.min() - 10, z.max() + 10)
    assert neuron_divergence(z, y, 3, weights=weights, estimator="kernel")[0] == pytest.approx(expected, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("distance", [0.0, 0.7, 3.0])
def test_neighbours_with_frequencies_is_the_estimator_of_ross(distance):
    z, y = two_normals(600, distance, neurons=4, share=0.3)
    z *= 1 / z.std(axis=0)  # scikit-learn scales
    expected = mutual_info_classif(z, y, n_neighbors=3, random_state=0) / np.log(2)
    found = neuron_divergence(z, y, 2, weights="frequency", estimator="neighbours")
    assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
def test_neighbours_with_equal_classes_does_not_depend_on_the_weights():
    z, y = two_normals(400, 1.3, neurons=5)
    uniform, frequency = (
        neuron_divergence(z, y, 2, weights=w, estimator="neighbours") for w in ("uniform", "frequency")
    )
    assert uniform == pytest.approx(frequency, abs=1e-9)


@EVERY
@BOTH
def test_every_estimator_finds_the_divergence_of_two_normals(estimator, weights):
    z, y = two_normals(20_000, 2.0, neurons=3, share=0.25)
    told = [0.25, 0.75] if weights == "frequency" else [0.5, 0.5]
    expected = mixture_divergence([norm(0, 1).pdf, norm(2, 1).pdf], told, -9, 11)
    found = neuron_divergence(z, y, 2, weights=weights, estimator=estimator)
    assert np.abs(found - expected).max() < 0.03


@EVERY
def test_with_frequencies_it_is_the_mutual_information(estimator):
    z, y = two_normals(20_000, 50.0, share=0.1)  # apart: I(Z; Y) = H(Y)
    found = neuron_divergence(z, y, 2, weights="frequency", estimator=estimator)
    assert found[0] == pytest.approx(entropy([0.1, 0.9], base=2), abs=0.01)
    assert neuron_divergence(z, y, 2, estimator=estimator)[0] == pytest.approx(1, abs=0.01)


@EVERY
def test_no_information_is_near_zero_and_none_is_below(estimator):
    rng = np.random.default_rng(0)
    bits = neuron_divergence(rng.normal(size=(8000, 30)), rng.integers(0, 4, 8000), 4, estimator=estimator)
    assert (bits >= 0).all()
    assert bits.mean() < 0.03


@EVERY
@settings(max_examples=25, deadline=None)
@example(n=2, num_classes=2, weights="uniform", seed=1)  # kernels as narrow as a bin
@given(
    n=st.integers(1, 50),
    num_classes=st.integers(1, 5),
    weights=st.sampled_from(["uniform", "frequency"]),
    seed=st.integers(0, 9999),
)
def test_any_input_is_in_range(estimator, n, num_classes, weights, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, num_classes, n)
    z = np.stack([rng.normal(size=n), np.full(n, 2.5), rng.integers(0, 2, n), 1e6 + rng.normal(size=n)], axis=1)
    bits = neuron_divergence(z, y, num_classes, weights=weights, estimator=estimator)
    assert np.isfinite(bits).all()
    assert (bits >= 0).all()
    assert (bits[[0, 1, 3]] <= np.log2(num_classes) + (1.5 if estimator == "neighbours" else 1e-6)).all()
    assert bits[1] < 1e-12


@EVERY
def test_scale_and_shift_change_nothing(estimator):
    z, y = two_normals(500, 1.0)
    before = neuron_divergence(z, y, 2, estimator=estimator)[0]
    assert neuron_divergence(1000 * z - 77, y, 2, estimator=estimator)[0] == pytest.approx(before, abs=0.02)


@EVERY
def test_missing_classes_do_not_count(estimator):
    z, y = two_normals(500, 1.0)
    expected = neuron_divergence(z, y, 2, estimator=estimator)
    assert neuron_divergence(z, 4 * y + 1, 9, estimator=estimator) == pytest.approx(expected, abs=1e-9)


@EVERY
def test_only_samples_predicted_as_labelled(estimator):
    z, y = two_normals(400, 1.0)
    predicted = np.where(np.arange(400) % 3 == 0, 1 - y, y)
    kept = predicted == y
    expected = neuron_divergence(z[kept], y[kept], 2, estimator=estimator)
    assert np.array_equal(neuron_divergence(z, y, 2, estimator=estimator, predicted=predicted), expected)
    assert np.isnan(neuron_divergence(z, y, 2, estimator=estimator, predicted=1 - y)).all()


def test_wrong_arguments():
    z, y = two_normals(10, 1.0)
    with pytest.raises(ParameterError, match="did you mean 'gaussian'"):
        neuron_divergence(z, y, 2, estimator="gausian")
    with pytest.raises(ParameterError, match=r"predicted of shape \(3,\): must be \(10,\), as the labels"):
        neuron_divergence(z, y, 2, predicted=np.zeros(3))
    with pytest.raises(ValueError, match="must be finite"):
        neuron_divergence(np.full((10, 1), np.inf), y, 2, estimator="gaussian")


def test_aggregation():
    bits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert aggregate(bits, 0.5) == 1.5
    assert aggregate(bits.numpy(), None) == 1.5
    assert aggregate(bits, 1) == 3
    assert isinstance(aggregate(bits), float)
    with pytest.raises(ParameterError, match=r"quantile=1\.5: must be a number in \[0, 1\]"):
        aggregate(bits, 1.5)


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5), min_size=1, max_size=4),
    st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1, None]),
)
def test_quantiles_of_any_shape_are_those_of_numpy(values, quantile):
    values = np.array(values).reshape(-1, 1, 5)
    expected = values.mean(axis=-1) if quantile is None else np.quantile(values, quantile, axis=-1)
    assert aggregate(values, quantile) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    rising = np.sort(values, axis=-1)
    if quantile is not None:
        assert np.array_equal(aggregate(rising, quantile, ordered=True), aggregate(values, quantile))


@pytest.mark.parametrize("quantile", [0, 0.3, 1, None])
def test_a_missing_divergence_has_no_quantile(quantile):
    bits = np.array([[1.0, np.nan, 0.0], [3.0, 1.0, 2.0]], dtype=np.float32)
    assert np.isnan(aggregate(bits, quantile)).tolist() == [True, False]
    assert np.isnan(aggregate(bits[0], quantile))


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    weights=st.sampled_from(["uniform", "frequency"]),
    bins=st.integers(2, 50),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_streaming_in_two_passes_equals_all_at_once(cuts, weights, bins, dtype):
    generator = torch.Generator().manual_seed(sum(cuts))
    z = torch.randn(sum(cuts), 5, generator=generator).to(dtype)
    y = torch.randint(3, (sum(cuts),), generator=generator)
    stream = StreamingDivergence(3, bins)
    for batch in z.split(cuts):
        stream.observe(batch)
    for batch, labels in zip(z.split(cuts), y.split(cuts), strict=True):
        stream.update(batch, labels)
    assert torch.equal(stream.compute(weights), neuron_divergence(z, y, 3, bins, weights))


def test_streaming_with_a_fixed_range_counts_what_is_beyond_in_the_outer_bins():
    z, y = two_normals(600, 1.0, neurons=3)
    low, high = np.full(3, -1.0), np.full(3, 2.0)
    stream = StreamingDivergence(2, 10, low, high)
    for rows in np.split(np.arange(600), 4):
        stream.update(z[rows], y[rows])
    inside = np.clip(z, -1, 2)
    edges = np.linspace(-1, 2, 11)
    for neuron in range(3):
        p = [np.histogram(inside[y == label, neuron], edges)[0] / 300 for label in (0, 1)]
        expected = entropy((p[0] + p[1]) / 2, base=2) - (entropy(p[0], base=2) + entropy(p[1], base=2)) / 2
        assert stream.compute()[neuron].item() == pytest.approx(expected, abs=1e-9)


def test_streaming_says_what_is_missing():
    with pytest.raises(ParameterError, match="must be given both, or neither"):
        StreamingDivergence(2, low=np.zeros(3))
    with pytest.raises(ParameterError, match="high: must be above low"):
        StreamingDivergence(2, low=np.zeros(3), high=np.zeros(3))
    stream = StreamingDivergence(2)
    with pytest.raises(ParameterError, match=r"found by observe\(\) on every batch before update"):
        stream.update(np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(ParameterError, match=r"compute\(\): must come after update"):
        stream.compute()
