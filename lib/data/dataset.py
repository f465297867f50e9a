"""A dataset in memory on one device: stored inputs, true labels, and where they are from."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from lib.checks import ParameterError, found
from lib.data import labels
from lib.data.inputs import Inputs

_CHANNELS = (1, 3, 4)  # of images, where nothing else says which axis they are
_BLOCK = 1 << 18  # numbers that are looked at together, so that a mapped array is never in memory as a whole
_FAR = 10  # times unit scale
_ROUNDING = 1e-12  # deviation of a constant from its mean, relative to it
_log = logging.getLogger("lib")


@dataclass(frozen=True)
class Dataset:
    """Inputs and true labels.

    Attributes:
        x_train, x_test: inputs; a batch of them, as a network sees it, is `x_train[rows]`. Tensors of shape (n, ...)
            are taken as features.
        y_train, y_test: classes in [0, num_classes), int64, shape (n,); n is 0 where there is no test set.
        classes: name of each class.
        source: where the data is from, one line for tables and figures.
        given: labels of the training samples that are noisy already, shape (n,); None where there are none.
        train_rows: positions of the training samples in the whole set, where this is part of it.
    """

    x_train: Inputs
    y_train: torch.Tensor
    x_test: Inputs
    y_test: torch.Tensor
    classes: tuple[str, ...]
    source: str
    given: torch.Tensor | None = None
    train_rows: torch.Tensor | None = None

    def __post_init__(self):
        for name in ("x_train", "x_test"):
            if isinstance(getattr(self, name), torch.Tensor):
                object.__setattr__(self, name, Inputs(getattr(self, name)))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    def to(self, device: str, channels_last: bool = False) -> "Dataset":
        """The same data on a device, images in the memory format asked for."""
        moved = {name: getattr(self, name).to(device, channels_last) for name in ("x_train", "x_test")}
        moved |= {name: getattr(self, name).to(device) for name in ("y_train", "y_test")}
        moved |= {} if self.given is None else {"given": self.given.to(device)}
        return replace(self, **moved)


def from_arrays(
    arrays: dict[str, np.ndarray],
    origin: str,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
    axes: str = "auto",
    scaling: str = "auto",
) -> Dataset:
    """A dataset from arrays, checked.

    Args:
        arrays: x_train and x_test, numbers of any type and shape (n, ...): images (n, height, width),
            (n, height, width, channels) or (n, channels, height, width), or features; y_train and y_test, see
            `lib.data.labels.read`; where given, y_train_noisy, labels of the training samples that are noisy already
            and written likewise, the name of each class in classes, and a line in source.
        origin: what the arrays are, for errors, and the source where none is given.
        statistics: mean and standard deviation of each channel of uint8 images; None: see scaling.
        axes: of samples: channels_last, channels_first or features; auto: what alone fits.
        scaling: auto: images are standardised channel by channel, features where one of them is far from unit scale:
            deviation or mean above 10, or no magnitude above 0.1; standardise: always; none: never. All by mean and
            deviation of the training part.

    Raises:
        ParameterError: names the array that is missing or does not fit, or layout where more than one fits.
    """
    wanted = ("x_train", "y_train", "x_test", "y_test")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        there = found(missing[0], arrays)
        raise ParameterError(f"{origin}: must hold {', '.join(wanted)}; {', '.join(missing)} missing, {there}")
    y_train, y_test, classes, written = labels.read(arrays["y_train"], arrays["y_test"], arrays.get("classes"), origin)
    given = _given(arrays, classes, origin)
    train = _checked(arrays["x_train"], len(y_train), f"x_train of {origin}")
    test = _checked(arrays["x_test"], len(y_test), f"x_test of {origin}")
    if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
        allowed = f"must have samples like those of x_train, {train.dtype} {train.shape[1:]}"
        raise ParameterError(f"x_test of {origin}: {allowed}, not {test.dtype} {test.shape[1:]}")
    axes = _axes(train, axes, f"x_train of {origin}")
    are_images, taken = axes != "features", []
    stored = [_channels_last(values, axes) if are_images else torch.from_numpy(values) for values in (train, test)]
    if statistics and (train.dtype != np.uint8 or not are_images or stored[0].shape[-1] != len(statistics[0])):
        allowed = f"uint8 images of {len(statistics[0])} channels"
        raise ParameterError(f"x_train of {origin}: must be {allowed}, not {train.dtype} {train.shape[1:]}")
    if not statistics and scaling != "none":
        mean, deviation, far = _statistics(stored[0].numpy(), are_images)
        statistics = (mean, deviation) if are_images or far or scaling == "standardise" else None
    if are_images and train.dtype != np.uint8:
        taken.append(f"{train.dtype} images, {axes.replace('_', ' ')}")
    if statistics and not are_images:
        taken.append("features standardised by training mean and deviation")
    if written:
        taken.append(f"labels taken from {written}")
    if taken:
        _log.info("%s: %s", origin, ", ".join(taken))
    x_train, x_test = (
        Inputs.normalised(values, *statistics, are_images) if statistics else Inputs(values, are_images=are_images)
        for values in stored
    )
    source = ", ".join([str(arrays.get("source", origin)), *taken])
    return Dataset(x_train, y_train, x_test, y_test, classes, source, given)


def _given(arrays: dict[str, np.ndarray], classes: tuple[str, ...], origin: str) -> torch.Tensor | None:
    """The training labels that are noisy already, if any, in the classes of the true ones."""
    if "y_train_noisy" not in arrays:
        return None
    both, names = (arrays["y_train"], arrays["y_train_noisy"]), ("y_train", "y_train_noisy")
    true, given, found_classes, _ = labels.read(*both, arrays.get("classes"), origin, names)
    if len(given) != len(true) or found_classes != classes:
        asked = f"labels of the same {len(true)} samples in the {len(classes)} classes of y_train"
        raise ParameterError(f"y_train_noisy of {origin}: must be {asked}, not {len(given)} in {len(found_classes)}")
    return given


def _checked(values: np.ndarray, n: int, name: str) -> np.ndarray:
    """Numbers of shape (n, ...) in a type that torch knows, not copied where they are in one."""
    if values.ndim < 2 or values.dtype.kind not in "biuf" or 0 in values.shape[1:]:
        raise ParameterError(f"{name}: must be numbers of shape (n, ...), not {values.dtype} {values.shape}")
    if len(values) != n:
        raise ParameterError(f"{name}: must have as many samples as there are labels, {n}, not {len(values)}")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = all(np.isfinite(block.astype(np.float32, copy=False)).all() for block in _blocks(values))
        if not finite:
            raise ParameterError(f"{name}: must be finite numbers of single precision, holds NaN, infinity or larger")
    known = np.float64 if values.dtype == np.longdouble else values.dtype.newbyteorder("=")
    return values.astype(known, copy=False)


def _axes(values: np.ndarray, axes: str, name: str) -> str:
    """channels_last, channels_first or features: what the parameter says, or for auto what alone fits."""
    given = f"{name}, {values.dtype} of shape {values.shape}"
    if axes not in ("auto", "features") and values.ndim not in (3, 4):
        raise ParameterError(f"layout={axes!r}: must be auto or features for {given}")
    if axes != "auto":
        return axes
    if values.ndim not in (3, 4):
        return "features"
    if values.ndim == 3 and values.dtype.kind in "bu":
        return "channels_last"
    places = {"channels_last": values.shape[-1], "channels_first": values.shape[1]} if values.ndim == 4 else {}
    fitting = [place for place, channels in places.items() if channels in _CHANNELS]
    if len(fitting) != 1:
        raise ParameterError(f"layout='auto': must be channels_last, channels_first or features for {given}")
    return fitting[0]


def _channels_last(values: np.ndarray, axes: str) -> torch.Tensor:
    """Images as a tensor of shape (n, height, width, channels) on the memory of the array."""
    stored = torch.from_numpy(values)
    if stored.ndim == 3:
        return stored[..., None]
    return stored.movedim(1, -1) if axes == "channels_first" else stored


def _statistics(values: np.ndarray, by_channel: bool) -> tuple[np.ndarray, np.ndarray, bool]:
    """Mean and deviation, 1 where constant, of each channel or value of a sample; whether one is far from 1."""
    from sklearn.preprocessing import MaxAbsScaler, StandardScaler

    moments, extremes = StandardScaler(), MaxAbsScaler()
    for block in _blocks(values):
        samples = block.reshape(len(block), -1).astype(np.float64)
        moments.partial_fit(samples)
        extremes.partial_fit(samples)
    mean, variance, largest = moments.mean_, moments.var_, extremes.max_abs_
    if by_channel:
        means, variances = (of.reshape(-1, values.shape[-1]) for of in (mean, variance))
        mean, variance, largest = means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0), largest.max()
    deviation = np.sqrt(variance)
    deviation[deviation <= _ROUNDING * np.abs(mean)] = 1
    far = (np.abs(mean) > _FAR) | (deviation > _FAR) | ((largest < 1 / _FAR) & (largest > 0))
    return mean, deviation, bool(far.any())


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK // max(1, values[:1].size))
    return (values[start : start + rows] for start in range(0, len(values), rows))
