"""Labels as data sets have them: numbers, text or one-hot rows become classes in [0, K) where only one reading fits."""

import numpy as np
import pandas as pd
import torch

from lib.checks import ParameterError, found


def read(
    train: np.ndarray,
    test: np.ndarray,
    classes: np.ndarray | None,
    origin: str,
    names: tuple[str, str] = ("y_train", "y_test"),
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...], str]:
    """Labels of both parts, read by one rule.

    Args:
        train, test: integers, whole numbers of any type or truth values of shape (n,) or (n, 1); one-hot rows of shape
            (n, K); or text. Numbers begin at 0, or at 1 where 0 occurs in neither part and the classes fit.
        classes: their names, shape (K,), which text must be among; None: numbers must then be without gaps in the
            training part, and the classes of text are those of the training part, in order.
        origin, names: what the arrays are and what the two are called, for errors.

    Returns:
        Classes in [0, K) of the training and of the test samples, int64, shape (n,); the name of each class; how the
        labels are written where not as integers in [0, K), shape (n,), in words, may be empty.

    Raises:
        ParameterError: for labels that are none, or could be read in two ways.
    """
    (train, kind, unusual), (test, other, more) = (
        _written(values, f"{name} of {origin}") for name, values in zip(names, (train, test), strict=True)
    )
    if kind != other:
        raise ParameterError(
            f"{names[1]} of {origin}: must be written like {names[0]}, which holds {kind}, not {other}"
        )
    unusual = list(dict.fromkeys(unusual + more))
    known = None if classes is None else _text(classes, f"classes of {origin}")
    if known is not None and known.ndim != 1:
        raise ParameterError(f"classes of {origin}: must be names of shape (K,), not {known.tolist()!r}")
    if kind == "text":
        known = np.unique(train) if known is None else known
        train, test = (_places(text, known, origin) for text in (train, test))
    elif kind == "numbers":
        known, first = _numbered(train, test, known, origin, names)
        train, test = train - first, test - first
        unusual += [f"1 to {len(known)}"] if first else []
    else:
        columns = int(kind.split()[-1])
        known = np.arange(columns) if known is None else known
        if len(known) != columns:
            raise ParameterError(f"classes of {origin}: must name the {columns} columns, found {known.tolist()}")
    if len(known) < 2:
        raise ParameterError(f"classes of {origin}: must be at least 2, found {', '.join(map(str, known))}")
    y_train, y_test = (torch.from_numpy(values.astype(np.int64)) for values in (train, test))
    return y_train, y_test, tuple(map(str, known)), ", ".join(unusual)


def _written(values: np.ndarray, name: str) -> tuple[np.ndarray, str, list[str]]:
    """Labels of one part, shape (n,), their kind, and what is unusual about them."""
    unusual = []
    if values.dtype.kind in "OSU":
        values = _text(values, name)
    if values.size == 0:
        raise ParameterError(f"{name}: must hold at least one label, is empty")
    if values.ndim == 2 and values.shape[1] == 1:
        values, unusual = values[:, 0], ["shape (n, 1)"]
    if values.dtype.kind not in "biufU" or values.ndim > (1 if values.dtype.kind == "U" else 2):
        allowed = "numbers, truth values or text of shape (n,) or (n, 1), or one-hot rows of shape (n, K)"
        raise ParameterError(f"{name}: must be {allowed}, not {values.dtype} {values.shape}")
    if values.dtype.kind == "U":
        return values, "text", [*unusual, "text"]
    if values.ndim == 2:
        wrong = ~((values == 0) | (values == 1)).all(axis=1) | (values.sum(axis=1) != 1)
        if wrong.any():
            which = f"{wrong.sum()} of {len(values)} are not, such as row {wrong.argmax()}"
            raise ParameterError(f"{name}: rows must be one-hot, a single 1 among 0s, which {which}")
        return values.argmax(axis=1), f"one-hot rows of {values.shape[1]}", ["one-hot rows"]
    fits = (values >= 0) & (values < 2**31) & (values == np.floor(values))
    if not fits.all():
        which = f"{(~fits).sum()} of {len(values)} are not, such as {values[~fits][0]}"
        raise ParameterError(f"{name}: must be whole numbers of at least 0, which {which}")
    if values.dtype.kind in "bf":
        unusual.append("truth values" if values.dtype.kind == "b" else f"whole numbers of {values.dtype}")
    return values.astype(np.int64), "numbers", unusual


def _text(values: np.ndarray, name: str) -> np.ndarray:
    """Text of any kind as Unicode; numbers as they are written, objects that are no text as they are."""
    if values.dtype.kind == "O" and not all(isinstance(value, str) for value in values.flat):
        return values
    try:
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(str)
    except UnicodeDecodeError as error:
        raise ParameterError(f"{name}: must be text in UTF-8 ({error})") from error


def _places(text: np.ndarray, known: np.ndarray, origin: str) -> np.ndarray:
    """The place of each label among the known names."""
    if len(set(known)) < len(known):
        raise ParameterError(f"classes of {origin}: must name each class once, found {', '.join(known)}")
    places = pd.Index(known).get_indexer(text)
    unknown = np.unique(text[places < 0])
    if len(unknown):
        those = f"{', '.join(unknown)}; {found(unknown[0], known.tolist())}"
        raise ParameterError(f"labels of {origin}: must be of the classes in y_train or classes, not {those}")
    return places


def _numbered(
    train: np.ndarray, test: np.ndarray, named: np.ndarray | None, origin: str, names: tuple[str, str]
) -> tuple[np.ndarray, int]:
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
            f"{names[0]} of {origin}: must hold every class 0 ... K - 1 or 1 ... K where no classes are named, and "
            f"{names[1]} no other; found {len(present)} classes and labels up to {highest}"
        )
    return present, first
