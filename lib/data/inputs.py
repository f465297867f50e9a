"""Inputs as they are stored, and the way from there to what a network sees, a batch at a time.

Images stay uint8 in the memory of the prepared file (or on the GPU), so that no run holds a dataset twice.
"""

import torch

from lib.data.augmentation import Moves, apply


class Inputs:
    """The inputs of one set. Indexing with rows (a tensor, slice or list) gives what a network sees of them:

    float32, shape (n, ...); images as (n, channels, height, width), normalised channel by channel.
    """

    def __init__(
        self,
        stored: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        channels_last: bool = False,
    ):
        self.stored, self._weight, self._bias, self._channels_last = stored, weight, bias, channels_last

    @classmethod
    def features(cls, stored: torch.Tensor) -> "Inputs":
        """Inputs of shape (n, ...) that a network sees as they are."""
        return cls(stored)

    @classmethod
    def images(cls, stored: torch.Tensor, mean: list[float], std: list[float], largest: float = 255) -> "Inputs":
        """Images, uint8, shape (n, height, width, channels); a network sees (value / largest - mean) / std.

        Args:
            stored: the images.
            mean, std: of each channel, on the scale [0, 1].
            largest: the value of white.
        """
        places = stored.shape[1] * stored.shape[2]
        mean_, std_ = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        weight, bias = 1 / (largest * std_), -mean_ / std_
        return cls(stored, weight.float().repeat(places), bias.float().repeat(places))

    @property
    def are_images(self) -> bool:
        """Whether these are stored images, which can be augmented."""
        return self._weight is not None

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
        return Inputs(self.stored[rows], self._weight, self._bias, self._channels_last)

    def _seen(self, batch: torch.Tensor) -> torch.Tensor:
        if not self.are_images:
            return batch.float()
        # One pass over the batch: value * weight + bias, with a weight and a bias for each value of an image.
        normalised = torch.addcmul(self._bias, batch.flatten(1), self._weight).view(batch.shape).permute(0, 3, 1, 2)
        memory_format = torch.channels_last if self._channels_last else torch.contiguous_format
        return normalised.contiguous(memory_format=memory_format)

    def to(self, device: str, channels_last: bool = False) -> "Inputs":
        """The same inputs on a device, images in the memory format asked for."""
        moved = (None if tensor is None else tensor.to(device) for tensor in (self.stored, self._weight, self._bias))
        return Inputs(*moved, channels_last=channels_last)
