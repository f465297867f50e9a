"""Graph entropies against the obvious implementation, in one process: python tests/benchmarks/entropy.py [--large]

A 784-128-128-128-10 network: its activation graphs of ten classes with their von Neumann entropies, exact and
estimated, against a networkx graph made edge by edge and a dense general eigensolver. With --large, the estimate on a
random graph of 100,000 nodes and ten million edges, with the bound of its error.
"""

import argparse
import statistics
import time
from functools import partial
from itertools import pairwise

import networkx as nx
import numpy as np
import torch
from scipy import sparse
from torch import nn

from lib.entropy import approximate_von_neumann_entropy, side_by_side, von_neumann_entropy
from lib.graphs import activation_graphs

WIDTHS, CLASSES = (784, 128, 128, 128, 10), 10


def network() -> nn.Module:
    """The multilayer perceptron that is measured."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width_in, width in pairwise(WIDTHS):
        layers += [nn.Linear(width_in, width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def edge_by_edge(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, label: int) -> float:
    """Entropy of one class: every edge added by itself, all eigenvalues by the general dense solver."""
    graph, start, activation = nx.Graph(), 0, x[labels == label]
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                means, weight = activation.mean(dim=0).numpy(), module.weight.numpy()
                below = start + module.in_features
                for j in range(module.out_features):
                    for i in range(module.in_features):
                        graph.add_edge(start + i, below + j, weight=abs(weight[j, i] * means[i]))
                start = below
            activation = module(activation)
    laplacian = nx.laplacian_matrix(graph).toarray().astype(float)
    eigenvalues = np.linalg.eigvals(laplacian / np.trace(laplacian)).real
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(-(eigenvalues * np.log(eigenvalues)).sum())


def timed(seconds: list[float], function):
    """What the function gives; its time is appended to the seconds."""
    time.sleep(0.1)  # threads of what was timed before wait busily for a while
    began = time.perf_counter()
    result = function()
    seconds.append(time.perf_counter() - began)
    return result


def small(rounds: int) -> None:
    """Ten classes of the perceptron; the reference is timed on two of them."""
    model, few = network(), 2
    estimate = partial(approximate_von_neumann_entropy, probes=4, steps=8)
    x, labels = torch.rand(2000, WIDTHS[0]), torch.arange(2000) % CLASSES
    seconds: dict[str, list[float]] = {"reference": [], "exact": [], "estimate": []}
    for _ in range(rounds):
        slow = timed(seconds["reference"], lambda: [edge_by_edge(model, x, labels, label) for label in range(few)])
        seconds["reference"][-1] *= CLASSES / few
        exact = timed(
            seconds["exact"],
            lambda: side_by_side(von_neumann_entropy, activation_graphs(model, x, labels, CLASSES)),
        )
        estimates = timed(
            seconds["estimate"], lambda: side_by_side(estimate, activation_graphs(model, x, labels, CLASSES))
        )
    print(f"largest difference: exact {max(abs(a - b) for a, b in zip(slow, exact, strict=False)):.1e} nats, ", end="")
    print(f"estimate {max(abs(a.value - b) for a, b in zip(estimates, exact, strict=True)):.1e}", end="")
    print(f" (told: {max(a.error for a in estimates):.1e}) of {exact[0]:.3f}")
    for name in ("exact", "estimate"):
        ratio = statistics.median(a / b for a, b in zip(seconds["reference"], seconds[name], strict=True))
        print(f"reference {statistics.median(seconds['reference']):.1f} s", end="   ")
        print(f"{name} {statistics.median(seconds[name]) * 1000:.0f} ms   ratio {ratio:.0f}")


def large() -> None:
    """A random graph with weights."""
    n, edges, rng = 100_000, 10_000_000, np.random.default_rng(0)
    rows, columns = rng.integers(0, n, (2, edges))
    graph = sparse.coo_array((rng.exponential(size=edges), (rows, columns)), shape=(n, n)).tocsr()
    graph = sparse.csr_array(graph + graph.T)
    began = time.perf_counter()
    value, error = approximate_von_neumann_entropy(graph)
    seconds = time.perf_counter() - began
    share = 100 * error / value
    print(f"{n} nodes, {edges} edges: {value:.4f} ± {error:.4f} nats ({share:.2f} %) in {seconds:.1f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    large() if options.large else small(options.rounds)


if __name__ == "__main__":
    main()
