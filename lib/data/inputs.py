"""Inputs as they are stored, and the way from there to what a network sees, a batch at a time.

Numbers stay as they are in the memory of the prepared file (or on the GPU), so that no run holds a dataset twice.
"""

import torch

from lib.data.augmentation import Moves, apply

# What GPUs can index in place of types for which few operations are written.
_ON_CARDS = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.float64}


class Inputs:
    """The inputs of one set. Indexing with rows (a tensor, slice or list) gives what a network sees of them:

    float32, shape (n, ...); images as (n, channels, height, width).

    Args:
        stored: numbers of any type, shape (n, ...); images (n, height, width, channels).
        weight, bias: a network sees stored * weight + bias, both of the shape of a flattened sample; None: as stored.
        are_images: whether they are images, which can be augmented.
        channels_last: the memory format of batches of images.
    """

    def __init__(
        self,
        stored: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        are_images: bool = False,
        channels_last: bool = False,
    ):
        self.stored, self.are_images = stored, are_images
        self._weight, self._bias, self._channels_last = weight, bias, channels_last

    @classmethod
    def features(cls, stored: torch.Tensor, mean=None, std=None) -> "Inputs":
        """Inputs of shape (n, ...); a network sees (value - mean) / std, or where these are None the value.

        Args:
            stored: the numbers.
            mean, std: of each value of a flattened sample.
        """
        return cls(stored) if mean is None else cls(stored, *_affine(stored, mean, std, 1))

    @classmethod
    def images(cls, stored: torch.Tensor, mean, std, largest: float = 255) -> "Inputs":
        """Images, shape (n, height, width, channels); a network sees (value / largest - mean) / std.

        Args:
            stored: the images.
            mean, std: of each channel, on the scale [0, 1].
            largest: the value of white.
        """
        places = stored.shape[1] * stored.shape[2]
        weight, bias = (by_channel.repeat(places) for by_channel in _affine(stored, mean, std, largest))
        return cls(stored, weight, bias, are_images=True)

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
        return Inputs(self.stored[rows], self._weight, self._bias, self.are_images, self._channels_last)

    def _seen(self, batch: torch.Tensor) -> torch.Tensor:
        if self._weight is None:
            seen = batch.float()
        else:  # one pass over the batch, with a weight and a bias for each value of a sample
            seen = torch.addcmul(self._bias, batch.flatten(1), self._weight).float().view(batch.shape)
        if not self.are_images:
            return seen
        memory_format = torch.channels_last if self._channels_last else torch.contiguous_format
        return seen.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    def to(self, device: str, channels_last: bool = False) -> "Inputs":
        """The same inputs on a device, images in the memory format asked for."""
        known = self.stored if device == "cpu" else self.stored.to(_ON_CARDS.get(self.stored.dtype, self.stored.dtype))
        moved = (None if tensor is None else tensor.to(device) for tensor in (known, self._weight, self._bias))
        return Inputs(*moved, are_images=self.are_images, channels_last=channels_last)


def _affine(stored: torch.Tensor, mean, std, largest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias, in double precision where single precision could not tell the stored numbers apart."""
    mean, std = torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(std, dtype=torch.float64)
    fine = stored.dtype.itemsize > 2 and stored.dtype != torch.float32
    weight, bias = 1 / (largest * std), -mean / std
    return (weight, bias) if fine else (weight.float(), bias.float())
