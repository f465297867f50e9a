import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import entropy as scipy_entropy

from lib.checks import ParameterError
from lib.entropy import (
    approximate_von_neumann_entropy,
    shannon_entropy,
    side_by_side,
    von_neumann_entropy,
)


def slow(graph: nx.Graph) -> float:
    """By the general eigenvalues of networkx's dense Laplacian."""
    laplacian = nx.laplacian_matrix(graph).toarray().astype(float)
    eigenvalues = np.linalg.eigvals(laplacian / np.trace(laplacian)).real
    return -sum(value * math.log(value) for value in eigenvalues if value > 1e-12)


def random_graph(n: int, probability: float, seed: int) -> nx.Graph:
    graph = nx.gnp_random_graph(n, probability, seed)
    rng = np.random.default_rng(seed)
    for a, b in graph.edges:
        graph[a][b]["weight"] = rng.exponential()
    return graph


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_a_complete_graph_has_ln_n_minus_1(n):
    assert von_neumann_entropy(nx.complete_graph(n)) == pytest.approx(math.log(n - 1), abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_a_star(n):
    # Eigenvalues of the Laplacian of K_{1,n-1}: 0, n, and n - 2 times 1; trace 2 (n - 1).
    trace = 2 * (n - 1)
    expected = -(n / trace) * math.log(n / trace) + (n - 2) / trace * math.log(trace)
    assert von_neumann_entropy(nx.star_graph(n - 1)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 7, 40])
def test_a_path(n):
    eigenvalues = [(2 - 2 * math.cos(math.pi * k / n)) / (2 * (n - 1)) for k in range(1, n)]
    assert von_neumann_entropy(nx.path_graph(n)) == pytest.approx(scipy_entropy(eigenvalues), abs=1e-12)


def test_a_disjoint_union_mixes_its_parts():
    parts = nx.complete_graph(6), nx.path_graph(9)
    edges = [graph.number_of_edges() for graph in parts]
    share = [count / sum(edges) for count in edges]
    expected = sum(w * von_neumann_entropy(g) for w, g in zip(share, parts, strict=True)) + scipy_entropy(share)
    assert von_neumann_entropy(nx.disjoint_union(*parts)) == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 25), st.floats(0.2, 1), st.integers(0, 10_000), st.floats(1e-6, 1e6))
@settings(max_examples=40, deadline=None)
def test_agrees_with_a_slow_reference_and_ignores_the_scale(n, probability, seed, scale):
    graph = random_graph(n, probability, seed)
    if graph.number_of_edges() == 0:
        return
    exact = von_neumann_entropy(graph)
    assert exact == pytest.approx(slow(graph), abs=1e-9)
    weights = nx.to_scipy_sparse_array(graph)
    assert von_neumann_entropy(weights * scale) == pytest.approx(exact, abs=1e-9)
    assert von_neumann_entropy(weights.toarray()) == pytest.approx(exact, abs=1e-12)
    assert 0 <= exact <= math.log(max(n - 1, 1)) + 1e-9
    shannon = shannon_entropy(graph)
    told = [weight for _, _, weight in graph.edges(data="weight")]
    assert shannon == pytest.approx(scipy_entropy(told), abs=1e-9)
    assert shannon_entropy(weights * scale) == pytest.approx(shannon, abs=1e-9)


@pytest.mark.parametrize("edges", [1, 4, 100])
def test_equal_edges_have_the_logarithm_of_their_number(edges):
    assert shannon_entropy(nx.star_graph(edges)) == pytest.approx(math.log(edges), abs=1e-12)


def test_one_edge_has_no_entropy():
    assert von_neumann_entropy(nx.path_graph(2)) == 0
    assert shannon_entropy(nx.path_graph(2)) == 0


def test_nodes_without_edges_and_loops_change_nothing():
    graph = random_graph(12, 0.5, 3)
    exact, shannon = von_neumann_entropy(graph), shannon_entropy(graph)
    graph.add_nodes_from(range(100, 110))
    graph.add_edge(2, 2, weight=7.0)
    assert von_neumann_entropy(graph) == pytest.approx(exact, abs=1e-12)
    assert approximate_von_neumann_entropy(graph, steps=60).value == pytest.approx(exact, rel=0.1)
    assert shannon_entropy(graph) == pytest.approx(shannon, abs=1e-12)


def test_a_single_node_has_none():
    single = nx.empty_graph(1)
    assert von_neumann_entropy(single) == 0
    assert approximate_von_neumann_entropy(single) == (0, 0)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.empty_graph(3), "must have an edge of weight above 0"),
        (np.zeros((2, 2)), "must have an edge of weight above 0"),
        (np.diag([1.0, 2.0]), "must have an edge of weight above 0"),
        (nx.empty_graph(0), "must be undirected, and must have a node"),
        (nx.DiGraph([(0, 1)]), "must be undirected"),
        (np.array([[0, 1.0], [2.0, 0]]), "must be undirected, a symmetric matrix"),
        (np.array([[0, -1.0], [-1.0, 0]]), "must have finite weights of at least 0"),
        (np.array([[0, math.nan], [math.nan, 0]]), "must have finite weights of at least 0"),
        (np.array([[0, math.inf], [math.inf, 0]]), "must have finite weights of at least 0"),
        (np.ones((2, 3)), "must be a square matrix"),
    ],
)
@pytest.mark.parametrize("measure", [von_neumann_entropy, approximate_von_neumann_entropy, shannon_entropy])
def test_what_has_no_entropy_is_an_error(measure, graph, message):
    if measure is shannon_entropy or len(graph) != 1:
        with pytest.raises(ValueError, match=message):
            measure(graph)


def test_estimates_check_their_arguments():
    for wrong, message in (({"probes": 1}, "probes=1: must be"), ({"steps": 0}, "steps=0: must be")):
        with pytest.raises(ParameterError, match=message):
            approximate_von_neumann_entropy(nx.path_graph(3), **wrong)


GRAPHS = [
    nx.complete_graph(60),
    nx.star_graph(80),
    nx.path_graph(300),
    nx.barabasi_albert_graph(300, 3, seed=0),
    nx.disjoint_union(nx.complete_graph(20), nx.path_graph(100)),
    random_graph(200, 0.1, 1),
]


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
@pytest.mark.parametrize("steps", [3, 10, 40])
def test_the_estimate_is_within_its_error(graph, steps):
    exact = von_neumann_entropy(graph)
    inside = 0
    for seed in range(20):
        value, error = approximate_von_neumann_entropy(graph, steps=steps, seed=seed)
        inside += abs(value - exact) <= error
    assert inside >= 19


def test_more_probes_and_steps_make_the_error_smaller():
    graph = random_graph(400, 0.05, 2)
    errors = [approximate_von_neumann_entropy(graph, probes, steps).error for probes, steps in ((4, 5), (64, 40))]
    assert errors[1] < errors[0] / 5
    assert errors[1] < 0.01 * von_neumann_entropy(graph)


def test_the_polynomial_bound_holds():
    # Chebyshev coefficients of x ln x on [0, 1] beyond degree d sum to 1 / (2 d (d + 1)).
    nodes = np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    x = (1 + nodes) / 2
    coefficients = [2 / 4000 * (x * np.log(x) * np.cos(k * np.arccos(nodes))).sum() for k in range(200)]
    for degree in (2, 5, 20):
        tail = np.abs(coefficients[degree + 1 :]).sum()
        assert tail <= 1 / (2 * degree * (degree + 1)) + 1e-6
        assert tail > 0.9 / (2 * degree * (degree + 1)) - 1 / (2 * 199 * 200)


def test_the_same_seed_gives_the_same_estimate():
    graph = random_graph(50, 0.3, 4)
    first, again, other = (approximate_von_neumann_entropy(graph, seed=seed).value for seed in (0, 0, 1))
    assert again == pytest.approx(first, rel=1e-12)
    assert other != pytest.approx(first, rel=1e-6)


def test_several_graphs_side_by_side():
    graphs = [random_graph(30, 0.3, seed) for seed in range(5)]
    one_by_one = [von_neumann_entropy(graph) for graph in graphs]
    assert side_by_side(von_neumann_entropy, graphs) == pytest.approx(one_by_one, abs=1e-12)


def test_sparse_and_networkx_graphs_agree():
    graph = random_graph(40, 0.2, 5)
    matrix = sparse.csr_array(nx.to_scipy_sparse_array(graph))
    assert von_neumann_entropy(graph) == pytest.approx(von_neumann_entropy(matrix), abs=1e-12)
    assert approximate_von_neumann_entropy(graph) == pytest.approx(approximate_von_neumann_entropy(matrix), rel=1e-12)
    assert shannon_entropy(graph) == pytest.approx(shannon_entropy(matrix), abs=1e-12)
