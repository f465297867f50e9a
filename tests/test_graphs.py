import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from lib.checks import ParameterError
from lib.entropy import shannon_entropy, von_neumann_entropy
from lib.graphs import activation_graphs
from lib.models import NETWORKS

pytestmark = pytest.mark.usefixtures("double_precision")


def edge_by_edge(model, x, labels, label):
    """The graph of a network of linear layers and ReLU, edge by edge; nodes are (layer, neuron)."""
    graph, layer, activation = nx.Graph(), 0, x[labels == label]
    for module in model:
        if isinstance(module, nn.Linear):
            means = activation.mean(dim=0)
            for j in range(module.out_features):
                for i in range(module.in_features):
                    weight = abs(module.weight[j, i].item() * means[i].item())
                    if weight > 0:
                        graph.add_edge((layer, i), (layer + 1, j), weight=weight)
            layer += 1
        activation = module(activation).detach()
    return graph


def weights_of(graph):
    return sorted(weight for _, _, weight in graph.edges(data="weight"))


def test_a_multilayer_perceptron_agrees_with_its_edges():
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    x, labels = torch.randn(50, 7), torch.arange(50) % 3
    graphs = activation_graphs(model, x, labels, 3, batch_size=8)
    assert graphs.nodes == (("input of 0", 7), ("0", 5), ("2", 4), ("4", 3))
    assert len(graphs) == 3
    for label in range(3):
        expected = edge_by_edge(model, x, labels, label)
        found = graphs.networkx(label)
        assert weights_of(found) == pytest.approx(weights_of(expected), rel=1e-9)
        assert von_neumann_entropy(found) == pytest.approx(von_neumann_entropy(expected), abs=1e-9)
        assert von_neumann_entropy(graphs[label]) == pytest.approx(von_neumann_entropy(expected), abs=1e-9)
        assert shannon_entropy(graphs[label]) == pytest.approx(shannon_entropy(expected), abs=1e-9)
        assert [found.nodes[node]["layer"] for node in (0, 7, 18)] == ["input of 0", "0", "4"]


def test_edges_join_the_nodes_they_should():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False))
    x = torch.tensor([[1.0, 2.0]])
    matrix = activation_graphs(model, x, torch.tensor([0]), 1)[0].toarray()
    hidden = model[0](x)[0].detach()
    expected = np.zeros((7, 7))
    expected[0:2, 2:5] = (model[0].weight.detach() * x).abs().T
    expected[2:5, 5:7] = (model[1].weight.detach() * hidden).abs().T
    assert np.allclose(matrix, expected + expected.T)


def test_convolutions_sum_over_the_kernel_and_average_over_positions():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 4))
    x = torch.randn(5, 2, 6, 6)
    graphs = activation_graphs(model, x, torch.zeros(5, dtype=torch.long), 1)
    assert graphs.nodes == (("input of 0", 2), ("0", 3), ("3", 4))
    matrix = graphs[0].toarray()
    first = model[0].weight.detach().abs().sum(dim=(2, 3)) * x.mean(dim=(0, 2, 3)).abs()
    assert np.allclose(matrix[0:2, 2:5], first.T)
    flat = model[:3](x).detach().mean(dim=0).abs()
    second = (model[3].weight.detach().abs() * flat).unflatten(1, (3, 16)).sum(dim=2)
    assert np.allclose(matrix[2:5, 5:9], second.T)


def test_grouped_convolutions_have_edges_within_their_groups_only():
    model = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.Flatten(), nn.Linear(6 * 4, 2))
    matrix = activation_graphs(model, torch.rand(3, 4, 2, 2), torch.zeros(3, dtype=torch.long), 1)[0].toarray()
    block = matrix[0:4, 4:10]
    assert (block[:2, 3:] == 0).all()
    assert (block[2:, :3] == 0).all()
    assert (block[:2, :3] > 0).all()


def test_layers_that_read_the_same_tensor_share_its_neurons():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.join = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.join(torch.relu(self.left(x) + self.right(x)))

    graphs = activation_graphs(Fork(), torch.rand(6, 4), torch.zeros(6, dtype=torch.long), 1)
    assert graphs.nodes == (("input of left", 4), ("left", 5), ("right", 5), ("join", 2))
    assert (graphs[0].toarray()[0:4, 9:14] > 0).all()


def test_selected_layers_only():
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    graphs = activation_graphs(model, torch.rand(5, 7), torch.zeros(5, dtype=torch.long), 1, layers=["2", "4"])
    assert graphs.nodes == (("input of 2", 5), ("2", 4), ("4", 3))


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"news_mlp", "vit", "resnet50", "preact_resnet34"}))
def test_every_network_has_its_graphs(name):
    model = NETWORKS[name]((3, 32, 32), 10)
    graphs = activation_graphs(model, torch.rand(4, 3, 32, 32), torch.arange(4) % 2, 2)
    assert sum(count for _, count in graphs.nodes) == graphs[0].shape[0]
    assert 0 < shannon_entropy(graphs[0]) < np.log(len(graphs.rows))


def test_a_class_without_samples_has_no_graph():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graphs = activation_graphs(model, torch.rand(4, 3), torch.zeros(4, dtype=torch.long), 2)
    assert graphs[0].nnz > 0
    with pytest.raises(ValueError, match="class 1: must have samples"):
        graphs[1]


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    activation_graphs(model, torch.rand(4, 3), torch.zeros(4, dtype=torch.long), 1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_wrong_arguments():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(4, 3)
    for labels, layers, message in (
        (torch.tensor([0, 1, 2, 0]), None, r"labels in \[0, 2\]: must be in \[0, 1\]"),
        (torch.tensor([0, 1]), None, "labels of 2 samples: must be one for each, of which 4 came"),
        (torch.zeros(4, dtype=torch.long), ["1"], "layers='1': must be a linear or convolutional layer"),
        (torch.zeros(4, dtype=torch.long), ["9"], "layer='9': must be one of"),
    ):
        with pytest.raises(ParameterError, match=message):
            activation_graphs(model, x, labels, 2, layers)
