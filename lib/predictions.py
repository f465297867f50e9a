"""Signals read off the predicted classes alone."""

import torch

from lib.arrays import to_tensor


def changes(previous, current) -> float:
    """Share of samples whose predicted class differs from the previous record.

    The signal of "Label Wave" (Yuan et al., ICLR 2024, arXiv 2502.07551), as a share instead of a count.

    Args:
        previous, current: predicted classes, both of shape (n,), arrays or tensors, n at least 1.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: if the shapes differ or no sample is given.
    """
    before, now = to_tensor(previous), to_tensor(current)
    if before.shape != now.shape or before.ndim != 1 or len(before) == 0:
        raise ValueError(
            f"predictions of shapes {tuple(before.shape)} and {tuple(now.shape)}: must be (n,) twice, n > 0"
        )
    return (before != now).to(torch.float64).mean().item()
