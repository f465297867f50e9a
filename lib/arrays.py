"""Functions on arrays give back what they were given: NumPy for NumPy, a tensor for a tensor."""

import numpy as np
import torch


def to_tensor(values) -> torch.Tensor:
    """A tensor of the values, sharing memory where it can."""
    return values.detach() if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))


def to_numpy(values) -> np.ndarray:
    """A NumPy array of the values, sharing memory where it can."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def like(values, example):
    """The values as the kind of array that the example is, on its device."""
    if isinstance(example, torch.Tensor):
        return to_tensor(values).to(example.device)
    return to_numpy(values)
