"""Attributes of a pickled object, read without running any code that its file names.

Whatever a pickle names passes through `find_class`, and nothing is imported there: the few names by which NumPy arrays,
torch tensors and instances of one class are pickled stand for functions of this module, all others are refused. Not
even NumPy's own are called, by which a file could make a type of numbers pass for one of objects. Storages of tensors
are read by `torch.load(weights_only=True)`. A file that is made to harm can run nothing; it can still take much memory,
or end the process by a key that is a too deeply nested tuple.
"""

import io
import math
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.checks import ParameterError

_ALLOWED = "nothing but numbers, lists, arrays and tensors"
_LARGEST = 4 * 2**30  # bytes; CND of 4 estimators, 500 epochs and 500,000 neurons
# Objects of a table that other code of this process may have filled, those that lie outside the file, and sets.
_REFUSED = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "EMPTY_SET", "FROZENSET"}


def read_attributes(path: Path, kind: str) -> dict[str, Any]:
    """Attributes of a pickled instance, by name; tensors come as arrays, bfloat16 in single precision.

    Args:
        path: of the pickle, of any protocol.
        kind: module and class of the instance, as in "performances.Performances"; the class need not exist.

    Raises:
        ParameterError: for a file that asks for anything but numbers, lists, arrays and tensors, or is damaged.
        OSError: for one that cannot be read.
    """
    size = Path(path).stat().st_size
    if size > _LARGEST:
        raise ParameterError(f"must be of at most {_LARGEST:,} bytes, is of {size:,}")
    content = Path(path).read_bytes()
    try:
        _check_opcodes(content)
        reading = _Unpickler(content, kind)
        with warnings.catch_warnings(action="ignore"):  # of torch, about what a damaged file says of itself
            found = reading.load()
    except ParameterError:
        raise
    except Exception as error:  # what a damaged file makes of the stack may raise anything
        words = ascii(f"{type(error).__name__}: {error}"[:200])[1:-1]
        raise ParameterError(f"must be a whole pickle, is cut or damaged ({words})") from error
    if type(found) is not reading.instance:
        raise ParameterError(f"must hold an instance of {kind}, holds {type(found).__name__}")
    return vars(found)


def _check_opcodes(content: bytes) -> None:
    """Raise for those that `find_class` does not see, and for places in a list that would be larger than the file."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _REFUSED:
            raise ParameterError(f"asks for opcode {opcode.name}, which is refused: must hold {_ALLOWED}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(content):
            raise ParameterError(f"must be a whole pickle, is damaged (opcode {opcode.name} {argument})")


class _Unpickler(pickle.Unpickler):
    """`instance` is the class that stands for the one of that kind; each file has its own, as it can change it."""

    def __init__(self, content: bytes, kind: str):
        super().__init__(io.BytesIO(content))
        self.instance = type("Attributes", (), {})
        self._known = _KNOWN | {kind: self.instance}

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get(f"{_FORMERLY.get(module, module)}.{name}")
        if known is None:
            raise ParameterError(f"asks for {f'{module}.{name}'[:200]!r}, which is refused: must hold {_ALLOWED}")
        return known


class _Function:
    """Stands for a function that a pickle names, which may call it, and not change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable):
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ParameterError(f"sets the state of a function, which is refused: must hold {_ALLOWED}")


class _NumberType:
    """A NumPy type as pickles tell it: made of its code, then told its byte order."""

    def __init__(self, code: str, *_flags: Any):
        if not re.fullmatch(r"[biuf][1248]", code):
            raise ParameterError(f"asks for numpy.dtype({code[:40]!r}), which is refused: must hold {_ALLOWED}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array as pickles tell it: made empty, then told its values."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        values = _array(content, kind, shape)  # which checks that they fit each other
        super().__setstate__((1, values.shape, values.dtype, bool(by_columns), content))


def _array(content: bytes, kind: _NumberType, shape: tuple[int, ...], order: str = "C") -> np.ndarray:
    if type(kind) is not _NumberType:
        raise ParameterError(f"holds {type(kind).__name__} in place of a type: must hold {_ALLOWED}")
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)


def _storage(content: bytes) -> np.ndarray:
    """The values of a torch storage, shape (n,), wherever it lay."""
    try:
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {asked[1][:200]!r}, which is refused" if asked else "is damaged, or more than numbers"
        raise ParameterError(f"holds a tensor that {what}: must hold {_ALLOWED}") from error
    if not isinstance(storage, torch.TypedStorage):
        raise ParameterError(f"holds {type(storage).__name__} in place of a tensor: must hold {_ALLOWED}")
    values = torch.empty(0, dtype=storage.dtype).set_(storage)
    if values.nbytes > len(content):  # memory that nothing was read into
        raise ParameterError(f"holds a tensor of {values.nbytes} bytes: must be at most the {len(content)} of its file")
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest) -> np.ndarray:
    if math.prod(size) > storage.size:
        raise ParameterError(
            f"holds a tensor of {math.prod(size)} values: must be at most the {storage.size} of its storage"
        )
    return torch.as_strided(torch.from_numpy(storage), size, stride, offset).numpy()


_FORMERLY = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}
_KNOWN: dict[str, Any] = {
    "builtins.object": "object",  # these two are only ever arguments, and not looked at
    "numpy.ndarray": "array",
    "numpy.dtype": _Function(_NumberType),
    "numpy._core.multiarray._reconstruct": _Function(lambda *_: _Array(0)),
    "numpy._core.multiarray.scalar": _Function(lambda kind, content: _array(content, kind, ())[()]),
    "numpy._core.numeric._frombuffer": _Function(_array),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch.storage._load_from_bytes": _Function(_storage),
    "collections.OrderedDict": _Function(lambda: {}),  # the hooks of a tensor, none
    # Instances and bytes in protocols 0 to 2.
    "copyreg._reconstructor": _Function(lambda kind, *_: kind()),
    "builtins.bytes": _Function(lambda: b""),
    "_codecs.encode": _Function(lambda text, _: text.encode("latin1")),
}
