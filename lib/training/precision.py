"""Mixed precision: a network that computes in bfloat16, also where the processor cannot."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from lib.parameters import Experiment


def autocast(experiment: Experiment) -> torch.autocast:
    """The context in which the experiment's network computes: mixed precision where its dtype is bfloat16."""
    kind = torch.device(experiment.device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=experiment.dtype == "bfloat16")


def bfloat16_products(experiment: Experiment) -> AbstractContextManager[Any]:
    """Around forward and backward passes: products of bfloat16 at the speed of float32 on a CPU without bfloat16."""
    emulated = experiment.dtype == "bfloat16" and experiment.device == "cpu" and not has_bfloat16("cpu")
    return _SummedInFloat32() if emulated else nullcontext()


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether a device computes in bfloat16, so that mixed precision is faster than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public name for this question, and what it asks of oneDNN is true of every CPU with AVX-512.
    supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported and (torch.cpu._is_avx512_bf16_supported() or not torch.cpu._is_avx512_supported())


class _SummedInFloat32(TorchDispatchMode):
    """Products of bfloat16 tensors as hardware computes them: exact, summed in float32, rounded once.

    Without such hardware torch's own take many times as long (`tests/benchmarks/precision.py`).
    """

    _aten = torch.ops.aten
    _products = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.convolution, _aten.convolution_backward)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        halves = any(isinstance(arg, torch.Tensor) and arg.dtype == torch.bfloat16 for arg in args)
        if not halves or func.overloadpacket not in self._products:
            return func(*args, **kwargs)
        widened = tree_map_only(torch.Tensor, torch.Tensor.float, args)
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, func(*widened, **kwargs))
