"""Activation graphs: a network as a weighted graph of its neurons, one graph for each class.

Nodes are the neurons of each layer (the maps of a convolution) and the inputs. An edge joins neuron i to neuron j of
the next layer with weight |w_ij m_i|, where m_i is the mean activation of neuron i over the samples of a class; for
convolutions |w_ij| is summed over the kernel and m_i is a mean over positions too.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from scipy import sparse
from torch import nn

from .batches import call, labelled, unwrapped
from .checks import ParameterError, check_at_least
from .layers import Weighted, check_layer, evaluating, pooled


@dataclass(frozen=True)
class ActivationGraphs:
    """The activation graphs of the classes of a network; index them by class.

    Attributes:
        nodes: name of the layer (or "input of" one) and number of its neurons, in the order of the nodes.
        rows, columns: nodes that each edge joins, shape (edges,).
        weights: of the edges in each class, shape (K, edges); NaN for a class without samples.
    """

    nodes: tuple[tuple[str, int], ...]
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, label: int) -> sparse.csr_array:
        """Symmetric matrix of weights of a class, shape (nodes, nodes).

        Raises ValueError for a class without samples.
        """
        weights = self.weights[label]
        if np.isnan(weights).any():
            raise ValueError(f"class {label}: must have samples")
        edges, indices, starts = self._layout
        return sparse.csr_array((weights[edges], indices, starts))

    @cached_property
    def _layout(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which edge each entry of the matrix is, row by row, its column, and where each row starts."""
        n = sum(count for _, count in self.nodes)
        rows, columns = np.concatenate([self.rows, self.columns]), np.concatenate([self.columns, self.rows])
        order = np.lexsort((columns, rows))
        starts = np.searchsorted(rows[order], np.arange(n + 1))
        return order % len(self.rows), columns[order], starts

    def networkx(self, label: int):
        """The graph of a class as `networkx.Graph`; nodes carry `layer`, edges `weight`, those of weight 0 left out."""
        import networkx

        matrix = self[label]
        matrix.eliminate_zeros()
        graph = networkx.from_scipy_sparse_array(matrix)
        layers = [name for name, count in self.nodes for _ in range(count)]
        networkx.set_node_attributes(graph, dict(enumerate(layers)), "layer")
        return graph


def activation_graphs(
    model: nn.Module,
    data,
    labels=None,
    num_classes: int = 0,
    layers: list[str] | None = None,
    batch_size: int = 500,
) -> ActivationGraphs:
    """Activation graphs of a network, in evaluation mode; the model is left as it was.

    Neurons that a layer reads are those that the layer before it gives, where their numbers fit (a flattened map counts
    as its map); a tensor that two layers read is one set of neurons. Otherwise the layer has input nodes of its own.

    Args:
        model: any network with linear or convolutional layers, wrapped or not.
        data: samples in any form that `lib.batches.batches` takes.
        labels: class of each sample in their order, integers in [0, num_classes), shape (n,); None: those in the
            batches.
        num_classes: K, at least 1.
        layers: linear or convolutional modules to take; None: all that a forward pass reaches.
        batch_size: inputs in one forward pass, where they are not in batches already.

    Raises:
        ParameterError: for a module that is unknown or has no weights, samples without labels, or labels out of range.
    """
    check_at_least(1, num_classes=num_classes)
    model = unwrapped(model)
    for name in layers or ():
        check_layer(model, name)
        if not isinstance(model.get_submodule(name), Weighted):
            raise ParameterError(f"layers={name!r}: must be a linear or convolutional layer")
    modules = {name: module for name, module in model.named_modules() if isinstance(module, Weighted)}
    counts = torch.zeros(num_classes, dtype=torch.float64)
    sums: dict[str, torch.Tensor] = {}
    shared: dict[str, str] = {}
    inputs: dict[str, torch.Tensor] = {}  # what each layer reads, in the order in which a pass reaches them

    def keep(_module, arguments, name: str) -> None:
        inputs[name] = arguments[0]

    with evaluating(model), ExitStack() as hooks:
        for name in modules if layers is None else layers:
            hooks.enter_context(modules[name].register_forward_pre_hook(partial(keep, name=name)))
        for batch, given in labelled(model, data, labels, batch_size):
            classes = given.long()
            low, high = classes.min().item(), classes.max().item()
            if low < 0 or high >= num_classes:
                raise ParameterError(f"labels in [{low}, {high}]: must be in [0, {num_classes - 1}]")
            counts += torch.bincount(classes.cpu(), minlength=num_classes)
            inputs.clear()
            call(model, batch)
            first_with: dict[int, str] = {}
            for name, activation in inputs.items():
                shared[name] = first_with.setdefault(id(activation), name)
                averages = pooled(activation, isinstance(modules[name], nn.Linear)).double()
                total = sums.setdefault(name, averages.new_zeros(num_classes, averages.shape[1]))
                total.index_add_(0, classes, averages)
    means = {name: (total.cpu() / counts[:, None]).numpy() for name, total in sums.items()}
    return _assembled(modules, means, shared)


def _assembled(modules: dict[str, Weighted], means: dict[str, np.ndarray], shared: dict[str, str]) -> ActivationGraphs:
    nodes: list[tuple[str, int]] = []

    def add(name: str, count: int) -> int:
        nodes.append((name, count))
        return sum(count for _, count in nodes[:-1])

    sources: dict[str, tuple[int, int]] = {}  # first node that a layer reads, and inputs a node
    rows, columns, weights = [], [], []
    previous: tuple[int, int] | None = None
    for name, mean in means.items():
        strength = _strength(modules[name])
        outputs, inputs = strength.shape
        if shared[name] != name:
            start, each = sources[shared[name]]
        elif previous and inputs % previous[1] == 0:
            start, each = previous[0], inputs // previous[1]
        else:
            start, each = add(f"input of {name}", inputs), 1
        sources[name] = start, each
        out = add(name, outputs)
        previous = out, outputs
        # Edges from what is one node are one edge: the sum over the inputs that it stands for.
        weight = np.abs(mean)[:, None, :] * strength[None]
        if each > 1:
            weight = weight.reshape(len(mean), outputs, inputs // each, each).sum(axis=3)
        rows.append(np.tile(start + np.arange(inputs // each), outputs))
        columns.append(np.repeat(out + np.arange(outputs), inputs // each))
        weights.append(weight.reshape(len(mean), -1))
    edges = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights, axis=1)
    return ActivationGraphs(tuple(nodes), *edges)


def _strength(module: Weighted) -> np.ndarray:
    """|w_ij| of a layer, summed over the kernel, shape (outputs, inputs); inputs of other groups have 0."""
    weight = module.weight.detach().abs().double().cpu()
    if isinstance(module, nn.Linear):
        return weight.numpy()
    return torch.block_diag(*weight.flatten(2).sum(dim=2).chunk(module.groups)).numpy()
