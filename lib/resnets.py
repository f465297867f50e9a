"""Residual networks for small images: the pre-activation ones, and torchvision's with the stem used for CIFAR."""

import torch
from torch import nn
from torch.nn.functional import relu


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind batch norm and ReLU (He et al., ECCV 2016, Figure 4e).

    Where the shape changes, the shortcut is a 1x1 convolution of the first normalised, rectified input.
    """

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or width_in != width
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of shape (n, width_in, h, w) to (n, width, h / stride, w / stride)."""
        active = relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.conv2(relu(self.bn2(self.conv1(active))))


class PreActResNet(nn.Module):
    """Pre-activation ResNet for small images, as it is used with noisy labels.

    A 3x3 stem of 64 maps; four stages of 64, 128, 256 and 512 maps, the last three of stride 2; mean over positions;
    linear classifier. As in the implementation that the field shares, no batch norm follows the last block.

    Args:
        blocks: number of blocks in each stage.
        sample_shape: of the images, (channels, height, width).
        num_classes: K.
        dropout: probability that a feature is dropped before the classifier.
    """

    def __init__(self, blocks: tuple[int, ...], sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0):
        super().__init__()
        self.stem = nn.Conv2d(sample_shape[0], 64, 3, padding=1, bias=False)
        self.stages, width = nn.Sequential(), 64
        for stage, count in enumerate(blocks):
            first = PreActBlock(width, 64 << stage, stride=2 if stage else 1)
            width = 64 << stage
            self.stages.append(nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(count - 1))))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images of shape (n, channels, h, w) to logits of shape (n, num_classes)."""
        features = self.stages(self.stem(x)).mean(dim=(2, 3))
        return self.classifier(self.dropout(features))


def torchvision_resnet(depth: int, sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """torchvision's ResNet with the CIFAR stem: a 3x3 convolution of stride 1 and no pooling.

    Args:
        depth: 18 or 50.
        sample_shape, num_classes, dropout: as for `PreActResNet`.
    """
    from .torchvision_operators import declare

    declare()
    from torchvision import models

    network = {18: models.resnet18, 50: models.resnet50}[depth](num_classes=num_classes)
    network.conv1 = nn.Conv2d(sample_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return network
