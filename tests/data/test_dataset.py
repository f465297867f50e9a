import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from lib import data
from lib.checks import ParameterError
from lib.data import augmentation
from lib.data import dataset as module
from lib.data.dataset import from_arrays
from lib.parameters import Experiment
from lib.training import run

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 9, 7, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2
TYPES = [np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64]
TYPES += [np.float16, np.float32, np.float64, np.longdouble, ">f4", ">u2"]
EVERY = pytest.mark.parametrize("dtype", TYPES)


def dataset(x, **options):
    return from_arrays({"x_train": x, "y_train": LABELS, "x_test": x[:8], "y_test": LABELS[:8]}, "own", **options)


@EVERY
@pytest.mark.parametrize("first", [False, True])
def test_images_of_any_type_are_laid_out_and_normalised_as_uint8_ones_are(dtype, first):
    images = BYTES // 2 if dtype == np.int8 else BYTES
    expected = dataset(images)
    changed = images.astype(dtype).transpose(0, 3, 1, 2) if first else images.astype(dtype)
    found = dataset(changed)
    assert found.x_train.shape == (40, 3, 9, 7)
    assert torch.allclose(found.x_train[:], expected.x_train[:], atol=1e-5)
    assert torch.allclose(found.x_test[:], expected.x_test[:], atol=1e-5)
    kind = "float64" if dtype == np.longdouble else changed.dtype.newbyteorder("=")
    assert found.source == f"own, {kind} images, channels {'first' if first else 'last'}"


@pytest.mark.parametrize("stored", [BYTES, BYTES.transpose(0, 3, 1, 2), BYTES[..., 0], BYTES[..., :1]])
def test_images_in_any_layout_are_normalised_by_their_own_statistics(stored):
    seen = dataset(stored).x_train[:]
    channels = 3 if 3 in stored.shape else 1
    assert seen.shape == (40, channels, 9, 7)
    assert torch.allclose(seen.mean(dim=(0, 2, 3)), torch.zeros(channels), atol=1e-5)
    assert torch.allclose(seen.std(dim=(0, 2, 3), correction=0), torch.ones(channels), atol=1e-5)


@pytest.mark.parametrize("scale", [1 / 255, 1, 257, 1e-30])
def test_images_on_any_scale_are_normalised_alike(scale):
    assert torch.allclose(dataset(BYTES.astype(np.float64) * scale).x_train[:], dataset(BYTES).x_train[:], atol=1e-5)


@EVERY
def test_images_of_any_type_are_augmented_alike(dtype):
    images = np.ascontiguousarray(BYTES[:, :7, :7] // 2)
    moves = augmentation.draw("crop_flip", 40, 7, np.random.default_rng(1))
    expected, found = dataset(images).x_train, dataset(images.astype(dtype).transpose(0, 3, 1, 2)).x_train
    assert torch.allclose(found.augmented(slice(None), moves), expected.augmented(slice(None), moves), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((40, 9, 7, 3), "f4", "channels_last"),
        ((40, 1, 28, 28), "u2", "channels_first"),
        ((40, 4, 8, 8), "f8", "channels_first"),
        ((40, 28, 28), "u1", "channels_last"),
        ((40, 28, 28), "u2", "channels_last"),
        ((40, 5), "u1", "features"),
        ((40, 2, 3, 4, 5), "f4", "features"),
    ],
)
def test_what_is_unambiguous_needs_no_layout(shape, dtype, expected):
    assert module._axes(np.zeros(shape, dtype), "auto", "x") == expected


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((40, 28, 28), "f4"), ((40, 3, 8, 3), "u1"), ((40, 5, 8, 8), "f4"), ((40, 8, 8, 16), "u1"), ((40, 16, 300), "i8")],
)
def test_where_more_than_one_layout_fits_it_must_be_said(shape, dtype):
    x = RNG.integers(0, 9, shape).astype(dtype)
    with pytest.raises(
        ParameterError, match=r"layout='auto': must be channels_last, channels_first or features for x_tr"
    ):
        dataset(x)
    n, *sample = shape
    last = sample if len(sample) == 3 else [*sample, 1]
    first = sample if len(sample) == 3 else [1, *sample]
    assert dataset(x, axes="channels_last").x_train.shape == (n, last[2], *last[:2])
    assert dataset(x, axes="channels_first").x_train.shape == (n, *first)
    assert dataset(x, axes="features").x_train.shape == shape


def test_a_layout_of_images_does_not_fit_a_table():
    with pytest.raises(ParameterError, match=r"layout='channels_first': must be auto or features for x_train of own"):
        dataset(np.zeros((40, 5)), axes="channels_first")


FAR = {
    "large": RNG.normal(0, 1000, (40, 5)),
    "off": RNG.normal(100, 1, (40, 5)),
    "small": RNG.normal(0, 1e-3, (40, 5)),
    "mixed": RNG.normal(0, 1, (40, 5)) * [1e-4, 1, 1e4, 1, 1],
    "times": 1.6e9 + RNG.normal(0, 1, (40, 5)),
    "halves": RNG.uniform(-6e4, 6e4, (40, 5)).astype(np.float16),
    "bytes": RNG.integers(0, 256, (40, 5), dtype=np.uint8),
    "counts": RNG.integers(0, 2**40, (40, 5)),
    "sequence": RNG.normal(50, 20, (40, 4, 5)),
}


@pytest.mark.parametrize("kind", FAR)
def test_features_far_from_unit_scale_are_standardised_and_said_so(kind):
    values = FAR[kind]
    found = dataset(values, axes="features")
    double = values.astype(np.float64)
    expected = (double - double.mean(axis=0)) / double.std(axis=0)
    assert np.allclose(found.x_train[:].numpy(), expected, atol=1e-4)
    assert np.allclose(found.x_test[:].numpy(), expected[:8], atol=1e-4)
    assert found.source == "own, features standardised by training mean and deviation"
    assert np.array_equal(
        dataset(values, axes="features", scaling="none").x_train[:].numpy(), values.astype(np.float32)
    )


@pytest.mark.parametrize(
    "values", [RNG.normal(0, 5, (40, 5)), RNG.uniform(0, 1, (40, 5)), np.eye(40), np.zeros((40, 5))]
)
def test_features_near_unit_scale_stay_unless_asked(values):
    found = dataset(values)
    assert found.source == "own"
    assert np.array_equal(found.x_train[:].numpy(), values.astype(np.float32))
    asked = dataset(values, scaling="standardise")
    deviation = values.std(axis=0)
    expected = (values - values.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
    assert np.allclose(asked.x_train[:].numpy(), expected, atol=1e-5)
    assert asked.source.endswith("standardised by training mean and deviation")


def test_constant_features_and_channels_become_0():
    values = np.tile([1000.0, 0.1, 7e8], (40, 1))
    assert np.allclose(dataset(values).x_train[:], 0, atol=1e-12)
    assert not dataset(np.full((40, 6, 6, 3), 200, np.uint8)).x_train[:].any()


def test_the_test_part_is_seen_by_statistics_of_the_training_part():
    x = {"x_train": RNG.normal(100, 20, (40, 3)), "x_test": RNG.normal(-5, 1, (8, 3))}
    found = from_arrays({**x, "y_train": LABELS, "y_test": LABELS[:8]}, "own")
    expected = (x["x_test"] - x["x_train"].mean(axis=0)) / x["x_train"].std(axis=0)
    assert np.allclose(found.x_test[:].numpy(), expected, atol=1e-5)


@pytest.mark.slow
@given(arrays_of.arrays(np.float64, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=st.floats(-1e6, 1e6)))
def test_statistics_in_blocks_are_those_of_the_whole(values):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 7)
        mean, deviation, _ = module._statistics(values, by_channel=False)
    assert np.allclose(mean, values.mean(axis=0), rtol=1e-9, atol=1e-9)
    expected = values.std(axis=0)
    varied = expected > 1e-6 * np.abs(values).max(axis=0)
    assert np.allclose(deviation[varied], expected[varied], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("first", [False, True])
def test_a_large_array_is_not_held_twice(dtype, first):
    images = BYTES.transpose(0, 3, 1, 2).copy() if first else BYTES
    images = images.astype(dtype)
    assert np.shares_memory(dataset(images).x_train.stored.numpy(), images)
    features = images.reshape(40, -1)
    assert np.shares_memory(dataset(features).x_train.stored.numpy(), features)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("part", ["x_train", "x_test"])
def test_a_number_that_is_none_is_named_by_its_array(wrong, part):
    x = {"x_train": np.ones((40, 3)), "x_test": np.ones((8, 3))}
    x[part][5, 1] = wrong
    with pytest.raises(ParameterError, match=rf"{part} of own: must be finite numbers of single precision"):
        from_arrays({**x, "y_train": LABELS, "y_test": LABELS[:8]}, "own")


IMAGES = BYTES[:20]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "must hold x_train, y_train, x_test, y_test; y_test missing"),
        ({"x_train": IMAGES[:-1]}, "must have as many samples as there are labels, 20, not 19"),
        ({"x_test": IMAGES[:6, :8]}, "must have samples like those of x_train"),
        ({"x_test": IMAGES[:6].astype(float)}, "must have samples like those of x_train"),
        ({"x_train": IMAGES[:, :, :5, :0]}, "must be numbers of shape (n, ...), not uint8 (20, 9, 5, 0)"),
        ({"x_train": np.array(["a"] * 20)}, "must be numbers of shape (n, ...)"),
        ({"y_train": LABELS[:20] / 2}, "must be whole numbers"),
        ({"classes": np.array(["a"])}, "must name at least 2, not ['a']"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changed, message):
    arrays = {"x_train": IMAGES, "y_train": LABELS[:20], "x_test": IMAGES[:6], "y_test": LABELS[:6]} | changed
    with pytest.raises(ParameterError, match=re.escape(message)) as error:
        from_arrays({name: value for name, value in arrays.items() if value is not None}, "own.npz")
    assert "own.npz" in str(error.value)


@pytest.mark.parametrize("name", ["layout", "scaling"])
def test_layout_and_scaling_are_of_own_data_only(name):
    value = {"layout": "features", "scaling": "none"}[name]
    with pytest.raises(ParameterError, match=rf"{name}='{value}': must be auto where dataset is no path of your own"):
        Experiment(**{name: value})
    assert Experiment(dataset="a/b.npz", **{name: value}).name != Experiment(dataset="a/b.npz").name


def test_float_images_go_through_a_whole_run_and_the_run_says_what_was_taken(tmp_path, caplog):
    caplog.set_level("INFO", logger="lib")
    x, y = RNG.uniform(0, 1, (40, 8, 8, 3)).astype(np.float32), np.array(["cat", "dog"])[LABELS]
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    experiment = Experiment(
        dataset=str(tmp_path / "own.npz"),
        runs_folder=str(tmp_path / "runs"),
        network="small_cnn",
        augmentation="crop_flip",
        probe_size=2,
        batch_size=8,
        epochs=1,
        window=1,
    )
    assert data.load(experiment).x_train.shape == (40, 3, 8, 8)
    taken = "float32 images, channels last, labels taken from text"
    assert caplog.text.count(taken) == 1
    assert run(experiment).source.endswith(taken)
