"""Attributes of a pickled object, read without running any code that its file names.

Whatever a pickle names passes through `find_class`, and nothing is imported there: it gives the constructors by which
NumPy arrays, torch tensors and instances of one class are pickled, and refuses all else. Storages of tensors, pickles
of their own, are read by `torch.load(weights_only=True)`. A file that is made to harm can still take memory or end the
process: these constructors are not hardened against bytes that no array or tensor was ever written as.
"""

import codecs
import io
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.checks import ParameterError


def read_attributes(path: Path, kind: str) -> dict[str, Any]:
    """Attributes of an instance pickled by any protocol, by name; tensors come as arrays, in double precision.

    The kind is module and class of the instance, as in "performances.Performances"; the class need not exist.

    Raises ParameterError for a file that asks for anything but numbers, lists, arrays and tensors, or is damaged, and
    OSError for one that cannot be read.
    """
    instance = type("Attributes", (), {})  # for each file its own, as a file can change it
    unpickler = _Unpickler(io.BytesIO(path.read_bytes()))
    unpickler.allowed = _ALLOWED | {kind: instance}
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch, about what a damaged file says of itself
            found = unpickler.load()
        if type(found) is not instance:
            raise ParameterError(f"must hold an instance of {kind}, holds {type(found).__name__}")
        return vars(found)
    except ParameterError:
        raise
    except Exception as error:  # what a damaged file makes of the stack may raise anything
        words = f"is cut or damaged, or holds more than numbers ({type(error).__name__})"
        raise ParameterError(f"must be a whole pickle, {words}") from error


class _Unpickler(pickle.Unpickler):
    allowed: dict[str, Any]

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}".replace("numpy.core.", "numpy._core.")  # NumPy 1 wrote the former
        if asked not in self.allowed:
            raise ParameterError(f"asks for {asked!r}: must hold nothing but numbers, lists, arrays and tensors")
        return self.allowed[asked]


def _load_from_bytes(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


def _rebuild_tensor(*told: Any) -> np.ndarray:
    return torch.empty(0).__reduce_ex__(2)[0](*told).detach().double().numpy()


# Functions that are private where they are defined are taken from where pickling gives them.
_ALLOWED = {
    "collections.OrderedDict": OrderedDict,  # the hooks of a tensor, none
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    "numpy._core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy._core.multiarray.scalar": np.int64(0).__reduce__()[0],
    "numpy._core.numeric._frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch.storage._load_from_bytes": _load_from_bytes,
    # Instances and bytes in protocols 0 to 2.
    "copy_reg._reconstructor": object().__reduce_ex__(0)[0],
    "__builtin__.object": object,
    "__builtin__.bytes": bytes,
    "_codecs.encode": codecs.encode,
}
