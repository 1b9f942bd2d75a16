"""Class weights, target distances between types, and one vector per type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import UnknownNameError

Codes = NDArray[np.int64]
RepresentationKind = Literal["centroid", "median", "medoid"]


def inverse_frequency(codes: Codes, *, n_classes: int) -> NDArray[np.float64]:
    """Return 1 / count of each class, normalised to sum 1; 0 for a class without cells.

    Examples
    --------
    >>> inverse_frequency(np.array([0, 0, 0, 1]), n_classes=2).tolist()
    [0.25, 0.75]
    """
    counts = np.bincount(codes, minlength=n_classes)
    weights = np.divide(1.0, counts, out=np.zeros(n_classes), where=counts > 0)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def class_shares(codes: Codes, *, n_classes: int) -> NDArray[np.float64]:
    """Return the share of each class: weights that give all cells equal weight.

    Examples
    --------
    >>> class_shares(np.array([0, 0, 0, 1]), n_classes=2).tolist()
    [0.75, 0.25]
    """
    shares: NDArray[np.float64] = np.bincount(codes, minlength=n_classes) / len(codes)
    return shares


def centroid_distances(
    X: Any,
    label: Codes,
    batches: Sequence[Codes],
    *,
    n_labels: int,
    n_components: int = 100,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the distances between cell types in expression, (n_labels, n_labels); the largest is 1.

    Euclidean distances between type centroids in PCA space are computed within each batch, so that batch
    effects do not change them, and averaged over the batches that hold both types. The distance of a pair
    that never shares a batch is unknown and set to 0. ``batches`` holds one array of codes per batch key;
    ``X`` is never made dense.
    """
    X_pca = principal_components(X, n_components=n_components, seed=seed)
    groups = batches or (np.zeros(len(label), dtype=np.int64),)
    total = np.zeros((n_labels, n_labels))
    n_shared = np.zeros((n_labels, n_labels))
    for key in groups:
        for batch in np.unique(key):
            members = key == batch
            means, present = type_means(X_pca[members], label[members], n_labels=n_labels)
            both = np.outer(present, present)
            total += np.where(both, _pairwise_euclidean(means), 0)
            n_shared += both
    mean = np.divide(total, n_shared, out=np.zeros_like(total), where=n_shared > 0)
    largest = mean.max()
    scaled: NDArray[np.float64] = mean / largest if largest > 0 else mean
    return scaled


def type_means(
    X: NDArray[np.floating[Any]], label: Codes, *, n_labels: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean of each type, (n_labels, n_vars), and a mask of types with cells; other means are 0."""
    counts = np.bincount(label, minlength=n_labels)
    sums = np.zeros((n_labels, X.shape[1]))
    np.add.at(sums, label, X)
    return sums / np.maximum(counts, 1)[:, None], counts > 0


def type_representations(
    X_emb: NDArray[np.floating[Any]], label: Codes, *, n_labels: int, kind: RepresentationKind
) -> NDArray[np.float64]:
    """Return one vector per cell type, (n_labels, n_latent); each type needs at least one cell.

    A ``"median"`` is taken per dimension; a ``"medoid"`` is the cell with the smallest total distance to the
    cells of its type.
    """
    summaries = {
        "centroid": lambda cells: cells.mean(axis=0),
        "median": lambda cells: np.median(cells, axis=0),
        "medoid": _medoid,
    }
    if kind not in summaries:
        raise UnknownNameError("representation", kind, summaries)
    cells = X_emb.astype(np.float64)
    return np.stack([summaries[kind](cells[label == code]) for code in range(n_labels)])


def _medoid(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.metrics import pairwise_distances_chunked

    totals = pairwise_distances_chunked(cells, reduce_func=lambda chunk, _: chunk.sum(axis=1))
    medoid: NDArray[np.float64] = cells[np.argmin(np.concatenate(list(totals)))]
    return medoid


def _pairwise_euclidean(points: NDArray[np.float64]) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.linalg.norm(points[:, None] - points[None, :], axis=-1)
    return distances
