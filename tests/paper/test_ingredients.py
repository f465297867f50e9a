import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from lib import models
from lib.data.dataset import Dataset
from lib.data.inputs import Inputs
from lib.data.samples import Part
from lib.noise import symmetric, transition_matrix
from lib.paper import figures, ingredients
from tests.looks import texts_overlap

mpl.use("agg")
NAMES = ("cat", "a_name_that_is_far_too_long", "dog")


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        figures.style()
        yield
    plt.close("all")


def part(given, true):
    return Part(torch.arange(len(true)), torch.tensor(given), torch.tensor(true))


def dataset(inputs, true, classes=NAMES):
    true = torch.tensor(true)
    return Dataset(inputs, true, inputs, true, classes, "")


def images(count, channels=3):
    return Inputs(torch.arange(count).byte().view(-1, 1, 1, 1).expand(-1, 8, 8, channels), are_images=True)


def test_samples_are_spread_over_a_part_from_first_to_last():
    labels = list(range(100))
    assert ingredients.spread(part(labels, labels), 4).rows.tolist() == [0, 33, 66, 99]
    assert ingredients.spread(part(labels[:3], labels[:3]), 12).rows.tolist() == [0, 1, 2]


def test_a_wrong_label_is_framed_and_the_true_one_told():
    true, given = [0, 1, 2], [0, 2, 2]
    figure = ingredients.samples(dataset(images(3), true), part(given, true))
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["cat", "dog\ntruly a name that…", "dog"]
    assert [axis.spines["left"].get_visible() for axis in shown] == [False, True, False]
    assert texts_overlap(figure) == []


def test_no_label_is_called_wrong_where_nobody_knows():
    figure = ingredients.samples(dataset(images(2), [0, 2]), part([0, 2], [-1, -1]))
    assert [axis.get_title() for axis in figure.axes if axis.get_visible()] == ["cat", "dog"]
    assert not any(axis.spines["left"].get_visible() for axis in figure.axes[:2])


@pytest.mark.parametrize("count", [5, 12, 13])
def test_many_samples_overlap_nowhere(count):
    true, given = [1] * count, [2] * count
    figure = ingredients.samples(dataset(images(count, channels=1), true), part(given, true), count)
    assert sum(axis.get_visible() for axis in figure.axes) == count
    assert texts_overlap(figure) == []


@pytest.mark.parametrize(
    ("values", "drawn_as_image"),
    [(torch.zeros(8, 8, 3), True), (torch.ones(8, 8, 1).byte(), True), (torch.randn(16, 300), False)],
)
def test_a_sample_is_an_image_or_a_profile(values, drawn_as_image):
    _, axis = plt.subplots()
    ingredients.sample(axis, values)
    assert bool(axis.images) == drawn_as_image
    assert bool(axis.lines) != drawn_as_image


def test_the_noise_matrix_tells_every_share_in_percent():
    _, axis = plt.subplots()
    ingredients.noise_matrix(axis, np.array([[0.75, 0.25, 0], [np.nan] * 3, [0, 0.1, 0.9]]), NAMES)
    found = {tuple(text.get_position()): text.get_text() for text in axis.texts}
    assert found == {(0, 0): "75", (1, 0): "25", (1, 2): "10", (2, 2): "90"}
    assert axis.images[1].get_clim() == (0, 25)
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["cat", "a name that is f…", "dog"]


@pytest.mark.parametrize("classes", [2, 10, 20, 200])
@pytest.mark.parametrize("rate", [0, 0.4])
def test_the_noise_matrix_of_any_number_of_classes(classes, rate):
    true = np.arange(2000) % classes
    shares = transition_matrix(true, symmetric(true, rate, classes, seed=0).labels, classes)
    figure, axis = plt.subplots(figsize=(4.4, 3.8))
    ingredients.noise_matrix(axis, shares, [f"class {label}" for label in range(classes)], "title", largest=0.5)
    assert texts_overlap(figure) == []
    assert len(axis.get_xticklabels()) == (classes if classes <= 20 else 0)
    assert axis.images[1].get_clim() == (0, 50)


@pytest.mark.parametrize("network", ["mlp", "preact_resnet9", "vit", "resnet18"])
def test_every_parameter_of_a_network_is_in_one_part(network):
    model = models.NETWORKS[network]((3, 32, 32), 10, 0.0)
    table = ingredients.network(model, {})
    assert table["parameters"].sum() == sum(weights.numel() for weights in model.parameters())
    assert len(table) <= 20


def test_recorded_neurons_are_told_at_their_part():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 6)), nn.Linear(6, 2))
    table = ingredients.network(model, {"0": 8, "1.1": 6})
    assert table.index.tolist() == ["0", "1.0", "1.1", "2"]
    assert table["cnd_neurons"].tolist() == [8, 0, 6, 0]
