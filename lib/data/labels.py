"""Labels as data sets have them: numbers, text or one-hot rows become classes in [0, K) where only one reading fits."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from lib.checks import ParameterError, found


class Labels(NamedTuple):
    """Classes of the training and test samples, and what they were taken from.

    Attributes:
        train, test: classes in [0, K), int64, shape (n,).
        classes: name of each class.
        taken_from: how they are written where not as integers in [0, K), shape (n,); in words, may be empty.
    """

    train: torch.Tensor
    test: torch.Tensor
    classes: tuple[str, ...]
    taken_from: str


class _Written(NamedTuple):
    """Labels of one part, shape (n,), their kind, and what is unusual about them."""

    values: np.ndarray
    kind: str
    unusual: list[str]


def read(train: np.ndarray, test: np.ndarray, classes: np.ndarray | None, origin: str) -> Labels:
    """Labels of both parts, read by one rule.

    Args:
        train, test: integers, whole numbers of any type or truth values of shape (n,) or (n, 1); one-hot rows of shape
            (n, K); or text. Numbers begin at 0, or at 1 where 0 occurs in neither part and the classes fit.
        classes: their names, shape (K,), which text must be among; None: numbers must then be without gaps in the
            training part, and the classes of text are those of the training part, in order.
        origin: what the arrays are, for errors.

    Raises:
        ParameterError: for labels that are none, or could be read in two ways.
    """
    parts = {f"y_{part} of {origin}": values for part, values in (("train", train), ("test", test))}
    written = [_written(values, name) for name, values in parts.items()]
    values, kinds = [part.values for part in written], [part.kind for part in written]
    if kinds[0] != kinds[1]:
        raise ParameterError(
            f"y_test of {origin}: must be written like y_train, which holds {kinds[0]}, not {kinds[1]}"
        )
    unusual = list(dict.fromkeys(how for part in written for how in part.unusual))
    known = None if classes is None else _names(classes, origin)
    if kinds[0] == "text":
        known = np.unique(values[0]) if known is None else known
        values = [_places(text, known, name) for text, name in zip(values, parts, strict=True)]
    elif kinds[0] == "numbers":
        known, first = _numbered(*values, known, origin)
        values = [numbers - first for numbers in values]
        unusual += [f"1 to {len(known)}"] if first else []
    else:
        columns = train.shape[1]
        if known is not None and len(known) != columns:
            raise ParameterError(f"classes of {origin}: must name the {columns} columns, found {known.tolist()}")
        known = np.arange(columns) if known is None else known
    if len(known) < 2:
        raise ParameterError(f"classes of {origin}: must be at least 2, found {', '.join(map(str, known))}")
    tensors = (torch.from_numpy(numbers.astype(np.int64)) for numbers in values)
    return Labels(*tensors, tuple(map(str, known)), ", ".join(unusual))


def _written(values: np.ndarray, name: str) -> _Written:
    unusual = []
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.size == 0:
        raise ParameterError(f"{name}: must hold at least one label, is empty")
    if values.dtype.kind not in "biufSU":
        raise ParameterError(f"{name}: must be numbers, truth values or text, not {values.dtype} {values.shape}")
    if values.ndim == 2 and values.shape[1] == 1:
        values, unusual = values[:, 0], ["shape (n, 1)"]
    if values.dtype.kind in "SU" and values.ndim == 1:
        return _Written(_decoded(values, name), "text", [*unusual, "text"])
    if values.ndim == 2 and values.dtype.kind in "biuf":
        wrong = ~((values == 0) | (values == 1)).all(axis=1) | (values.sum(axis=1) != 1)
        if wrong.any():
            row = int(wrong.argmax())
            allowed = "rows must be one-hot, a single 1 among 0s"
            raise ParameterError(f"{name}: {allowed}, which {wrong.sum()} of {len(values)} are not, such as row {row}")
        return _Written(values.argmax(axis=1), f"one-hot rows of {values.shape[1]}", ["one-hot rows"])
    if values.ndim != 1:
        raise ParameterError(f"{name}: must have the shape (n,), (n, 1) or (n, K) for one-hot rows, not {values.shape}")
    fits = (values >= 0) & (values < 2**31) & (values == np.floor(values))
    if not fits.all():
        count = f"{(~fits).sum()} of {len(values)} are not, such as {values[~fits][0]}"
        raise ParameterError(f"{name}: must be whole numbers of at least 0, which {count}")
    if values.dtype.kind in "bf":
        unusual.append("truth values" if values.dtype.kind == "b" else f"whole numbers of {values.dtype}")
    return _Written(values.astype(np.int64), "numbers", unusual)


def _decoded(text: np.ndarray, name: str) -> np.ndarray:
    try:
        return np.char.decode(text, "utf-8") if text.dtype.kind == "S" else text
    except UnicodeDecodeError as error:
        raise ParameterError(f"{name}: must be text in UTF-8 ({error})") from error


def _names(classes: np.ndarray, origin: str) -> np.ndarray:
    names = _decoded(classes, f"classes of {origin}")
    if names.ndim != 1:
        raise ParameterError(f"classes of {origin}: must be names of shape (K,), not {names.tolist()!r}")
    return names.astype(str)


def _places(text: np.ndarray, known: np.ndarray, name: str) -> np.ndarray:
    """The place of each label among the known names."""
    if len(set(known)) < len(known):
        raise ParameterError(f"{name}: classes must name each class once, found {', '.join(known)}")
    places = pd.Index(known).get_indexer(text)
    unknown = np.unique(text[places < 0])
    if len(unknown):
        those = f"{', '.join(unknown)}; {found(unknown[0], known.tolist())}"
        raise ParameterError(f"{name}: must be of the classes in y_train or classes, not {those}")
    return places


def _numbered(train: np.ndarray, test: np.ndarray, named: np.ndarray | None, origin: str) -> tuple[np.ndarray, int]:
    """The names of numbered classes, and the number of the first, 0 or 1."""
    present, lowest, highest = np.unique(train), min(train.min(), test.min()), max(train.max(), test.max())
    if named is not None:
        first = int(lowest > 0 and len(named) == highest)
        if len(named) + first <= highest:
            raise ParameterError(f"classes of {origin}: must name at least {highest + 1}, not {named.tolist()}")
        return named, first
    first = int(lowest == 1)
    if not np.array_equal(present, np.arange(first, highest + 1)):
        raise ParameterError(
            f"y_train of {origin}: must hold every class 0 ... K - 1 or 1 ... K where no classes are named, and y_test "
            f"no other; found {len(present)} classes and labels up to {highest}"
        )
    return present, first
