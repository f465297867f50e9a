import pytest
import torch
from torch import nn

from lib import models
from lib.checks import ParameterError
from lib.layers import hidden_layers
from lib.parameters import Experiment
from lib.torchvision_operators import declare

CIFAR, IMAGE = (3, 32, 32), (1, 8, 8)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def preact_count(blocks, stem=64, channels=3, classes=10):
    """Parameters of a pre-activation ResNet without a batch norm behind its last block, written out."""
    total, width_in = 9 * channels * stem, stem
    for stage, number in enumerate(blocks):
        width = stem << stage
        for _ in range(number):
            total += 2 * width_in + 9 * width_in * width + 2 * width + 9 * width * width
            total += width_in * width if width_in != width else 0
            width_in = width
    return total + width_in * classes + classes


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("mlp", IMAGE, 64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10),
        ("small_cnn", CIFAR, 9 * (3 * 16 + 16 * 32 + 32 * 64) + 16 + 32 + 64 + 1024 * 256 + 256 + 256 * 10 + 10),
        ("narrow_airbench", CIFAR, 312 + 9 * (24 * 32 + 32 * 32 * 3 + 64 * 64 * 3 + 128 * 128) + 4 * 224 + 1290),
        ("news_mlp", (16, 300), 4800 * 1200 + 1200 * 3 + 1200 * 300 + 300 * 3 + 300 * 10 + 10),
        ("lenet", (1, 28, 28), 61_706),  # LeCun et al., 1998, with full connections between maps
        ("lenet", (1, 32, 32), 61_706),
        ("preact_resnet9", CIFAR, preact_count((1, 1, 1, 1))),
        ("preact_resnet18", CIFAR, 11_171_146),
        ("preact_resnet34", CIFAR, 21_279_306),
        ("preact_resnet110", CIFAR, preact_count((18, 18, 18), 16)),
        ("resnet18", CIFAR, 11_173_962),
        ("resnet50", CIFAR, 23_520_842),
    ],
)
def test_logits_and_parameter_counts(name, shape, parameters):
    network = models.build(Experiment(network=name), shape, 10).eval()
    assert network(torch.randn(2, *shape)).shape == (2, 10)
    assert count(network) == parameters


def test_the_published_counts_are_those_of_the_formula():
    assert preact_count((2, 2, 2, 2)) == 11_171_146
    assert preact_count((3, 4, 6, 3)) == 21_279_306


@pytest.mark.slow
def test_resnets_have_the_published_counts_with_the_stem_of_imagenet():
    declare()
    from torchvision import models as torchvision_models

    for depth, published in ((18, 11_689_512), (50, 25_557_032)):
        imagenet = getattr(torchvision_models, f"resnet{depth}")(num_classes=1000)
        ours = models.build(Experiment(network=f"resnet{depth}"), CIFAR, 1000)
        assert count(imagenet) == published
        assert count(ours) == published - 64 * 3 * (49 - 9)


def test_the_vit_is_vit_tiny():
    published, positions, patch = 5_717_416, 14 * 14 + 1, 16
    network = models.build(Experiment(network="vit"), CIFAR, 1000)
    fewer_positions = (positions - (8 * 8 + 1)) * 192
    smaller_patches = 3 * 192 * (patch**2 - 4**2)
    assert count(network) == published - fewer_positions - smaller_patches
    assert network(torch.randn(2, *CIFAR)).shape == (2, 1000)


def test_preact_resnet_without_its_residuals_is_linear_in_the_kept_input():
    network = models.build(Experiment(network="preact_resnet9"), CIFAR, 10).eval()
    for module in network.modules():
        if hasattr(module, "conv2"):
            nn.init.zeros_(module.conv2.weight)
    x = torch.randn(2, *CIFAR)
    kept = network.stem(x)
    for stage in network.stages:
        block = stage[0]
        if block.shortcut is not None:
            kept = block.shortcut(torch.relu(block.bn1(kept)))
    assert torch.allclose(network(x), network.classifier(kept.mean(dim=(2, 3))), atol=1e-5)


def test_narrow_airbench_refuses_images_that_pooling_would_leave_nothing_of():
    experiment = Experiment(network="narrow_airbench")
    assert models.build(experiment, (1, 9, 9), 10).eval()(torch.randn(2, 1, 9, 9)).isfinite().all()
    with pytest.raises(ParameterError, match=r"^network='narrow_airbench': must have images of at least 9 .* not 8x8$"):
        models.build(experiment, IMAGE, 10)


@pytest.mark.parametrize("name", models.NETWORKS)
def test_dropout_reaches_the_network(name):
    network = models.build(Experiment(network=name, dropout=0.5), (1, 16, 16), 10).eval()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    x = torch.randn(4, 1, 16, 16)
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("name", "last", "layers"),
    [
        ("preact_resnet18", "stages.3.1.conv2", 1 + 16 + 3),
        ("resnet18", "layer4.1.conv2", 1 + 16 + 3),
        ("resnet50", "layer4.2.conv3", 1 + 48 + 4),
        ("vit", "encoder.layers.encoder_layer_11.mlp.3", 1 + 2 * 12),
        ("lenet", "10", 4),
    ],
)
def test_hidden_layers_of_the_networks(name, last, layers):
    network = models.build(Experiment(network=name), CIFAR, 10)
    x = torch.randn(1, *CIFAR)
    assert hidden_layers(network, x)[-1] == last
    assert len(hidden_layers(network, x)) == layers


@pytest.mark.parametrize("name", sorted(set(models.NETWORKS) - {"mlp", "news_mlp"}))
def test_a_network_of_images_refuses_other_samples(name):
    with pytest.raises(ParameterError, match=rf"network='{name}': must have images, not samples of shape \(16, 300\)"):
        models.build(Experiment(network=name), (16, 300), 7)


def test_channels_last_changes_the_memory_not_the_result():
    x = torch.randn(2, *CIFAR)
    torch.manual_seed(0)
    plain = models.build(Experiment(network="preact_resnet9"), CIFAR, 10).eval()
    torch.manual_seed(0)
    other = models.build(Experiment(network="preact_resnet9", memory_format="channels_last"), CIFAR, 10).eval()
    assert other.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(plain(x), other(x), atol=1e-4)


def test_a_registered_network_is_built_by_name(monkeypatch):
    models.register("own", lambda shape, classes, dropout: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))
    assert models.build(Experiment(network="own"), IMAGE, 3)(torch.zeros(2, *IMAGE)).shape == (2, 3)
