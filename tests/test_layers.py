import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization

from lib.catalogue import NETWORKS
from lib.checks import ParameterError
from lib.layers import captured, hidden_layers, last_hidden_layer, pre_activations
from lib.models import mlp, news_mlp, small_cnn

pytestmark = pytest.mark.usefixtures("double_precision")


class OutOfOrder(nn.Module):
    """Defines its layers in another order than it uses them, and calls one function of its own."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(6, 3)
        self.second = nn.Linear(5, 6)
        self.first = nn.Linear(4, 5)

    def forward(self, x):
        return self.classifier(torch.tanh(self.second(torch.relu(self.first(x)))))


def test_last_hidden_layer_follows_the_forward_pass_not_the_definition():
    assert last_hidden_layer(OutOfOrder(), torch.randn(2, 4)) == "second"


@pytest.mark.parametrize(
    ("builder", "shape", "width"), [(mlp, (1, 8, 8), 512), (small_cnn, (1, 8, 8), 256), (news_mlp, (16, 20), 300)]
)
def test_pre_activations_of_the_study_networks(builder, shape, width):
    model = builder(shape, 5)
    assert pre_activations(model, torch.randn(7, *shape)).shape == (7, width)


def test_pre_activations_are_the_input_of_the_activation_function():
    model = OutOfOrder()
    x = torch.randn(9, 4)
    expected = model.second(torch.relu(model.first(x)))
    assert torch.allclose(pre_activations(model, x, batch_size=2), expected)
    assert torch.allclose(pre_activations(model, x, "first"), model.first(x))


def test_maps_are_averaged_over_positions():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    x = torch.randn(5, 3, 8, 8)
    assert torch.allclose(pre_activations(model, x), model[0](x).mean(dim=(2, 3)))


def test_the_model_is_left_as_it_was():
    model = news_mlp((16, 20), 5, dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    values = pre_activations(model, torch.randn(8, 16, 20))
    assert model.training
    assert not values.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_an_unknown_layer_is_an_error_with_the_closest_name():
    with pytest.raises(ParameterError, match=r"layer='secnd': .* did you mean 'second'"):
        pre_activations(OutOfOrder(), torch.randn(2, 4), "secnd")


def test_a_network_without_a_hidden_layer():
    with pytest.raises(ParameterError, match="must have a hidden linear or convolutional layer"):
        pre_activations(nn.Linear(3, 2), torch.randn(2, 3))


def test_hidden_layers_are_all_but_the_classifier_in_the_order_of_the_forward_pass():
    assert hidden_layers(OutOfOrder(), torch.randn(2, 4)) == ["first", "second"]


class Cosine(nn.Module):
    """Its classifier is a matrix of its own, and no layer."""

    def __init__(self, bare):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(8, 16), nn.Linear(16, 16), nn.Dropout(0.1)
        self.weight, self.bare = nn.Parameter(torch.ones(3, 16)), bare

    def forward(self, x):
        z = self.second(self.first(x).relu())
        return (z if self.bare else self.drop(z)) @ self.weight.T


def body(last):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), *last)


class Binary(nn.Module):
    """Two classes by one neuron."""

    def __init__(self):
        super().__init__()
        self.body = body([nn.Linear(16, 1)])

    def forward(self, x):
        z = self.body(x)
        return torch.cat([-z, z], dim=1)


class LowRank(nn.Module):
    def __init__(self, rows, columns):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.zeros(rows, 2)), nn.Parameter(torch.zeros(2, columns))

    def forward(self, weight):
        return weight + self.left @ self.right


def adapted(layer):
    register_parametrization(layer, "weight", LowRank(*layer.weight.shape))
    return layer


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (body([weight_norm(nn.Linear(16, 3))]), "2"),
        (body([spectral_norm(nn.Linear(16, 3))]), "2"),
        (body([nn.Linear(16, 3), nn.LogSoftmax(dim=1)]), "2"),
        (Cosine(bare=True), "second"),
        (Cosine(bare=False), "second"),
        (Binary(), "body.2"),
        (body([nn.Linear(16, 9), nn.Unflatten(1, (3, 3)), nn.AvgPool1d(3), nn.Flatten()]), "2"),
        (body([adapted(nn.Linear(16, 3))]), "2"),
        (
            nn.Sequential(
                nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 5, 1), nn.Conv1d(5, 3, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten()
            ),
            "1",
        ),
    ],
    ids=[
        "weight norm",
        "spectral norm",
        "softmax",
        "no layer",
        "no layer, in dropout",
        "binary",
        "several a class",
        "adapter",
        "pooled maps",
    ],
)
def test_the_classifier_is_told_from_the_last_hidden_layer_by_what_it_gives(model, layer):
    assert last_hidden_layer(model.double(), torch.randn(4, 8)) == layer


def test_several_layers_are_captured_in_one_pass():
    model, x = OutOfOrder(), torch.randn(5, 4)
    with captured(model, "second", "first") as outputs:
        model(x)
    assert list(outputs) == ["second", "first"]
    assert torch.equal(outputs["first"][0], model.first(x).detach())
    assert torch.equal(outputs["second"][0], pre_activations(model, x, "second"))


def test_tokens_are_averaged_and_so_are_the_positions_of_sequences():
    tokens = nn.Sequential(nn.Linear(3, 7), nn.Flatten(), nn.Linear(7 * 4, 2))
    x = torch.randn(5, 4, 3)
    assert torch.allclose(pre_activations(tokens, x), tokens[0](x).mean(dim=1))
    sequences = nn.Sequential(nn.Conv1d(4, 6, 2), nn.Flatten(), nn.Linear(6 * 2, 2))
    assert torch.allclose(pre_activations(sequences, x), sequences[0](x).mean(dim=2))


def test_any_named_module_will_do():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    x = torch.randn(5, 3, 8, 8)
    assert torch.allclose(pre_activations(model, x, "2"), model[:3](x).mean(dim=(2, 3)))


class Attention(nn.Module):
    """A transformer's layer between linear ones; its output is a tuple."""

    def __init__(self):
        super().__init__()
        self.embed, self.attend, self.head = (
            nn.Linear(3, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 2),
        )

    def forward(self, x):
        z = self.embed(x)
        return self.head(self.attend(z, z, z)[0].mean(dim=1))


def test_the_first_of_several_outputs_is_taken():
    model, x = Attention(), torch.randn(5, 4, 3)
    z = model.embed(x)
    expected = model.attend(z, z, z)[0].mean(dim=1)
    assert torch.allclose(pre_activations(model, x, "attend"), expected)
    with pytest.raises(ParameterError, match=r"layer='attend\.out_proj': must be a layer that a forward pass reaches"):
        pre_activations(model, x, "attend.out_proj")


def test_neurons_are_the_last_dimension_of_linear_layers_and_the_second_of_convolutions():
    x = torch.randn(5, 6, 7, 3)
    channels_last = nn.Sequential(nn.Linear(3, 9), nn.GELU(), nn.Linear(9, 4), nn.Flatten(), nn.Linear(4 * 42, 2))
    assert torch.allclose(pre_activations(channels_last, x, "0"), channels_last[0](x).mean(dim=(1, 2)))
    assert torch.allclose(pre_activations(channels_last, x, "1"), channels_last[:2](x).mean(dim=(1, 2)))
    sequence = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 18, 2))
    y = torch.randn(5, 4, 20)
    assert torch.allclose(pre_activations(sequence, y, "1"), sequence[:2](y).mean(dim=2))


def test_half_precision_is_averaged_in_single_precision():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 64, 2)).bfloat16()
    x = torch.randn(500, 1, 8, 8).bfloat16()
    z = pre_activations(model, x)
    assert z.dtype == torch.float32
    assert len(z[:, 0].unique()) > 400


@pytest.mark.parametrize("name", ["preact_resnet9", "preact_resnet18", "resnet18", "vit"])
def test_in_a_residual_network_it_is_the_sum_that_leaves_the_last_block(name):
    torch.manual_seed(0)
    model, x = NETWORKS[name]((3, 16, 16), 5).eval(), torch.randn(4, 3, 16, 16)
    layer = last_hidden_layer(model, x)
    inner = hidden_layers(model, x)[-1]
    assert inner.startswith(f"{layer}.")
    block, given = model.get_submodule(layer), []
    with block.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0])), torch.no_grad():
        model(x)
        output = block(given[0])
    at_most = output.flatten(1, -2).amax(dim=1) if name == "vit" else output.flatten(2).amax(dim=2)
    assert torch.allclose(pre_activations(model, x, pooling="max"), at_most, atol=1e-5)
    assert not torch.allclose(pre_activations(model, x, inner, pooling="max"), at_most, atol=1e-2)


def test_blocks_that_add_nothing_are_none():
    block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    plain = nn.Sequential(block, nn.Flatten(), nn.Linear(64, 2))
    assert last_hidden_layer(plain, torch.randn(2, 3, 4, 4)) == "0.0"


def test_maximum_and_mean_of_one_layer_from_one_pass():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), torch.randn(5, 3, 4, 4)
    with captured(model, "0", "0:mean", "0:max", pooling="max") as outputs, torch.no_grad():
        model(x)
        maps = model[0](x).flatten(2)
    assert torch.allclose(outputs["0"][0], maps.amax(dim=2))
    assert torch.equal(outputs["0"][0], outputs["0:max"][0])
    assert torch.allclose(outputs["0:mean"][0], maps.mean(dim=2))
    with (
        pytest.raises(ParameterError, match="pooling='median': must be one of max, mean"),
        captured(model, "0", pooling="median"),
    ):
        pass
