"""Networks and samples of every form: the last hidden layer is found, and everything is read from it."""

import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lib import histograms
from lib.batches import Indexed, batches, logits_of, taken_apart, unwrapped
from lib.checks import ParameterError
from lib.cnd import StreamingDivergence, aggregate, divergence, neuron_divergence
from lib.firing import firing, firing_frequency
from lib.gradients import evidence_criterion, gradient_disparity
from lib.graphs import activation_graphs
from lib.layers import evaluating, hidden_layers, last_hidden_layer, looked_at, pre_activations
from lib.loops import watch
from lib.predictions import logits, predict
from lib.sensitivity import batch_loss_sensitivity, critical_samples, input_gradient_norms
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
    "dict of arrays": {"x": X.numpy(), "labels": Y.numpy()},
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


MEASURES = {
    "predict": predict,
    "logits": logits,
    "firing": lambda model, data: firing(model, data, threshold=0.1).samples,
    "firing of neurons": lambda model, data: firing(model, data, threshold=0.1).neurons,
    "norms": input_gradient_norms,
    "batch loss": lambda model, data: batch_loss_sensitivity(model, data, batch_size=7),
    "critical": lambda model, data: critical_samples(model, data, 0.1),
    "disparity": lambda model, data: gradient_disparity(model, data, (X[:9], Y[:9])),
    "evidence": evidence_criterion,
    "graphs": lambda model, data: torch.from_numpy(activation_graphs(model, data, num_classes=3).weights),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("form", ["dict", "dataset", "loader", "indexed", "dicts", "generator"])
def test_measures_of_samples_of_every_form_are_those_of_tensors(measure, form):
    model = nn.DataParallel(TakesDict())
    data = ((x, y) for x, y in FORMS["loader"]) if form == "generator" else FORMS[form]
    found, expected = (torch.as_tensor(MEASURES[measure](model, samples)) for samples in (data, (X, Y)))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found.unique().numel() > 1 or found.ndim == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_forget_each_batch(measure):
    seen = []

    def stream():
        for x, y in zip(X.split(5), Y.split(5), strict=True):
            assert sum(batch() is not None for batch in seen) <= 2
            x = x.clone()
            seen.append(weakref.ref(x))
            yield x, y

    MEASURES[measure](network(), stream())
    assert len(seen) == 6


def test_what_predictions_and_firing_are_of():
    model = network()
    with torch.no_grad():
        given = model(X)
    assert torch.allclose(logits(model, FORMS["loader"]), given, atol=1e-6)
    assert torch.equal(predict(model, FORMS["loader"]), given.argmax(dim=1))
    expected = firing_frequency(pre_activations(model, X))
    for found, of_all in zip(firing(model, FORMS["loader"]), expected, strict=True):
        assert torch.allclose(found, of_all)


def test_gradients_of_a_batch_as_a_loader_gives_it():
    first, second = list(FORMS["loader"])[:2]
    assert isinstance(first, list)
    found = gradient_disparity(network(), first, second)
    assert found == gradient_disparity(network(), tuple(first), tuple(second)) > 0


def test_no_more_single_gradients_are_in_memory_than_asked_for():
    calls = []

    def loss(prediction, target):
        calls.append(prediction)
        return nn.functional.cross_entropy(prediction, target)

    evidence_criterion(network(), DataLoader(PAIRS, 15), loss=loss, chunk=5)
    assert len(calls) == 6


class Bag(nn.Module):
    """Takes tokens, which are integers, and weights, which are not."""

    def __init__(self):
        super().__init__()
        self.embed, self.body = nn.Embedding(11, 6), network()

    def forward(self, tokens, shift=0.0):
        return self.body(self.embed(tokens).mean(dim=1) + shift)


def test_tokens_have_no_gradient_and_all_else():
    torch.manual_seed(0)
    model, tokens = Bag(), {"tokens": torch.arange(60).view(12, 5) % 11, "labels": Y[:12]}
    for measure in (input_gradient_norms, lambda *given: critical_samples(*given, 0.1)):
        with pytest.raises(ParameterError, match=r"inputs of type torch\.int64: must be floating point"):
            measure(model, tokens)
    embedded = model.embed(tokens["tokens"]).mean(dim=1).detach()
    shifted = {"tokens": torch.full((12, 5), 3), "shift": embedded - model.embed.weight[3].detach(), "labels": Y[:12]}
    expected = input_gradient_norms(model.body, embedded, Y[:12])
    assert torch.allclose(input_gradient_norms(model, shifted), expected, atol=1e-6)
    assert gradient_disparity(model, tokens, shifted) > 0
    assert evidence_criterion(model, tokens) < 1
    assert torch.equal(predict(model, tokens), model(tokens["tokens"]).argmax(dim=1))
    assert activation_graphs(model, tokens, num_classes=3).nodes[0] == ("input of body.0", 6)


def test_gradients_by_several_inputs_are_one():
    torch.manual_seed(0)
    model = Pairs()
    pair = {"left": X, "right": 2 * X, "labels": Y}
    joint = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), model.head)
    with torch.no_grad():
        joint[0].weight.copy_(torch.cat([model.left.weight, model.right.weight], dim=1))
        joint[0].bias.copy_(model.left.bias + model.right.bias)
    both = torch.cat([X, 2 * X], dim=1)
    assert torch.allclose(input_gradient_norms(model, pair), input_gradient_norms(joint, both, Y), atol=1e-6)
    assert batch_loss_sensitivity(model, pair) == pytest.approx(batch_loss_sensitivity(joint, both, Y), rel=1e-5)
    many, options = {"left": 3 * torch.randn(300, 6), "right": 3 * torch.randn(300, 6)}, {"steps": 1, "step_size": 0.01}
    found = critical_samples(model, many, 2.0, **options)
    assert 0 < found.sum() < 300
    assert torch.equal(found, critical_samples(model, many, 2.0, **options, batch_size=7))


@pytest.mark.parametrize("measure", [divergence, activation_graphs, input_gradient_norms, evidence_criterion])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels=None: must be given where the batches have none"),
        (Y[:9], "labels of 9 samples: must be one for each, of which 30 came"),
        (torch.cat([Y, Y]), "labels of 60 samples: must be one for each, of which 30 came"),
    ],
)
def test_labels_that_do_not_fit(measure, labels, message):
    classes = {"num_classes": 3} if measure in (divergence, activation_graphs) else {}
    with pytest.raises(ParameterError, match=message):
        measure(network(), FORMS["tensor"], labels=labels, **classes)


@pytest.mark.parametrize("measure", [pre_activations, *MEASURES.values()])
def test_no_samples(measure):
    with pytest.raises(ParameterError, match="data: must have at least one sample"):
        measure(network(), iter(()))


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_heads_of_timm():
    declare()
    timm = pytest.importorskip("timm")
    for name, layer in (("resnet18", "layer4.1"), ("vit_tiny_patch16_224", "blocks.1")):
        options = {"depth": 2, "img_size": 32} if name.startswith("vit") else {}
        model = timm.create_model(name, num_classes=3, **options)
        assert last_hidden_layer(model, torch.randn(2, 3, 32, 32)) == layer
    model = timm.create_model("convnext_atto", num_classes=3, head_hidden_size=16)
    assert last_hidden_layer(model, torch.randn(2, 3, 32, 32)) == "head.pre_logits.fc"


@pytest.mark.slow
def test_a_transformer_of_hugging_face():
    declare()
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "num_labels": 3, "pad_token_id": 0}
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**sizes))
    tokens = {"input_ids": torch.from_numpy(np.arange(1, 13).reshape(3, 4)), "labels": torch.tensor([0, 1, 2])}
    assert last_hidden_layer(model, tokens) == "transformer.h.1"
    assert pre_activations(model, tokens).shape == (3, 8)


class ByName(nn.Module):
    """Takes whatever comes by name."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, **batch):
        return self.body(batch["x"])


class Many(ByName):
    """Takes however many come."""

    def forward(self, *inputs):
        return self.body(sum(inputs))


@pytest.mark.parametrize("model", [ByName(), Many()], ids=["**batch", "*inputs"])
def test_networks_that_name_no_argument_are_watched_and_looked_at(model):
    x, labels = torch.randn(12, 4), torch.arange(12) % 3
    inputs = {"x": x} if type(model) is ByName else (x, x)
    signals = watch(model.train(), 3, only_predicted=False)
    with signals:
        model(**inputs) if type(model) is ByName else model(*inputs)
        signals.update(torch.arange(12), None, labels)
    expected = pre_activations(model, [(inputs, labels)], "body.0", pooling="max")
    assert signals.layer == "body.0"
    assert signals.compute()["cnd"] == aggregate(neuron_divergence(expected, labels, 3))


@pytest.mark.parametrize("streamed", [False, True])
def test_where_no_sample_counts_there_is_no_divergence(streamed):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    nn.init.constant_(model[2].weight, 0.0)
    model[2].bias.data = torch.tensor([1.0, 0.0, 0.0])  # always the first class
    stream = StreamingDivergence(3, low=torch.full((6,), -9.0), high=torch.full((6,), 9.0)) if streamed else None
    found = divergence(model, (torch.randn(5, 4), torch.ones(5).long()), 3, only_predicted=True, stream=stream)
    assert found.shape == (0,)
    assert math.isnan(aggregate(found))
