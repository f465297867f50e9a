"""A dataset in memory on one device: stored inputs, true labels, and where they are from."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from lib.checks import ParameterError
from lib.data.inputs import Inputs


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
) -> Dataset:
    """A dataset from arrays, checked.

    Args:
        arrays: x_train and x_test, of shape (n, ...): uint8 images (n, height, width), (n, height, width, channels) or
            (n, channels, height, width) with 1, 3 or 4 channels, or numbers, which a network sees as they are; y_train
            and y_test, integers of shape (n,); where given, the name of each class in classes, and a line in source.
        origin: what the arrays are, for errors, and the source where none is given.
        statistics: mean and standard deviation of each channel on the scale [0, 1]; None: those of x_train.
        largest: the value of white in images.

    Raises:
        ParameterError: names the array that is missing or does not fit.
    """
    names = ("x_train", "y_train", "x_test", "y_test")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ParameterError(f"{origin}: must hold {', '.join(names)}; {', '.join(missing)} missing")
    labels = {name: _labels(arrays[name], f"{name} of {origin}") for name in ("y_train", "y_test")}
    classes = _classes(arrays.get("classes"), labels, origin)
    stored = {name: _inputs(arrays[name], f"{name} of {origin}") for name in ("x_train", "x_test")}
    for part in ("train", "test"):
        n, labelled = len(stored[f"x_{part}"]), len(labels[f"y_{part}"])
        if n != labelled:
            raise ParameterError(f"x_{part} of {origin}: must have as many samples as y_{part}, {labelled}, not {n}")
    wanted, found = ((tuple(values.shape[1:]), values.dtype) for values in stored.values())
    if wanted != found:
        raise ParameterError(f"x_test of {origin}: must have samples like those of x_train, {wanted}, not {found}")
    if statistics and (stored["x_train"].dtype != torch.uint8 or stored["x_train"].shape[-1] != len(statistics[0])):
        allowed = f"uint8 images of {len(statistics[0])} channels"
        raise ParameterError(f"x_train of {origin}: must be {allowed}, not {arrays['x_train'].dtype} {wanted[0]}")
    if stored["x_train"].dtype == torch.uint8:
        statistics = statistics or _statistics(stored["x_train"])
        inputs = {name: Inputs.images(values, *statistics, largest) for name, values in stored.items()}
    else:
        inputs = {name: Inputs.features(values) for name, values in stored.items()}
    return Dataset(**inputs, **labels, classes=classes, source=str(arrays.get("source", origin)))


def _classes(named: np.ndarray | None, labels: dict[str, torch.Tensor], origin: str) -> tuple[str, ...]:
    """The names of the classes, which must be as many as there are labels; without names every label must occur."""
    present = labels["y_train"].unique()
    highest = max(int(values.max()) for values in labels.values())
    if named is None:
        if not torch.equal(present, torch.arange(len(present))) or highest >= len(present):
            raise ParameterError(
                f"y_train of {origin}: must hold every class 0 ... K - 1 where no classes are named, and y_test no "
                f"other; found {len(present)} classes and labels up to {highest}"
            )
        named = np.arange(len(present))
    if named.ndim != 1 or len(named) <= highest:
        raise ParameterError(f"classes of {origin}: must name at least {highest + 1}, not {named.tolist()}")
    if len(named) < 2:
        raise ParameterError(f"classes of {origin}: must be at least 2")
    return tuple(str(name) for name in named)


def _labels(values: np.ndarray, name: str) -> torch.Tensor:
    if values.ndim != 1 or len(values) == 0 or not np.issubdtype(values.dtype, np.integer) or values.min() < 0:
        raise ParameterError(f"{name}: must be integers of at least 0, shape (n,), not {values.dtype} {values.shape}")
    return torch.from_numpy(values.astype(np.int64))


def _inputs(values: np.ndarray, name: str) -> torch.Tensor:
    image, channels = values.dtype == np.uint8 and values.ndim in (3, 4), (1, 3, 4)
    fits = values.ndim == 3 or (values.ndim == 4 and (values.shape[3] in channels or values.shape[1] in channels))
    if values.ndim < 2 or values.dtype.kind not in "uif" or (image and not fits):
        allowed = "numbers of shape (n, ...), or uint8 images with 1, 3 or 4 channels"
        raise ParameterError(f"{name}: must be {allowed}, not {values.dtype} {values.shape}")
    if image and values.ndim == 3:
        return torch.from_numpy(values)[..., None]
    if image:
        channels_last = values if values.shape[3] in channels else np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        return torch.from_numpy(channels_last)
    # Half precision stays as it is stored, and becomes float32 a batch at a time.
    with np.errstate(over="ignore"):
        features = values if values.dtype in (np.float16, np.float32) else values.astype(np.float32)
    if not np.isfinite(features).all():
        raise ParameterError(f"{name}: must be finite numbers of single precision, holds NaN, infinity or larger ones")
    return torch.from_numpy(features)


def _statistics(images: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, on the scale [0, 1]."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(dim=3):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(mean.item())
        deviations.append(max((share * (values - mean) ** 2).sum().sqrt().item(), 1 / 255))
    return means, deviations
