"""Attributes of a pickled object, read without running any code that its file names.

Nothing that a pickle asks for is imported. Known are the opcodes that build plain values, and the few globals by which
NumPy arrays, torch tensors and instances of one class are pickled; each of them stands for a function here, which
checks what it is given. Whatever else a file asks for is refused.
"""

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.checks import ParameterError

_ALLOWED = "nothing but numbers, lists, arrays and tensors"
_OPCODES = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS
    MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
"""
# Pickles hold storages in the old form of torch's files; the new one may be compressed, and of any size when it is not.
_OLD_TORCH_FILE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SINGLE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_PLAIN = {torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}


def read_attributes(path: Path, kind: str) -> dict[str, Any]:
    """Attributes of a pickled instance, by name; tensors come as arrays, those of half precision in single.

    Args:
        path: of the pickle.
        kind: module and class of the instance, as in "performances.Performances"; the class need not exist.

    Raises:
        ParameterError: for a file that asks for anything but numbers, lists, arrays and tensors, or is damaged.
        OSError: for one that cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        found = _Unpickler(content, kind).load()
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    except Exception as error:  # what a damaged file makes of the stack may raise anything
        raise ParameterError(f"{path}: must be a whole pickle, is cut or damaged ({_one_line(error)})") from error
    if type(found) is not _Attributes:
        raise ParameterError(f"{path}: must hold an instance of {kind}, holds {type(found).__name__}")
    return dict(found)


class _Attributes(dict):
    """Stands for the instance."""


class _Global:
    """Stands for what a pickle names; `make` is what a call of it gives, None where it may not be called."""

    def __init__(self, make: Callable | None):
        self.make = make


class _Handlers(dict):
    """What is done at each opcode."""

    def __missing__(self, code: int):
        known = pickletools.code2op.get(chr(code))
        name = known.name if known else f"0x{code:02x}"
        raise ParameterError(f"asks for opcode {name}, which is refused: must hold {_ALLOWED}")


class _Unpickler(pickle._Unpickler):
    """The one of the standard library in Python, because opcodes cannot be taken from the one in C.

    That one also makes room for any number of objects that a file of some bytes says it will name.
    """

    def __init__(self, content: bytes, kind: str):
        super().__init__(io.BytesIO(content))
        self._left = len(content)
        self._array_type, self._kind = _Global(None), _Global(None)
        self._globals = {
            kind: self._kind,
            "collections.OrderedDict": _Global(_hooks),
            "numpy.ndarray": self._array_type,
            "numpy.dtype": _Global(_dtype),
            "torch.storage._load_from_bytes": _Global(self._storage),
            "torch._utils._rebuild_tensor_v2": _Global(_tensor),
        }
        for core in ("numpy.core", "numpy._core"):
            self._globals[f"{core}.multiarray._reconstruct"] = _Global(self._empty_array)
            self._globals[f"{core}.multiarray.scalar"] = _Global(self._scalar)
            self._globals[f"{core}.numeric._frombuffer"] = _Global(self._array)

    def find_class(self, module: str, name: str) -> _Global:
        asked = f"{module}.{name}"
        if asked not in self._globals:
            raise ParameterError(f"asks for {asked[:200]!r}, which is refused: must hold {_ALLOWED}")
        return self._globals[asked]

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Global or function.make is None or type(arguments) is not tuple:
            raise ParameterError(f"calls what is no function, which is refused: must hold {_ALLOWED}")
        self.append(function.make(*arguments))

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not self._kind or arguments != ():
            raise ParameterError(f"makes an instance of another class, which is refused: must hold {_ALLOWED}")
        self.append(_Attributes())

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if type(built) is _Attributes and type(state) is dict:
            built.update(state)
        elif type(built) is np.ndarray and built.shape == (0,) and built.flags.owndata:
            _, shape, dtype, by_columns, content = state
            self._array(content, dtype, shape)
            built.__setstate__((1, shape, dtype, bool(by_columns), content))
        elif isinstance(built, np.dtype) and state[1] in ("<", ">", "|", "="):
            built.__setstate__((3, state[1], None, None, None, -1, -1, 0))
        else:
            raise ParameterError(f"sets the state of {type(built).__name__}, which is refused: must hold {_ALLOWED}")

    def load_append(self) -> None:
        value = self.stack.pop()
        _of(list, self.stack[-1]).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        _of(list, self.stack[-1]).extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key], [value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(items[::2], items[1::2])

    def _set(self, keys: list, values: list) -> None:
        for key in keys:
            if type(key) not in (str, int):  # the hash of a deeply nested tuple would end the process
                raise ParameterError(f"names a value by a {type(key).__name__}: must be by text or an integer")
        _of(dict, self.stack[-1]).update(zip(keys, values, strict=True))

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def _spend(self, content: Any) -> None:
        """Raise unless all the values made so far lie in the file once, whose size so bounds the memory taken."""
        self._left -= len(_of(bytes, content))
        if self._left < 0:
            raise ParameterError("uses the same bytes for several arrays, which is refused")

    def _empty_array(self, kind: Any, _shape: Any, _code: Any) -> np.ndarray:
        if kind is not self._array_type:
            raise ParameterError(f"makes an array of another class, which is refused: must hold {_ALLOWED}")
        return np.empty(0)

    def _array(self, content: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
        self._spend(content)
        sizes = [_count(size) for size in _of(tuple, shape)]
        if not isinstance(dtype, np.dtype) or math.prod(sizes) * dtype.itemsize != len(content):
            raise ParameterError(f"holds an array of {len(content)} bytes: must be what its shape and type take")
        return np.frombuffer(content, dtype).reshape(sizes, order="F" if order == "F" else "C")

    def _scalar(self, dtype: Any, content: Any) -> Any:
        return self._array(content, dtype, ())[()]

    def _storage(self, content: Any) -> np.ndarray:
        """The values of a torch storage, shape (n,), wherever it lay."""
        self._spend(content)
        if not content.startswith(_OLD_TORCH_FILE):
            raise ParameterError("holds a tensor in another form than torch pickles it in, which is refused")
        try:
            storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:
            asked = re.search(r"GLOBAL (\S+)", str(error))
            what = f"asks for {asked[1][:200]!r}, which is refused" if asked else "is damaged, or more than numbers"
            raise ParameterError(f"holds a tensor that {what}: must hold {_ALLOWED}") from error
        if type(storage) is not torch.storage.TypedStorage:
            raise ParameterError(f"holds {type(storage).__name__} in place of a tensor: must hold {_ALLOWED}")
        values = storage._untyped_storage  # as untyped() gives, which warns
        plain = _SINGLE.get(storage.dtype, storage.dtype)
        if plain not in _PLAIN or values.nbytes() > len(content):  # more would be memory that nothing was read into
            raise ParameterError(
                f"holds a tensor of {values.nbytes()} bytes and type {storage.dtype}, which is refused"
            )
        return torch.empty(0, dtype=storage.dtype).set_(values).to(plain).numpy()


_KNOWN = [getattr(pickle, name)[0] for name in _OPCODES.split()]
_Unpickler.dispatch = _Handlers(
    {code: getattr(_Unpickler, pickle._Unpickler.dispatch[code].__name__) for code in _KNOWN}
)


def _hooks() -> dict:
    """The backward hooks of a tensor, which were none when it was pickled."""
    return {}


def _dtype(code: Any, *_flags: Any) -> np.dtype:
    if not re.fullmatch(r"[biuf][1248]", _of(str, code)):
        raise ParameterError(f"asks for numpy.dtype({code[:40]!r}), which is refused: must hold {_ALLOWED}")
    return np.dtype(code, False, True)  # a copy, whose byte order may be set


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_flags: Any) -> np.ndarray:
    values, start = _of(np.ndarray, storage), _count(offset)
    sizes, steps = ([_count(part) for part in _of(tuple, parts)] for parts in (size, stride))
    if values.ndim != 1 or len(sizes) != len(steps):
        raise ParameterError("holds a tensor whose size and stride do not fit")
    count = math.prod(sizes)
    last = start + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if count > len(values) or (count and last >= len(values)):
        raise ParameterError(f"holds a tensor of {count} values: must be at most the {len(values)} of its storage")
    if not count:
        return np.empty(sizes, values.dtype)
    strides = [step * values.itemsize for step in steps]
    # A view, so that tensors that share a storage take no memory of their own.
    return np.lib.stride_tricks.as_strided(values[start:], sizes, strides, writeable=False)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ParameterError(f"holds {type(value).__name__} in place of {kind.__name__}: must hold {_ALLOWED}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ParameterError("holds a size that is no count")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200].removesuffix(":")
