"""Augmentation of training images, a batch at a time on its device: random crop after padding, random flip.

The usual recipe for CIFAR: black pixels around the image, an eighth of its size (4 of 32), a crop of the original size
at a random place, a horizontal flip with probability one half. Evaluation never augments.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad


class Moves(NamedTuple):
    """What is done to each image: rows and columns by which its crop is shifted, whether it is flipped; shape (n,)."""

    top: torch.Tensor
    left: torch.Tensor
    flipped: torch.Tensor

    def split(self, count: int) -> list["Moves"]:
        """The moves of `count` nearly equal batches, cut as `torch.tensor_split` cuts."""
        return [Moves(*parts) for parts in zip(*(moves.tensor_split(count) for moves in self), strict=True)]


def padding(size: int) -> int:
    """Pixels of padding on each side of images of this size."""
    return max(1, round(size / 8))


def draw(kind: str, n: int, size: int, rng: np.random.Generator, device: torch.device | str = "cpu") -> Moves:
    """Draw the moves of n square images, whose sides have `size` pixels; the kind is crop, flip or crop_flip."""
    widest = 2 * padding(size)
    shifts = rng.integers(0, widest + 1, (2, n)) if "crop" in kind else np.full((2, n), padding(size))
    flipped = rng.random(n) < 0.5 if "flip" in kind else np.zeros(n, dtype=bool)
    return Moves(*(torch.from_numpy(values).to(device) for values in (*shifts, flipped)))


def apply(images: torch.Tensor, moves: Moves) -> torch.Tensor:
    """New images of the same type, cropped and flipped, of a batch of shape (n, size, size, channels); 0 is black."""
    n, size = images.shape[:2]
    border = padding(size)
    around = torch.arange(size, device=images.device)
    rows = moves.top[:, None] + around
    columns = moves.left[:, None] + torch.where(moves.flipped[:, None], around.flip(0), around)
    wide = size + 2 * border
    places = (torch.arange(n, device=images.device)[:, None] * wide + rows)[:, :, None] * wide + columns[:, None, :]
    padded = pad(images, (0, 0, border, border, border, border))
    return padded.flatten(0, 2)[places]
