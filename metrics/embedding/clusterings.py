"""Clusterings of an embedding, and their agreement with the labels.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.embedding.silhouettes import isolated
from cellular_bench.metrics.inputs import Floats, Ints, encode, raw_coordinates, several
from cellular_bench.metrics.numerics.distances import Neighbors
from cellular_bench.metrics.numerics.parallel import parallel_map
from cellular_bench.metrics.numerics.ranks import graph_content, random_ranks, refined, row_content
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Resolutions of Leiden; the one with the highest NMI with the labels is used.
RESOLUTIONS = tuple(step / 5 for step in range(1, 11))
LEIDEN = "10.1038/s41598-019-41695-z"
SCIB = "10.1038/s41592-021-01336-8"
LEIDEN_SEED = 42
LEIDEN_BETA = 0.01
KMEANS_SEED = 0
KMEANS_STARTS = 10


def communities(
    graph: csr_matrix,
    *,
    cell_ranks: Ints | None = None,
    resolutions: Sequence[float] = RESOLUTIONS,
    n_iterations: int = 2,
    n_jobs: int = 1,
) -> tuple[Ints, ...]:
    """Return the communities of a symmetric weighted graph at each resolution, (n_obs,) each.

    Leiden with modularity, the same seed for every resolution. The result depends on the order in which cells
    are visited, which is drawn from their links, and where these are equal from ``cell_ranks``, random ranks
    of the cells; not from the order of the rows. igraph takes its random numbers from a separate generator
    during the call. The result does not depend on ``n_jobs``, the number of processes.

    References
    ----------
    doi:10.1038/s41598-019-41695-z
    """
    from scipy.sparse import csr_matrix

    graph = csr_matrix(graph)
    content = graph_content(graph)
    ranks = random_ranks(content if cell_ranks is None else refined(content, cell_ranks))
    order = np.argsort(ranks)
    find = partial(resolved, network(graph[order][:, order]), n_iterations=n_iterations)
    return tuple(found[ranks] for found in parallel_map(find, resolutions, n_jobs=n_jobs))


def network(graph: csr_matrix) -> tuple[Any, list[float]]:
    """Return igraph's graph and its weights, each edge once.

    scib-metrics keeps both directions as two edges. One edge of twice the weight gives the same
    communities in two thirds of the time, because sums of two equal halves are exact.
    """
    from scipy.sparse import csr_matrix, triu

    rows = csr_matrix(graph)  # without copying the values
    rows = rows if rows.has_sorted_indices else rows.sorted_indices()
    edges = triu(rows, k=1, format="coo")
    ends = np.column_stack([edges.row, edges.col]).astype(np.int64)
    weights = 2 * edges.data.astype(np.float64)
    return igraph_core().GraphBase(n=graph.shape[0], edges=ends, directed=False), weights.tolist()


def resolved(network: tuple[Any, list[float]], resolution: float, *, n_iterations: int = 2) -> Ints:
    """Return the communities of a graph at one resolution, (n_obs,); the seed is always the same."""
    core = igraph_core()
    core.set_random_number_generator(random.Random(LEIDEN_SEED))  # noqa: S311 - not for secrets
    try:
        membership, _ = core.GraphBase.community_leiden(
            network[0], edge_weights=network[1], resolution=resolution, normalize_resolution=True,
            beta=LEIDEN_BETA, n_iterations=n_iterations,
        )  # fmt: skip
    finally:
        core.set_random_number_generator(random)
    return np.asarray(membership, dtype=np.int64)


@cache
def igraph_core() -> Any:
    """Return igraph's compiled module; importing the whole package loads matplotlib, which takes a second."""
    package = find_spec("igraph")
    assert package is not None  # a dependency of this package
    spec = PathFinder.find_spec("igraph._igraph", package.submodule_search_locations)
    if "igraph" in sys.modules or spec is None or spec.loader is None:
        return import_module("igraph._igraph")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kmeans(X_emb: ArrayLike, label: ArrayLike) -> Ints:
    """Return k-means clusters, (n_obs,), as many as there are labels.

    The least inertia of ten starts by greedy k-means++, until no cell changes its cluster. Cells at one place
    are one point with their number as its weight, and points are sorted before draws: the clusters depend on
    neither the order of the cells nor the threads. There are fewer clusters than labels if there are fewer
    places. Undefined if there is only one label, or the embedding is not usable.

    References
    ----------
    doi:10.1109/TIT.1982.1056489
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    X = raw_coordinates(X_emb)
    names, _ = several(label, "label", n_obs=len(X))
    _, first, place, weights = np.unique(
        row_content(X), return_index=True, return_inverse=True, return_counts=True
    )
    k = min(len(names), len(first))
    search = KMeans(k, n_init=KMEANS_STARTS, tol=0, random_state=KMEANS_SEED)
    with threadpool_limits(1), warnings.catch_warnings():
        # Places may differ by less than the rounding errors of distances.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: Ints = search.fit(X[first], sample_weight=weights).labels_.astype(np.int64)
    return found[place]


def _contingency(first: Ints, second: Ints) -> Floats:
    shape = int(first.max()) + 1, int(second.max()) + 1
    return np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def _entropy(shares: Floats) -> float:
    positive = np.sort(shares[shares > 0])  # equal shares in any order give equal sums, to the last digit
    return float(-np.sum(positive * np.log(positive)))


def normalized_mutual_information(first: Ints, second: Ints) -> float:
    """Return the mutual information of two clusterings divided by the mean of their entropies, 0 to 1.

    Two clusterings of one cluster each agree perfectly: 1.

    Examples
    --------
    >>> normalized_mutual_information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    1.0
    """
    table = _contingency(first, second)
    rows, columns, both = (
        _entropy(counts / len(first)) for counts in (table.sum(axis=1), table.sum(axis=0), table)
    )
    entropies = rows + columns
    return 1.0 if entropies == 0 else min(1.0, max(0.0, 2 * (1 - both / entropies)))


def adjusted_rand_index(first: Ints, second: Ints) -> float:
    """Return the agreement of two clusterings on pairs of cells; 0 is chance level, 1 if equal.

    References
    ----------
    doi:10.1007/BF01908075

    Examples
    --------
    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    1.0
    """
    table = _contingency(first, second)
    both, rows, columns = (
        float(np.sum(counts * (counts - 1)) / 2) for counts in (table, table.sum(axis=1), table.sum(axis=0))
    )
    expected = rows * columns / (len(first) * (len(first) - 1) / 2)
    spread = (rows + columns) / 2 - expected
    return 1.0 if spread == 0 else (both - expected) / spread


def closest(clusters: tuple[Ints, ...], codes: Ints) -> Ints:
    """Return the clustering with the highest NMI; of ties, the first."""
    scores = [normalized_mutual_information(codes, cluster) for cluster in clusters]
    return clusters[int(np.argmax(scores))]


def _leiden(
    neighbors: Neighbors | None, label: ArrayLike, clusters: tuple[Ints, ...] | None
) -> tuple[Ints, Ints]:
    known = _known_or_found(neighbors, clusters)
    _, codes = several(label, "label", n_obs=len(known[0]))
    return codes, closest(known, codes)


def _known_or_found(neighbors: Neighbors | None, clusters: tuple[Ints, ...] | None) -> tuple[Ints, ...]:
    if clusters is not None:
        return clusters
    if neighbors is None:
        raise ValueError("neither neighbors nor leiden_clusters are given; expected one of them")
    return communities(connectivities(neighbors))


@metric(
    metric_id="leiden_nmi",
    name="Leiden NMI",
    aspect="bio_conservation",
    definition="NMI of labels and Leiden communities, at the best of ten resolutions from 0.2 to 2.",
    doi=LEIDEN,
    on_sample=True,
    version=2,
)
def leiden_nmi(
    neighbors: Neighbors | None, label: ArrayLike, *, leiden_clusters: tuple[Ints, ...] | None = None
) -> float:
    """Mutual information of labels and communities of the 15-neighbour graph, 0 to 1.

    ``neighbors`` may be None if ``leiden_clusters`` are given. Undefined if there is only one label, or there
    are fewer than 15 cells.

    Notes
    -----
    Formula: max over resolutions 0.2, 0.4 ... 2 of I(label; community) / mean(H(label), H(community)),
    communities by Leiden on the 15-neighbour graph; of ties, the first resolution.

    Fooled by: many small communities, which increase mutual information by chance; it is not corrected for
    chance, ARI is. Choosing the best resolution uses the labels.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(40.0)[:, None] + 1000.0 * (np.arange(40) >= 20)[:, None]
    >>> round(leiden_nmi(nearest_neighbors(X, 15), ["a"] * 20 + ["b"] * 20), 6)
    1.0
    """
    return normalized_mutual_information(*_leiden(neighbors, label, leiden_clusters))


@metric(
    metric_id="leiden_ari",
    name="Leiden ARI",
    aspect="bio_conservation",
    definition="ARI of labels and Leiden communities at the resolution of the best NMI; below chance is 0.",
    doi=LEIDEN,
    on_sample=True,
    version=2,
)
def leiden_ari(
    neighbors: Neighbors | None, label: ArrayLike, *, leiden_clusters: tuple[Ints, ...] | None = None
) -> float:
    """Agreement of communities and labels on pairs of cells, 0 (chance or worse) to 1.

    Undefined as :func:`leiden_nmi`.

    Notes
    -----
    Formula: max(0, (agreeing pairs - expected) / (largest possible - expected)), for the communities of
    leiden_nmi.

    Fooled by: large labels: pairs grow with the square of the cells, so that splitting one large type costs
    more than losing all small ones.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(40.0)[:, None] + 1000.0 * (np.arange(40) >= 20)[:, None]
    >>> round(leiden_ari(nearest_neighbors(X, 15), ["a"] * 20 + ["b"] * 20), 6)
    1.0
    """
    return max(0.0, adjusted_rand_index(*_leiden(neighbors, label, leiden_clusters)))


@metric(
    metric_id="kmeans_nmi",
    name="k-means NMI",
    aspect="bio_conservation",
    definition="NMI of labels and k-means clusters, as many as labels; the best of ten starts.",
    version=2,
)
def kmeans_nmi(X_emb: ArrayLike, label: ArrayLike, *, kmeans_clusters: Ints | None = None) -> float:
    """Mutual information of labels and k-means clusters of the embedding, 0 to 1.

    Undefined if there is only one label, or the embedding is not usable.

    Notes
    -----
    Formula: I(label; cluster) / mean(H(label), H(cluster)), clusters by k-means, as many as labels,
    the least inertia of ten starts.

    Fooled by: labels of unequal size or shape: k-means splits large types and joins small ones, however good
    the embedding is.

    Examples
    --------
    >>> round(kmeans_nmi([[0.0], [1.0], [9.0], [10.0]], ["a", "a", "b", "b"]), 6)
    1.0
    """
    return normalized_mutual_information(*_kmeans(X_emb, label, kmeans_clusters))


def _kmeans(X_emb: ArrayLike, label: ArrayLike, clusters: Ints | None) -> tuple[Ints, Ints]:
    cluster = kmeans(X_emb, label) if clusters is None else clusters
    return encode(label, "label", n_obs=len(cluster))[1], cluster


@metric(
    metric_id="kmeans_ari",
    name="k-means ARI",
    aspect="bio_conservation",
    definition=(
        "ARI of labels and k-means clusters, as many as labels; the best of ten starts; below chance is 0."
    ),
    version=2,
)
def kmeans_ari(X_emb: ArrayLike, label: ArrayLike, *, kmeans_clusters: Ints | None = None) -> float:
    """Agreement of k-means clusters and labels on pairs of cells, 0 (chance or worse) to 1.

    Undefined as :func:`kmeans_nmi`.

    Notes
    -----
    Formula: max(0, (agreeing pairs - expected) / (largest possible - expected)), for the clusters of
    kmeans_nmi.

    Fooled by: the same as k-means NMI, and large labels, which hold most pairs.

    Examples
    --------
    >>> kmeans_ari([[0.0], [1.0], [9.0], [10.0]], ["a", "a", "b", "b"])
    1.0
    """
    return max(0.0, adjusted_rand_index(*_kmeans(X_emb, label, kmeans_clusters)))


@metric(
    metric_id="isolated_label_f1",
    name="Isolated labels (F1)",
    aspect="bio_conservation",
    definition=(
        "F1 of the best single Leiden community, over ten resolutions, for each label in the "
        "fewest batches, averaged over these labels (as scib)."
    ),
    doi=SCIB,
    on_sample=True,
    version=2,
)
def isolated_label_f1(
    neighbors: Neighbors | None,
    label: ArrayLike,
    batch: ArrayLike,
    *,
    leiden_clusters: tuple[Ints, ...] | None = None,
) -> float:
    """F1 of the best community for each label that occurs in the fewest batches, 0 to 1.

    Undefined if every label occurs in every batch, there is only one label, or there are fewer than 15 cells.

    Notes
    -----
    Formula: mean over the labels that occur in the fewest batches of the highest F1 of (cell has the label,
    cell is in the community), over all communities of all resolutions.

    Fooled by: one small label that decides the value; and choosing the best of many communities, which
    flatters noise.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(40.0)[:, None] + 1000.0 * (np.arange(40) >= 20)[:, None]
    >>> label, batch = ["a"] * 20 + ["b"] * 20, ["x", "y"] * 10 + ["x"] * 20
    >>> round(isolated_label_f1(nearest_neighbors(X, 15), label, batch), 6)
    1.0
    """
    codes, rare = isolated(label, batch)
    known = _known_or_found(neighbors, leiden_clusters)
    best = np.zeros(int(codes.max()) + 1)
    for clusters in known:
        table = _contingency(codes, clusters)
        f1 = 2 * table / (table.sum(axis=1, keepdims=True) + table.sum(axis=0))
        best = np.maximum(best, f1.max(axis=1))
    return float(best[rare].mean())
