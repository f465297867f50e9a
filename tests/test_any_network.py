"""Networks and samples of every form: the last hidden layer is found, and everything is read from it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lib import histograms
from lib.batches import Indexed, batches, logits_of, taken_apart, unwrapped
from lib.checks import ParameterError
from lib.cnd import StreamingDivergence, divergence, neuron_divergence
from lib.layers import evaluating, hidden_layers, last_hidden_layer, looked_at, pre_activations
from lib.torchvision_operators import declare

X, Y = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Dicts(Indexed):
    """Samples as dicts, as tokenizers make them."""

    def __getitem__(self, place):
        x, label = self.dataset[place]
        return {"x": x, "labels": label}


PAIRS = TensorDataset(X, Y)
FORMS = {
    "tensor": X,
    "array": X.numpy(),
    "all at once": (X, Y),
    "dict": {"x": X, "labels": Y},
    "dataset": PAIRS,
    "loader": DataLoader(PAIRS, 7),
    "indexed": DataLoader(Indexed(PAIRS), 7),
    "dicts": DataLoader(Indexed(Dicts(PAIRS)), 7),
    "batches": list(X.split(7)),
    "generator": (part for part in X.split(7)),
}


class TakesDict(nn.Module):
    """Takes its inputs by name, and gives a dict."""

    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        return {"logits": self.body(x)}


@pytest.mark.parametrize("form", FORMS)
def test_samples_of_every_form_give_the_same(form):
    model = TakesDict()
    with torch.no_grad():
        expected = model.body[0](X)
    assert torch.allclose(pre_activations(model, FORMS[form], batch_size=4), expected, atol=1e-6)


def test_labels_and_places_come_with_the_batches():
    for form in ("indexed", "dicts"):
        parts = list(batches(FORMS[form]))
        assert torch.equal(torch.cat([part.labels for part in parts]), Y)
        assert torch.equal(torch.cat([part.places for part in parts]), torch.arange(30))
    assert [len(part.labels) for part in batches((X, Y), batch_size=20)] == [20, 10]
    assert taken_apart([X]).labels is None


@pytest.mark.parametrize("data", ["text", 3, [object()]])
def test_what_are_no_samples_is_said(data):
    with pytest.raises(ParameterError, match=r"(data|batch) of type \w+: must be"):
        pre_activations(network(), data)


def test_an_epoch_is_read_in_the_memory_of_a_batch():
    taken = []

    def stream():
        for number, part in enumerate(X.split(10)):
            taken.append(number)
            yield part

    for number, _ in enumerate(looked_at(network(), stream())):
        assert taken == list(range(number + 1))


@pytest.mark.parametrize("only_predicted", [False, True])
def test_the_divergence_of_a_loader_is_that_of_all_samples(only_predicted):
    model = network()
    z, predicted = pre_activations(model, X), model(X).argmax(dim=1) if only_predicted else None
    expected = neuron_divergence(z, Y, 3, predicted=predicted)
    assert torch.equal(divergence(model, FORMS["loader"], 3, only_predicted=only_predicted), expected)
    assert torch.equal(divergence(model, X, 3, labels=Y, only_predicted=only_predicted), expected)


def test_one_pass_is_enough_with_the_range_of_the_epoch_before():
    model, stream = network(), StreamingDivergence(3)
    first = divergence(model, (X, Y), 3, stream=stream)
    assert torch.equal(divergence(model, ((x, y) for x, y in FORMS["loader"]), 3, stream=stream), first)
    with pytest.raises(ParameterError, match="data of type generator: must give its batches twice"):
        divergence(model, ((x, y) for x, y in FORMS["loader"]), 3)
    with pytest.raises(ParameterError, match="labels=None: must be given where the batches have none"):
        divergence(model, X, 3)


def test_without_numba_the_counts_are_the_same(monkeypatch):
    z = torch.randn(500, 7, generator=torch.Generator().manual_seed(1))
    compiled = neuron_divergence(z, torch.arange(500) % 3, 3)
    monkeypatch.setattr(histograms, "COMPILED", False)
    assert torch.equal(neuron_divergence(z, torch.arange(500) % 3, 3), compiled)


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.embed, self.recur = nn.Embedding(11, 5), kind(5, 7, **options)
        self.head = nn.Linear(7 * (1 + self.recur.bidirectional), 3)

    def forward(self, tokens):
        embedded = self.embed(tokens if self.recur.batch_first else tokens.T)
        values, _ = self.recur(embedded)
        return self.head(values.mean(dim=1 if self.recur.batch_first else 0))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{"batch_first": True}, {"num_layers": 2}, {"bidirectional": True}])
def test_of_a_recurrent_layer_the_last_state_is_taken(kind, options):
    torch.manual_seed(0)
    model, tokens = Recurrent(kind, **options), torch.arange(20).view(4, 5) % 11
    assert last_hidden_layer(model, tokens) == "recur"
    values = model.recur(model.embed(tokens if model.recur.batch_first else tokens.T))[0]
    values = values if model.recur.batch_first else values.transpose(0, 1)
    expected = values[:, -1]
    if model.recur.bidirectional:
        expected = torch.cat([values[:, -1, :7], values[:, 0, 7:]], dim=1)
    assert torch.allclose(pre_activations(model, tokens), expected, atol=1e-6)


class Tokens(nn.Module):
    """Ends in a transformer block of torch."""

    def __init__(self, batch_first=True):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)
        self.batch_first = batch_first

    def forward(self, x):
        encoded = self.encoder(x if self.batch_first else x.transpose(0, 1))
        return self.head(encoded.mean(dim=1 if self.batch_first else 0))


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_last_block_of_a_transformer_is_found(batch_first):
    torch.manual_seed(0)
    model, x = Tokens(batch_first), torch.randn(4, 5, 8)
    assert last_hidden_layer(model, x) == "encoder.layers.1"
    with evaluating(model):
        encoded = model.encoder(x if batch_first else x.transpose(0, 1))
    expected = encoded.mean(dim=1 if batch_first else 0)
    assert torch.allclose(pre_activations(model, x), expected, atol=1e-6)


def test_frozen_blocks_are_found_too_and_stay_frozen():
    model = Tokens().requires_grad_(False)
    assert last_hidden_layer(model, torch.randn(4, 5, 8)) == "encoder.layers.1"
    assert not any(weight.requires_grad for weight in model.parameters())


class Reused(nn.Module):
    """One layer, called three times; two heads, of which the last gives no logits."""

    def __init__(self):
        super().__init__()
        self.cell, self.head, self.projection = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 4)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.cell(x))
        logits = self.head(x)
        return SimpleNamespace(features=self.projection(x), logits=logits)


def test_of_a_layer_called_several_times_the_last_is_taken():
    model = Reused()
    assert hidden_layers(model, X) == ["cell"]
    with torch.no_grad():
        before = torch.tanh(model.cell(torch.tanh(model.cell(X))))
        expected = model.cell(before)
    assert torch.allclose(pre_activations(model, X), expected, atol=1e-6)


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, left, right):
        return self.head(torch.relu(self.left(left) + self.right(right))), None


def test_several_arguments():
    model = Pairs()
    expected = model.right(X)
    pairs = TensorDataset(X, X, Y)
    loader = (((left, right), labels) for left, right, labels in DataLoader(pairs, 8))
    assert torch.allclose(pre_activations(model, loader), expected, atol=1e-6)
    named = {"left": X, "right": X, "labels": Y, "id": torch.arange(30)}
    assert torch.allclose(pre_activations(model, named), expected, atol=1e-6)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, batch):
        return self.body(batch["features"])


def test_a_network_that_takes_the_dict_itself():
    assert pre_activations(Whole(), {"features": X, "labels": Y}).shape == (30, 8)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: (model.compile(backend="eager"), model)[1],
        torch.optim.swa_utils.AveragedModel,
    ],
    ids=["DataParallel", "torch.compile", "compiled in place", "AveragedModel"],
)
def test_wrapped_networks_are_looked_into(wrap):
    plain = network()
    expected = pre_activations(plain, X)
    wrapped = wrap(plain)
    wrapped(X)
    assert last_hidden_layer(wrapped, X) == "0"
    assert torch.equal(pre_activations(wrapped, X), expected)
    assert type(unwrapped(wrapped)) is nn.Sequential


def test_the_error_lists_the_layers_to_choose_from():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.act, self.head = nn.Parameter(torch.randn(4, 6)), nn.ReLU(), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.act(x @ self.weight.T))

    with pytest.raises(ParameterError, match=r"Functional: must have a hidden .* else name as layer= one of act, head"):
        pre_activations(Functional(), X)
    assert pre_activations(Functional(), X, "act").shape == (30, 4)


def test_the_mode_of_each_module_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).train()
    model[1].eval()
    pre_activations(model, X)
    assert [module.training for module in model] == [True, False, True, True]


def test_logits_of_every_form():
    logits = torch.zeros(2, 3)
    for output in (
        logits,
        (logits, None),
        [None, logits],
        {"logits": logits, "loss": X},
        SimpleNamespace(logits=logits),
    ):
        assert logits_of(output) is logits
    with pytest.raises(ParameterError, match="output of type str: must be logits"):
        logits_of("none")


def test_heads_of_timm():
    declare()
    timm = pytest.importorskip("timm")
    for name, layer in (("resnet18", "layer4.1"), ("vit_tiny_patch16_224", "blocks.1")):
        options = {"depth": 2, "img_size": 32} if name.startswith("vit") else {}
        model = timm.create_model(name, num_classes=3, **options)
        assert last_hidden_layer(model, torch.randn(2, 3, 32, 32)) == layer
    model = timm.create_model("convnext_atto", num_classes=3, head_hidden_size=16)
    assert last_hidden_layer(model, torch.randn(2, 3, 32, 32)) == "head.pre_logits.fc"


def test_a_transformer_of_hugging_face():
    declare()
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "num_labels": 3, "pad_token_id": 0}
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**sizes))
    tokens = {"input_ids": torch.from_numpy(np.arange(1, 13).reshape(3, 4)), "labels": torch.tensor([0, 1, 2])}
    assert last_hidden_layer(model, tokens) == "transformer.h.1"
    assert pre_activations(model, tokens).shape == (3, 8)
