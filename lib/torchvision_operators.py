"""Lets torchvision be imported where its compiled operators do not load.

The torchvision of the package registry is built for CUDA; beside a CPU build of torch its operators are missing, and
the import stops at the first one that it describes. Datasets, transforms and models use none of them.
"""

import torch

_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library: torch.library.Library | None = None


def declare() -> None:
    """Call before importing torchvision: declares the operators that are missing, and does nothing where none is."""
    global _library
    if _library is not None:
        return
    try:
        import torchvision  # noqa: F401  the compiled operators may well load
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for name, schema in _OPERATORS.items():
            if not hasattr(torch.ops.torchvision, name):
                _library.define(schema)
