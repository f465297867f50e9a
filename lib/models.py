"""Networks of the study, as functions of sample shape, number of classes and dropout.

Any other `nn.Module` works as well, see `register`. The probability `dropout` is that of a hidden unit, in residual
networks of a feature before the classifier.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn.functional import relu

from .catalogue import NETWORKS, Network
from .checks import ParameterError
from .parameters import Experiment
from .torchvision_operators import declare


def mlp(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Two hidden layers of 512 rectified units."""
    hidden: list[nn.Module] = []
    for width_in in (math.prod(sample_shape), 512):
        hidden += [nn.Linear(width_in, 512), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, num_classes))


def small_cnn(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Three 3x3 convolutions of 16, 32 and 64 maps, pooled to 4x4, and a hidden layer of 256 rectified units.

    Made for CPUs: images of 32 pixels and more are halved by each convolution, smaller ones by none.
    """
    channels, size = sample_shape[0], min(sample_shape[1:])
    convolutions: list[nn.Module] = []
    for width_in, width in ((channels, 16), (16, 32), (32, 64)):
        convolutions += [nn.Conv2d(width_in, width, 3, stride=2 if size >= 32 else 1, padding=1), nn.ReLU()]
    return nn.Sequential(
        *convolutions,
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 256),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(256, num_classes),
    )


def lenet(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """LeNet-5 (LeCun et al., 1998) with ReLU and max pooling; images below 32 pixels are padded by two on each side."""
    channels, size = sample_shape[0], min(sample_shape[1:])
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2 if size < 32 else 0),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2 if size < 16 else 0),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(5),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(84, num_classes),
    )


def narrow_airbench(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """The network of airbench (Jordan, arXiv 2404.00498) with half its maps, 295,000 parameters for ten classes.

    A 2x2 convolution of 24 maps without padding; three blocks of two 3x3 convolutions of 32, 64 and 128 maps, the first
    of each pooled, batch norm and ReLU behind both; maximum over positions; linear classifier. Made for CPUs: ReLU for
    GELU, which costs them a third of their speed, and no frozen whitening of patches. Raises ParameterError for images
    below 9 pixels.
    """
    if min(sample_shape[1:]) < 9:
        size = "x".join(map(str, sample_shape[1:]))
        raise ParameterError(f"network='narrow_airbench': must have images of at least 9 pixels, not {size}")
    modules: list[nn.Module] = [nn.Conv2d(sample_shape[0], 24, 2), nn.ReLU()]
    for width_in, width in ((24, 32), (32, 64), (64, 128)):
        for channels, pooling in ((width_in, [nn.MaxPool2d(2)]), (width, [])):
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            modules += [convolution, *pooling, nn.BatchNorm2d(width), nn.ReLU()]
    modules += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*modules, nn.Linear(128, num_classes))


def news_mlp(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """The NEWS network of Yu et al. (ICML 2019) behind its embedding: 1200 and 300 units, batch norm, softsign."""
    hidden: list[nn.Module] = []
    for width_in, width in ((math.prod(sample_shape), 1200), (1200, 300)):
        hidden += [nn.Linear(width_in, width), nn.BatchNorm1d(width), nn.Softsign(), nn.Dropout(dropout)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(300, num_classes))


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


def preact_resnet(
    blocks: tuple[int, ...], sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0, width: int = 64
) -> nn.Module:
    """Pre-activation ResNet for small images, as it is used with noisy labels; `blocks` in each stage.

    A 3x3 stem of `width` maps; as many in the first stage, twice as many, at stride 2, in each further one; mean over
    positions; linear classifier. As in the implementation that the field shares, no batch norm follows the last block.
    """
    network = nn.Sequential(OrderedDict(stem=nn.Conv2d(sample_shape[0], width, 3, padding=1, bias=False)))
    network.stages = nn.Sequential()
    for stage, count in enumerate(blocks):
        before, width = width, width * 2 if stage else width
        first = PreActBlock(before, width, stride=2 if stage else 1)
        network.stages.append(nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(count - 1))))
    network.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.dropout = nn.Dropout(dropout)
    network.classifier = nn.Linear(width, num_classes)
    return network


def torchvision_resnet(depth: int, sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """torchvision's ResNet of depth 18 or 50 with the CIFAR stem: a 3x3 convolution of stride 1 and no pooling."""
    declare()
    from torchvision import models

    network = {18: models.resnet18, 50: models.resnet50}[depth](num_classes=num_classes)
    network.conv1 = nn.Conv2d(sample_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return network


preact_resnet9 = partial(preact_resnet, (1, 1, 1, 1))
preact_resnet18 = partial(preact_resnet, (2, 2, 2, 2))
preact_resnet34 = partial(preact_resnet, (3, 4, 6, 3))
# The deep and narrow one of He et al. (ECCV 2016, Table 2), without the batch norm after its last block.
preact_resnet110 = partial(preact_resnet, (18, 18, 18), width=16)
resnet18 = partial(torchvision_resnet, 18)
resnet50 = partial(torchvision_resnet, 50)


def vit(sample_shape: tuple[int, ...], num_classes: int, dropout: float = 0.0) -> nn.Module:
    """ViT-Tiny (Touvron et al., ICML 2021): 12 blocks of width 192, 3 heads; torchvision's, on 8x8 patches an image."""
    declare()
    from torchvision.models import VisionTransformer

    channels, height, width = sample_shape
    if height != width or height % 8:
        raise ParameterError(f"network='vit': must have square images of a multiple of 8 pixels, not {height}x{width}")
    network = VisionTransformer(
        image_size=height,
        patch_size=height // 8,
        num_layers=12,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
        dropout=dropout,
        num_classes=num_classes,
    )
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, 192, height // 8, height // 8)
        nn.init.trunc_normal_(network.conv_proj.weight, std=(channels * (height // 8) ** 2) ** -0.5)  # as torchvision's
        nn.init.zeros_(network.conv_proj.bias)
    nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
    return network


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make a user's own network known: `Experiment(network=name)` then calls the builder.

    Args:
        name: how parameters, folders and tables call it; without a slash.
        builder: takes (sample_shape, num_classes, dropout) and gives an `nn.Module` that maps inputs of shape
            (n, *sample_shape) to logits of shape (n, num_classes).
    """
    NETWORKS.add(Network(name, name, builder))


def build(experiment: Experiment, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The experiment's network, freshly initialised from torch's global random state, on its device.

    Raises ParameterError for a network of images where the samples are none.
    """
    row = NETWORKS[experiment.network]
    if row.of_images and len(sample_shape) != 3:
        raise ParameterError(f"network={row.name!r}: must have images, not samples of shape {tuple(sample_shape)}")
    network = row(tuple(sample_shape), num_classes, experiment.dropout)
    memory_format = torch.channels_last if experiment.memory_format == "channels_last" else torch.contiguous_format
    return network.to(experiment.device, memory_format=memory_format)
