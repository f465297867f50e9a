"""From arrays to inputs: what their axes are, and how their numbers are brought to unit scale."""

from collections.abc import Iterator

import numpy as np
import torch

from lib.checks import ParameterError
from lib.data.inputs import Inputs

_CHANNELS = (1, 3, 4)  # of images, where nothing else says which axis they are
_BLOCK = 1 << 18  # numbers that are looked at together, so that a mapped array is never in memory as a whole
_FAR = 10  # times unit scale
_ROUNDING = 1e-12  # deviation of a constant from its mean, relative to it


def checked(values: np.ndarray, name: str) -> np.ndarray:
    """Numbers of shape (n, ...) in a type that torch knows, not copied where they are in one. Raises ParameterError."""
    if values.ndim < 2 or values.dtype.kind not in "biuf" or 0 in values.shape[1:]:
        raise ParameterError(f"{name}: must be numbers of shape (n, ...), not {values.dtype} {values.shape}")
    native = np.float64 if values.dtype.kind == "f" and values.dtype.itemsize > 8 else values.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):
        parts = _blocks(values) if values.dtype.kind == "f" else ()
        finite = all(np.isfinite(block.astype(np.float32, copy=False)).all() for block in parts)
    if not finite:
        raise ParameterError(f"{name}: must be finite numbers of single precision, holds NaN, infinity or larger ones")
    return values.astype(native, copy=False)


def told(values: np.ndarray, layout: str, name: str) -> str:
    """The layout of an array: what the parameter says, or for auto what alone fits.

    Args:
        values: shape (n, ...).
        layout: the parameter.
        name: of the array, for errors.

    Returns:
        channels_last, channels_first or features.

    Raises:
        ParameterError: where the parameter does not fit, or more than one layout does.
    """
    given = f"{name}, {values.dtype} of shape {values.shape}"
    if layout != "auto":
        if layout != "features" and values.ndim not in (3, 4):
            raise ParameterError(f"layout={layout!r}: must be auto or features for {given}")
        return layout
    if values.ndim not in (3, 4):
        return "features"
    if values.ndim == 3 and values.dtype.kind in "bu":
        return "channels_last"
    places = {"channels_last": values.shape[-1], "channels_first": values.shape[1]} if values.ndim == 4 else {}
    fitting = [place for place, channels in places.items() if channels in _CHANNELS]
    if len(fitting) != 1:
        raise ParameterError(f"layout='auto': must be channels_last, channels_first or features for {given}")
    return fitting[0]


def images(values: np.ndarray, layout: str) -> torch.Tensor:
    """Images as a tensor of shape (n, height, width, channels) on the memory of the array."""
    stored = torch.from_numpy(values)
    if stored.ndim == 3:
        return stored[..., None]
    return stored.movedim(1, -1) if layout == "channels_first" else stored


def scaled(train: np.ndarray, test: np.ndarray, layout: str, scaling: str) -> tuple[Inputs, Inputs, str]:
    """Inputs that a network sees at unit scale.

    Args:
        train, test: numbers, shape (n, ...), alike.
        layout: channels_last, channels_first or features.
        scaling: auto: images channel by channel, features where one of them is far from unit scale: deviation or mean
            above 10, or no magnitude above 0.1; standardise: always; none: never.

    Returns:
        Inputs of both parts, by mean and deviation of the training part, and what was done, in words, may be empty.
    """
    are_images = layout != "features"
    stored = [images(values, layout) if are_images else torch.from_numpy(values) for values in (train, test)]
    seen = f"{train.dtype} images, {layout.replace('_', ' ')}" if are_images and train.dtype != np.uint8 else ""
    if scaling == "none":
        return *(Inputs(values, are_images=are_images) for values in stored), seen
    mean, deviation, far = _statistics(stored[0].numpy(), are_images)
    if are_images:
        return *(Inputs.images(values, mean, deviation, largest=1) for values in stored), seen
    if scaling == "auto" and not far:
        return *(Inputs.features(values) for values in stored), ""
    how = "features standardised by training mean and deviation"
    return *(Inputs.features(values, mean, deviation) for values in stored), how


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
