"""Labels that are made of expression alone: clusters within each batch, matched between batches.

A ranking of integrations should not depend on one annotation. These labels come from no annotator and no
integration: each batch is clustered by itself, and clusters of two batches have one name if their mean
expression, relative to that of their batch, is alike.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import GeneSelection

#: Name of this labelling in tables.
CLUSTERS: Final = "clusters of each batch"
N_COMPONENTS: Final = 30
#: One cluster per so many cells of a batch, within limits.
CELLS_PER_CLUSTER, FEWEST, MOST = 100, 2, 20
N_STARTS: Final = 3

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def cluster_labels(
    X: Any,
    batch: NDArray[np.str_],
    names: NDArray[np.str_],
    *,
    genes: GeneSelection | None = None,
    seed: int = 0,
) -> NDArray[np.str_]:
    """Return the name of the cluster of each cell.

    k-means (3 starts) on 30 principal components of the variable genes, within each batch: one cluster per
    100 cells, from 2 to 20. A cluster has the name of the cluster of the largest batch with which its mean
    expression correlates most, both relative to the mean over the clusters of their batch, so that a shift of
    a whole batch does not count. Where no correlation is positive, it has a name that no other batch has.

    Parameters
    ----------
    X
        (n_obs, n_vars) log-normalised expression, sparse or dense. Not modified.
    batch, names
        (n_obs,) batches and unique names of the cells. The order of the cells makes no difference.
    genes
        How variable genes are selected, among all cells.
    seed
        Seed of k-means.

    Returns
    -------
    (n_obs,) names such as ``"cluster 1"``, which is the largest one of the largest batch.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kind, batch = np.repeat([0, 1], 60), np.tile(["x", "y"], 60)
    >>> X = rng.normal(size=(120, 20)) + 3.0 * (batch == "y")[:, None]
    >>> X[:, :10] += 20 * kind[:, None]
    >>> made = cluster_labels(X, batch, np.arange(120).astype(str))
    >>> len(set(made[kind == 0])), len(set(made[kind == 1])), len(set(made))
    (1, 1, 2)
    """
    order = np.argsort(names, kind="stable")
    X, batch = X[order], batch[order]
    chosen = X[:, variable_genes(X, genes)]
    present, sizes = np.unique(batch, return_counts=True)
    largest, *others = (str(present[i]) for i in np.lexsort((present, -sizes)))
    cells = {name: np.flatnonzero(batch == name) for name in (largest, *others)}
    codes = {name: _clusters(chosen[rows], seed) for name, rows in cells.items()}
    profiles = {name: _profiles(chosen[rows], codes[name]) for name, rows in cells.items()}
    n_known = len(profiles[largest])
    found = np.empty(len(batch), dtype=np.int64)
    found[cells[largest]] = codes[largest]
    for name in others:
        match = _matches(profiles[name], profiles[largest])
        is_own = match < 0
        match[is_own] = n_known + np.arange(is_own.sum())
        n_known += int(is_own.sum())
        found[cells[name]] = match[codes[name]]
    width = len(str(n_known))
    labels = np.empty(len(batch), dtype=f"<U{len('cluster ') + width}")
    labels[order] = [f"cluster {code + 1:0{width}d}" for code in found]
    return labels


def _clusters(X: Any, seed: int) -> Ints:
    """Return the cluster of each cell of a batch; cluster 0 has most cells."""
    from sklearn.cluster import KMeans

    k = min(max(FEWEST, min(MOST, X.shape[0] // CELLS_PER_CLUSTER)), X.shape[0] // 2)
    if k < FEWEST:
        return np.zeros(X.shape[0], dtype=np.int64)
    components = principal_components(X, n_components=N_COMPONENTS)
    k = min(k, len(np.unique(components, axis=0)))
    given = KMeans(k, n_init=N_STARTS, random_state=seed).fit_predict(components.astype(np.float64))
    place = np.argsort(np.argsort(-np.bincount(given, minlength=k), kind="stable"))
    return np.asarray(place[given], dtype=np.int64)


def _profiles(X: Any, codes: Ints) -> Floats:
    """Return mean expression of each cluster less the mean of these, (n_clusters, n_genes)."""
    means = np.stack([np.asarray(X[codes == code].mean(axis=0)).ravel() for code in range(codes.max() + 1)])
    return np.asarray(means - means.mean(axis=0), dtype=np.float64)


def _matches(profiles: Floats, known: Floats) -> Ints:
    """Return the known profile that each profile correlates most with; -1 if with none positively."""
    one, other = (_standardised(rows) for rows in (profiles, known))
    correlation = one @ other.T
    best = correlation.argmax(axis=1)
    is_alike = correlation[np.arange(len(best)), best] > 0
    return np.where(is_alike, best, -1)


def _standardised(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0))
