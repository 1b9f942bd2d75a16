"""Neighbourhood graphs, and the connectivity of the cells of a label in them.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Ints, encode
from cellular_bench.metrics.numerics.distances import Neighbors
from cellular_bench.metrics.numerics.ranks import graph_content, random_ranks
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Neighbours per cell, itself included, of the graph for clustering and connectivity.
N_NEIGHBORS = 15
SCIB = "10.1038/s41592-021-01336-8"

Singles = NDArray[np.float32]
_TOLERANCE = 1e-5
_MAX_TRIES = 64
_MIN_SCALE = 1e-3


def connectivities(neighbors: Neighbors, k: int = N_NEIGHBORS) -> csr_matrix:
    """Return UMAP's symmetric (n_obs, n_obs) weights in 0...1 of the edges to k neighbours.

    Single precision throughout, as in UMAP: community detection depends on the last digits. Undefined if
    there are fewer than k cells.

    References
    ----------
    doi:10.48550/arXiv.1802.03426
    """
    from scipy.sparse import csr_matrix

    near = neighbors.first(k)
    n_obs = len(near.indices)
    weights = _memberships(near.distances.astype(np.float32))
    weights[near.indices == np.arange(n_obs)[:, None]] = 0.0
    rows = np.repeat(np.arange(n_obs), k)
    directed = csr_matrix((weights.ravel(), (rows, near.indices.ravel())), shape=(n_obs, n_obs))
    directed.eliminate_zeros()
    reverse = directed.T.tocsr()
    graph = (directed + reverse - directed.multiply(reverse)).tocsr()
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph


def nearest_along(lengths: csr_matrix, k: int, ranks: Ints | None = None) -> Neighbors:
    """Return the k nearest cells of every cell by the shortest paths along links, itself first.

    For methods that return links instead of coordinates. A link counts in both directions; if their lengths
    differ, the longer one is used. Cells at the same distance are in random order. In a part of the graph
    with fewer cells than k, cells have fewer neighbours.

    Parameters
    ----------
    lengths
        (n_obs, n_obs) lengths of the links, none negative. An absent entry or a zero is no link.
    k
        Number of neighbours, the cell itself included; all cells if there are fewer.
    ranks
        (n_obs,) random ranks that draw the neighbours among cells at the same distance; None: from the graph.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> chain = csr_matrix(([1.0, 2.0, 4.0], ([0, 1, 2], [1, 2, 3])), shape=(4, 4))
    >>> near = nearest_along(chain, 3)
    >>> near.indices[0].tolist(), near.distances[0].tolist()
    ([0, 1, 2], [0.0, 1.0, 3.0])
    """
    from scipy.sparse import csr_matrix

    from cellular_bench.metrics.numerics import kernels

    both = csr_matrix(lengths.maximum(lengths.T), dtype=np.float64)
    both.eliminate_zeros()
    known = random_ranks(graph_content(both)) if ranks is None else ranks
    starts, targets = both.indptr.astype(np.int64), both.indices.astype(np.int64)
    wanted = min(k, both.shape[0])
    return Neighbors(*kernels.shortest_paths(starts, targets, both.data, known, wanted))


def checked_graph(graph: object) -> csr_matrix:
    """Return the graph of a method as symmetric (n_obs, n_obs) weights without loops.

    Undefined if it is not square, a weight is negative or not finite, or there is no edge.
    """
    from scipy.sparse import csr_matrix

    weights = csr_matrix(graph)
    if weights.shape[0] != weights.shape[1]:
        raise UndefinedError(f"graph has shape {weights.shape}; expected (n_obs, n_obs)", by_output=True)
    if not np.isfinite(weights.data).all() or (weights.data < 0).any():
        raise UndefinedError("graph has negative, NaN or infinite weights", by_output=True)
    # If only one direction of an edge is given, or they differ, the stronger one counts for both.
    weights = weights.maximum(weights.T).tocsr()
    weights.setdiag(0)
    weights.eliminate_zeros()
    if not weights.nnz:
        raise UndefinedError("graph has no edge", by_output=True)
    weights.sort_indices()
    return weights


def _memberships(distances: Singles) -> Singles:
    """Return UMAP's weights: 1 for the nearest cell at a distance, decreasing so that all sum to log2(k)."""
    k = distances.shape[1]
    positive = np.where(distances > 0, distances, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(positive), positive, 0).astype(np.float32)
    beyond = np.maximum(distances - nearest[:, None], np.float32(0))
    scale = _scales(beyond[:, 1:], np.log2(k))
    floor = np.where(nearest > 0, distances.mean(axis=1), distances.mean()) * np.float32(_MIN_SCALE)
    scale = np.maximum(scale, floor)[:, None]
    ratio = np.divide(beyond, scale, out=np.zeros_like(beyond), where=scale > 0)
    weights: Singles = np.exp(-ratio)
    return weights


def _scales(beyond: Singles, target: float) -> Singles:
    """Return the scale at which the weights of each cell sum to the target, by bisection."""
    scale = np.ones(len(beyond), dtype=np.float32)
    low, high = np.zeros_like(scale), np.full_like(scale, np.inf)
    active = np.arange(len(beyond))
    for _ in range(_MAX_TRIES):
        total = np.exp(-beyond[active] / scale[active, None]).sum(axis=1)
        searching = np.abs(total - target) >= _TOLERANCE
        active, total = active[searching], total[searching]
        if not len(active):
            break
        above, below = active[total > target], active[total <= target]
        high[above], low[below] = scale[above], scale[below]
        middle = (low[active] + high[active]) / 2
        scale[active] = np.where(np.isinf(high[active]), scale[active] * 2, middle)
    return scale


def _largest_component_share(graph: csr_matrix, label: ArrayLike) -> float:
    """Return the share of cells in the largest strong component of their label, averaged over labels."""
    from scipy.sparse.csgraph import connected_components

    names, codes = encode(label, "label", n_obs=graph.shape[0])
    shares = []
    for code in range(len(names)):
        cells = np.flatnonzero(codes == code)
        _, component = connected_components(graph[cells][:, cells], connection="strong")
        shares.append(np.bincount(component).max() / len(cells))
    return float(np.mean(shares))


@metric(
    metric_id="graph_connectivity",
    name="Graph connectivity",
    aspect="batch_correction",
    definition=(
        "Share of a label's cells in its largest strongly connected component of the directed "
        "15-neighbour graph, averaged over labels (as scib-metrics)."
    ),
    doi=SCIB,
    version=2,
)
def graph_connectivity(
    neighbors: Neighbors | None, label: ArrayLike, *, links: csr_matrix | None = None
) -> float:
    """Share of each label's cells that reach each other along nearest neighbours, above 0 to 1.

    ``links`` are those of a method that returned a graph; they count instead of ``neighbors``, which may then
    be None. Undefined if there are fewer than 15 cells.

    Notes
    -----
    Formula: mean over labels of (cells in the largest strongly connected component of the label's part of the
    directed 15-neighbour graph / cells of the label).

    Fooled by: one heap of all cells: shuffled cells are well connected. Small labels lose by their size,
    because most of their 15 neighbours are other cells.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(40.0)[:, None] + 1000.0 * (np.arange(40) >= 20)[:, None]
    >>> neighbors = nearest_neighbors(X, 15)
    >>> graph_connectivity(neighbors, ["a"] * 20 + ["b"] * 20), graph_connectivity(neighbors, ["a"] * 40)
    (1.0, 0.5)
    """
    from scipy.sparse import csr_matrix

    if links is not None:
        return _largest_component_share(links, label)
    if neighbors is None:
        raise ValueError("neither neighbors nor links are given; expected one of them")
    near = neighbors.first(N_NEIGHBORS).indices
    n_obs = len(near)
    starts = np.arange(0, near.size + 1, N_NEIGHBORS)
    graph = csr_matrix((np.ones(near.size, dtype=np.int8), near.ravel(), starts), shape=(n_obs, n_obs))
    return _largest_component_share(graph, label)


@metric(
    metric_id="graph_connectivity_scib",
    name="Graph connectivity (scib)",
    aspect="batch_correction",
    definition=(
        "As graph_connectivity, in the undirected 15-neighbour graph: one direction suffices (as scib)."
    ),
    in_overall=False,
    doi=SCIB,
    version=2,
)
def graph_connectivity_scib(
    neighbors: Neighbors | None, label: ArrayLike, *, graph: csr_matrix | None = None
) -> float:
    """Share of each label's cells that reach each other in the undirected graph, above 0 to 1.

    Undefined as :func:`graph_connectivity`. ``graph`` is the result of :func:`connectivities`, if known;
    ``neighbors`` may then be None.

    Notes
    -----
    Formula: mean over labels of (cells in the largest component of the label's part of the undirected
    15-neighbour graph / cells of the label).

    Fooled by: one stray edge: two halves of a type joined by a single cell count as whole. Otherwise as
    graph_connectivity.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(40.0)[:, None] + 1000.0 * (np.arange(40) >= 20)[:, None]
    >>> graph_connectivity_scib(nearest_neighbors(X, 15), ["a"] * 40)
    0.5
    """
    if graph is None:
        if neighbors is None:
            raise ValueError("neither neighbors nor a graph are given; expected one of them")
        graph = connectivities(neighbors)
    return _largest_component_share(graph, label)
