"""Training losses on logits."""

import torch
from torch.nn.functional import cross_entropy

__all__ = ["cross_entropy", "mean_absolute_error"]


def mean_absolute_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean absolute error between softmax and one-hot target (Ghosh et al., AAAI 2017).

    For a sample with target y it is the sum over classes |1[k = y] - p_k| = 2 - 2 p_y, in [0, 2]; symmetric over
    classes, which makes it robust to symmetric label noise.

    Args:
        logits: shape (n, K), floating point.
        targets: classes in [0, K), shape (n,).

    Returns:
        The mean over samples, a scalar that gradients flow through.
    """
    chosen = logits.softmax(dim=1).gather(1, targets[:, None])
    return (2 - 2 * chosen).mean()
