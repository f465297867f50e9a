"""A dataset in memory on one device: stored inputs, true labels, and where they are from."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from lib.checks import ParameterError, found
from lib.data import labels, layout
from lib.data.inputs import Inputs

_log = logging.getLogger("lib")


@dataclass(frozen=True)
class Dataset:
    """Inputs and true labels.

    Attributes:
        x_train, x_test: inputs; a batch of them, as a network sees it, is `x_train[rows]`. Tensors of shape (n, ...)
            are taken as features.
        y_train, y_test: classes in [0, num_classes), int64, shape (n,).
        classes: name of each class.
        source: where the data is from, one line for tables and figures.
        train_rows: positions of the training samples in the whole set, where this is part of it.
    """

    x_train: Inputs
    y_train: torch.Tensor
    x_test: Inputs
    y_test: torch.Tensor
    classes: tuple[str, ...]
    source: str
    train_rows: torch.Tensor | None = None

    def __post_init__(self):
        for name in ("x_train", "x_test"):
            if isinstance(getattr(self, name), torch.Tensor):
                object.__setattr__(self, name, Inputs.features(getattr(self, name)))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    def to(self, device: str, channels_last: bool = False) -> "Dataset":
        """The same data on a device, images in the memory format asked for."""
        moved = {name: getattr(self, name).to(device, channels_last) for name in ("x_train", "x_test")}
        moved |= {name: getattr(self, name).to(device) for name in ("y_train", "y_test")}
        return replace(self, **moved)


def from_arrays(
    arrays: dict[str, np.ndarray],
    origin: str,
    statistics: tuple[list[float], list[float]] | None = None,
    largest: float = 255,
    axes: str = "auto",
    scaling: str = "auto",
) -> Dataset:
    """A dataset from arrays, checked.

    Args:
        arrays: x_train and x_test, numbers of any type and shape (n, ...): images (n, height, width),
            (n, height, width, channels) or (n, channels, height, width), or features; y_train and y_test, see
            `lib.data.labels.read`; where given, the name of each class in classes, and a line in source.
        origin: what the arrays are, for errors, and the source where none is given.
        statistics: mean and standard deviation of each channel of uint8 images on the scale [0, 1]; None: see scaling.
        largest: the value of white where statistics are given.
        axes: of samples: channels_last, channels_first, features; auto: what alone fits, see `lib.data.layout.told`.
        scaling: auto, standardise or none, see `lib.data.layout.scaled`.

    Raises:
        ParameterError: names the array that is missing or does not fit.
    """
    wanted = ("x_train", "y_train", "x_test", "y_test")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        there = found(missing[0], arrays)
        raise ParameterError(f"{origin}: must hold {', '.join(wanted)}; {', '.join(missing)} missing, {there}")
    y = labels.read(arrays["y_train"], arrays["y_test"], arrays.get("classes"), origin)
    train, test = (layout.checked(arrays[name], f"{name} of {origin}") for name in ("x_train", "x_test"))
    for part, inputs, labelled in (("train", train, y.train), ("test", test, y.test)):
        if len(inputs) != len(labelled):
            allowed = f"must have as many samples as y_{part}, {len(labelled)}"
            raise ParameterError(f"x_{part} of {origin}: {allowed}, not {len(inputs)}")
    if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
        allowed = f"must have samples like those of x_train, {train.dtype} {train.shape[1:]}"
        raise ParameterError(f"x_test of {origin}: {allowed}, not {test.dtype} {test.shape[1:]}")
    axes = layout.told(train, axes, f"x_train of {origin}")
    if statistics:
        stored = [layout.images(values, axes) for values in (train, test)]
        if train.dtype != np.uint8 or axes == "features" or stored[0].shape[-1] != len(statistics[0]):
            allowed = f"uint8 images of {len(statistics[0])} channels"
            raise ParameterError(f"x_train of {origin}: must be {allowed}, not {train.dtype} {train.shape[1:]}")
        x_train, x_test, scaled = *(Inputs.images(values, *statistics, largest) for values in stored), ""
    else:
        x_train, x_test, scaled = layout.scaled(train, test, axes, scaling)
    taken = [scaled] if scaled else []
    taken += [f"labels taken from {y.taken_from}"] if y.taken_from else []
    if taken:
        _log.info("%s: %s", origin, ", ".join(taken))
    source = ", ".join([str(arrays.get("source", origin)), *taken])
    return Dataset(x_train, y.train, x_test, y.test, y.classes, source)
