"""Entropies of weighted undirected graphs, in nats.

The von Neumann entropy of a graph is that of the density matrix rho = L / tr L, with L = D - A the Laplacian:
-sum_i lambda_i ln lambda_i over the eigenvalues of rho (Braunstein, Ghosh, Severini, 2006). It is exact, or, for large
graphs, estimated by stochastic Lanczos quadrature (Ubaru, Chen, Saad, SIAM J. Matrix Anal. Appl. 2017). The Shannon
entropy is that of the normalised edge weights. Loops carry no weight in L and are left out of both.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import eigh_tridiagonal
from scipy.special import stdtrit
from threadpoolctl import threadpool_limits

from .checks import check_at_least

Found = TypeVar("Found")
CONFIDENCE = 0.99
"""Probability with which the sampling part of an estimate's error holds."""


class Estimate(NamedTuple):
    """An entropy in nats, and how far it may be from the exact one.

    Attributes:
        value: the estimate.
        error: bound of its distance from the exact value: the quadrature's part always holds, the sampling part with
            probability 0.99.
    """

    value: float
    error: float


def von_neumann_entropy(graph) -> float:
    """Von Neumann entropy of a graph, exact, from all eigenvalues: O(n^3) time, O(n^2) memory.

    Args:
        graph: undirected, weights of at least 0: `networkx.Graph` (attribute `weight`, else 1), or a symmetric matrix
            of weights, sparse or dense, shape (n, n). Nodes without edges add eigenvalues 0, and change nothing.

    Returns:
        Nats, in [0, ln(n - 1)]; 0 for a single node.

    Raises:
        ValueError: for a graph without edges (but the single node), that is directed, or whose weights are negative or
            not finite.
    """
    weights, degrees = _linked(graph)
    if len(degrees) == 1:
        return 0.0
    density = weights.toarray()
    density *= -1 / degrees.sum()
    np.fill_diagonal(density, degrees / degrees.sum())
    with threadpool_limits(torch.get_num_threads()):
        return float(_f(np.linalg.eigvalsh(density)).sum())


def approximate_von_neumann_entropy(graph, probes: int = 16, steps: int = 30, seed: int = 0) -> Estimate:
    """Von Neumann entropy of a large graph by stochastic Lanczos quadrature, with its error.

    O(probes x steps x edges) time, O(probes x n) memory beyond the graph. With rho's largest eigenvalue at most b, the
    quadrature of each probe errs by at most n b / (2 s (2 s - 1)) for s steps: a Gauss rule of s nodes is exact to
    degree 2 s - 1, and x ln x on [0, b] is that close to a polynomial of this degree.

    Args:
        graph: as for `von_neumann_entropy`.
        probes: random vectors, at least 2; the sampling error falls with their square root.
        steps: Lanczos steps, at least 1; the quadrature error falls with their square.
        seed: of the vectors.

    Returns:
        Estimate and error in nats.

    Raises:
        ParameterError: for too few probes or steps.
        ValueError: as for `von_neumann_entropy`.
    """
    check_at_least(2, probes=probes)
    check_at_least(1, steps=steps)
    weights, degrees = _linked(graph)
    if len(degrees) == 1:
        return Estimate(0.0, 0.0)
    n, trace = len(degrees), degrees.sum()
    share, largest = degrees[:, None] / trace, degrees.max() / trace
    signs = np.random.default_rng(seed).integers(0, 2, (n, probes)) * 2.0 - 1
    diagonals, offs = _lanczos(lambda v: share * v - (weights @ v) / trace, signs, steps, largest)
    values = n * np.array([_quadrature(*tridiagonal) for tridiagonal in zip(diagonals.T, offs.T, strict=True)])
    # Gershgorin: a row's absolute sum, the bound b, is twice its diagonal.
    quadrature = n * 2 * largest / (2 * steps * (2 * steps - 1))
    sampling = stdtrit(probes - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(probes)
    return Estimate(float(values.mean()), float(quadrature + sampling))


def side_by_side(measure: Callable[[Any], Found], graphs: Sequence[Any]) -> list[Found]:
    """What a measure gives for each of several graphs, such as `lib.graphs.ActivationGraphs`, in torch's threads.

    For many graphs faster than one after another: the solvers' own threads, one a graph here, wait for memory more than
    they compute.
    """
    threads = torch.get_num_threads()  # asked before the limit, which counts for torch too
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(measure, (graphs[i] for i in range(len(graphs)))))


def shannon_entropy(graph) -> float:
    """Shannon entropy of a graph's edge weights, normalised to sum to 1.

    Args:
        graph: as for `von_neumann_entropy`.

    Returns:
        Nats, in [0, ln edges].

    Raises:
        ValueError: for a graph without edges, that is directed, or whose weights are negative or not finite.
    """
    edges = sparse.triu(_weights(graph), k=1).data
    if not edges.sum() > 0:
        raise ValueError("graph: must have an edge of weight above 0")
    return float(_f(edges / edges.sum()).sum())


def _f(x: np.ndarray) -> np.ndarray:
    """-x ln x, and 0 for what rounding has put below 0."""
    positive = np.maximum(x, 0)
    return -positive * np.log(np.where(positive > 0, positive, 1))


def _weights(graph) -> sparse.csr_array:
    """The symmetric matrix of weights of a checked graph, without loops."""
    if hasattr(graph, "is_directed"):
        if graph.is_directed() or len(graph) == 0:
            raise ValueError("graph: must be undirected, and must have a node")
        from networkx import to_scipy_sparse_array

        graph = to_scipy_sparse_array(graph)
    matrix = sparse.csr_array(graph, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"graph: must be a square matrix of weights with a node at least, not {matrix.shape}")
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        raise ValueError("graph: must have finite weights of at least 0")
    # A random vector tells a matrix from its transpose, at the cost of two products.
    probe = np.random.default_rng(0).standard_normal(matrix.shape[0])
    forth, back = matrix @ probe, matrix.T @ probe
    if not np.allclose(forth, back, rtol=1e-9, atol=1e-9 * (np.abs(forth).max() + np.abs(back).max())):
        raise ValueError("graph: must be undirected, a symmetric matrix of weights")
    loops = matrix.diagonal()
    return sparse.csr_array(matrix - sparse.diags_array(loops)) if loops.any() else matrix


def _linked(graph) -> tuple[sparse.csr_array, np.ndarray]:
    """Weights and degrees of the nodes that have an edge; L is diag(degrees) - weights, its trace their sum.

    Raises ValueError where there is no edge, but for a single node.
    """
    weights = _weights(graph)
    degrees = weights.sum(axis=1)
    if len(degrees) == 1:
        return weights, degrees
    if not degrees.sum() > 0:
        raise ValueError("graph: must have an edge of weight above 0")
    if not degrees.all():
        linked = degrees > 0
        weights, degrees = weights[linked][:, linked], degrees[linked]
    return weights, degrees


def _lanczos(product, start: np.ndarray, steps: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The tridiagonal matrix of each starting vector: diagonals (steps, probes), off-diagonals (steps - 1, probes).

    A vector whose Krylov space is exhausted goes on as 0, which splits its matrix: the block before is exact, and the
    zeros behind it have no part in the quadrature.

    Args:
        product: multiplies a symmetric matrix with vectors, the columns of an array.
        start: starting vectors, shape (n, probes).
        steps: of the iteration.
        scale: of the matrix's entries, which tells what is rounding.
    """
    current, previous = start / np.linalg.norm(start, axis=0), np.zeros_like(start)
    diagonal, off = np.zeros((steps, start.shape[1])), np.zeros((steps, start.shape[1]))
    for step in range(steps):
        following = product(current) - off[step - 1] * previous  # both 0 in the first step
        diagonal[step] = np.einsum("ij,ij->j", following, current)
        following -= diagonal[step] * current
        norm = np.linalg.norm(following, axis=0)
        off[step] = np.where(norm > 1e-12 * scale, norm, 0)
        previous, current = current, following / np.where(off[step], off[step], np.inf)
    return diagonal, off[:-1]


def _quadrature(diagonal: np.ndarray, off: np.ndarray) -> float:
    """Gauss quadrature of -x ln x in the spectral measure of a unit vector."""
    nodes, vectors = eigh_tridiagonal(diagonal, off)
    return float((vectors[0] ** 2) @ _f(nodes))
