"""Exact distances between cells, in tiles: no n x n matrix is ever held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.benchmark.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates

#: Neighbours that are found for every cell, itself included; the metrics use 15, 50 and 90 of them.
N_NEIGHBORS = 91
#: Distances in a tile: 4 million doubles (32 MB) stay near the caches and the memory low.
TILE_SIZE = 1 << 22


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Nearest neighbours of every cell, nearest first.

    Attributes
    ----------
    indices
        (n_obs, k) positions; the first column is the cell itself.
    distances
        (n_obs, k) Euclidean distances, exactly 0 in the first column.
    """

    indices: Ints
    distances: Floats

    def first(self, k: int) -> Neighbors:
        """Return the k nearest ones, the cell itself counted.

        Raises
        ------
        UndefinedError
            If there are fewer: the neighbourhood would be the whole data set.
        """
        n_obs, known = self.indices.shape
        if k > known:
            raise UndefinedError(
                f"needs {k} neighbours per cell, itself included; {known} are known of {n_obs} cells"
            )
        return Neighbors(self.indices[:, :k], self.distances[:, :k])


def tiles(X: Floats) -> Iterator[tuple[slice, Floats]]:
    """Yield rows and their squared Euclidean distances to all cells; 0 between a cell and itself."""
    norms = np.einsum("ij,ij->i", X, X)
    height = max(1, TILE_SIZE // len(X))
    for start in range(0, len(X), height):
        rows = slice(start, min(start + height, len(X)))
        squared = X[rows] @ X.T
        squared *= -2.0
        squared += norms
        squared += norms[rows, None]
        np.maximum(squared, 0.0, out=squared)
        squared[np.arange(rows.stop - start), np.arange(start, rows.stop)] = 0.0
        yield rows, squared


def nearest_neighbors(X_emb: ArrayLike, k: int = N_NEIGHBORS) -> Neighbors:
    """Return the k nearest cells of every cell by exact Euclidean distance, itself first.

    Parameters
    ----------
    X_emb
        (n_obs, n_latent) coordinates.
    k
        Neighbours per cell, itself included; all cells where there are fewer.

    Raises
    ------
    UndefinedError
        If the embedding is not finite, or constant.

    Examples
    --------
    >>> nearest_neighbors([[0.0], [1.0], [3.0]], k=2).indices.tolist()
    [[0, 1], [1, 0], [2, 1]]
    """
    X = coordinates(X_emb)
    k = min(k, len(X))
    indices = np.empty((len(X), k), dtype=np.int64)
    distances = np.empty((len(X), k))
    for rows, squared in tiles(X):
        itself = np.arange(rows.start, rows.stop)
        squared[itself - rows.start, itself] = -1.0  # before duplicates of the cell, which are at 0
        indices[rows] = np.argpartition(squared, k - 1, axis=1)[:, :k]
        distances[rows] = _exact(X, itself, indices[rows])
    order = np.lexsort((indices, distances), axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    distances[:, 0] = 0.0
    return Neighbors(np.take_along_axis(indices, order, axis=1), distances)


def _exact(X: Floats, itself: Ints, indices: Ints) -> Floats:
    """Recompute distances from differences: the tile's come from a product and lose small ones."""
    differences = X[indices]
    differences -= X[itself, None]
    found: Floats = np.sqrt(np.einsum("ijk,ijk->ij", differences, differences))
    found[indices == itself[:, None]] = -1.0  # sorts first
    return found


def group_distances(X: Floats, codes: Ints) -> Floats:
    """Return (n_obs, n_groups): the sum of the Euclidean distances from each cell to each group."""
    members = np.eye(codes.max() + 1)[codes]
    sums = np.empty((len(X), members.shape[1]))
    for rows, squared in tiles(X):
        sums[rows] = np.sqrt(squared, out=squared) @ members
    return sums


def group_sizes(codes: NDArray[np.integer]) -> Ints:
    """Count the cells of each group."""
    return np.bincount(codes)
