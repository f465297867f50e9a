"""Inputs as they are stored, and the way from there to what a network sees, a batch at a time.

Numbers stay as they are in the memory of the prepared file (or on the GPU), so that no run holds a dataset twice.
"""

from dataclasses import dataclass, replace

import torch

from lib.data.augmentation import Moves, apply

# What GPUs can index in place of types for which few operations are written.
_ON_CARDS = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.float64}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of one set. Indexing with rows (a tensor, slice or list) gives what a network sees of them:

    float32, shape (n, ...); images as (n, channels, height, width).

    Attributes:
        stored: numbers of any type, shape (n, ...); images (n, height, width, channels).
        weight, bias: a network sees stored * weight + bias, both of the shape of a flattened sample; None: as stored.
        are_images: whether they are images, which can be augmented.
        channels_last: the memory format of batches of images.
    """

    stored: torch.Tensor
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    are_images: bool = False
    channels_last: bool = False

    @classmethod
    def normalised(cls, stored: torch.Tensor, mean, std, are_images: bool = False) -> "Inputs":
        """Inputs of which a network sees (stored - mean) / std.

        Mean and std are of each channel of images, of each value of a flattened sample of features.
        """
        mean, std = (torch.as_tensor(values, dtype=torch.float64) for values in (mean, std))
        # Single precision could not tell large integers and doubles apart.
        fine = stored.dtype.itemsize > 2 and stored.dtype != torch.float32
        times = stored[0].numel() // len(mean)
        weight, bias = (values.to(torch.float64 if fine else torch.float32) for values in (1 / std, -mean / std))
        return cls(stored, weight.repeat(times), bias.repeat(times), are_images)

    @property
    def shape(self) -> torch.Size:
        """Shape of all inputs as a network sees them."""
        n, *sample = self.stored.shape
        return torch.Size((n, sample[2], *sample[:2])) if self.are_images else torch.Size((n, *sample))

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows) -> torch.Tensor:
        return self._seen(self.stored[rows])

    def augmented(self, rows: torch.Tensor, moves: Moves) -> torch.Tensor:
        """As indexing, of images that are cropped and flipped first."""
        return self._seen(apply(self.stored[rows], moves))

    def take(self, rows: torch.Tensor) -> "Inputs":
        """Some of the inputs."""
        return replace(self, stored=self.stored[rows])

    def _seen(self, batch: torch.Tensor) -> torch.Tensor:
        if self.weight is None or self.bias is None:
            seen = batch.float()
        else:  # one pass over the batch, with a weight and a bias for each value of a sample
            seen = torch.addcmul(self.bias, batch.flatten(1), self.weight).float().view(batch.shape)
        if not self.are_images:
            return seen
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return seen.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    def to(self, device: str, channels_last: bool = False) -> "Inputs":
        """The same inputs on a device, images in the memory format asked for."""
        known = self.stored if device == "cpu" else self.stored.to(_ON_CARDS.get(self.stored.dtype, self.stored.dtype))
        weight, bias = (None if values is None else values.to(device) for values in (self.weight, self.bias))
        return Inputs(known.to(device), weight, bias, self.are_images, channels_last)
