"""What large data get instead of exact values: approximate neighbours, and silhouettes of a sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cellular_bench.metrics.distances import DistanceSums, Neighbors, search
from cellular_bench.metrics.inputs import Floats, Ints
from cellular_bench.metrics.profiles import Profile

#: Cells whose exact neighbours the approximate ones are compared with.
RECALL_CELLS = 500
#: Distances in a tile.
_TILE = 1 << 20


def approximate_neighbors(X: Floats, k: int, *, seed: int) -> tuple[Neighbors, float]:
    """Return approximate neighbours of centred coordinates and their recall on a sample of cells.

    Nearest-neighbour descent, on one thread: with several its result depends on which comes first. The
    distances are exact, and the cell itself comes first at distance 0.

    References
    ----------
    doi:10.1145/1963405.1963487
    """
    from pynndescent import NNDescent

    index = NNDescent(X.astype(np.float32), n_neighbors=k, random_state=seed, n_jobs=1, low_memory=True)
    found = np.asarray(index.neighbor_graph[0], dtype=np.int64)
    neighbors = _with_exact_distances(X, found)
    cells = np.sort(np.random.default_rng(seed).choice(len(X), min(RECALL_CELLS, len(X)), replace=False))
    exact, _ = search(X, cells, k)
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(exact, neighbors.indices[cells], strict=True))
    # The cell itself is always found.
    return neighbors, (hits - len(cells)) / (len(cells) * (k - 1))


def _with_exact_distances(X: Floats, indices: Ints) -> Neighbors:
    """Put the cell first, the others in order of their exact distances."""
    cells = np.arange(len(X))[:, None]
    # Where the descent missed the cell itself, it takes the place of the farthest.
    missing = ~(indices == cells).any(axis=1)
    indices[missing, -1] = cells[missing, 0]
    distances = np.empty(indices.shape)
    height = max(1, _TILE // indices.shape[1])
    for start in range(0, len(X), height):
        rows = slice(start, start + height)
        differences = X[indices[rows]] - X[rows, None]
        distances[rows] = np.sqrt(np.einsum("ijk,ijk->ij", differences, differences))
    distances[indices == cells] = -1.0
    order = np.lexsort((indices, distances), axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    distances[:, 0] = 0.0
    return Neighbors(np.take_along_axis(indices, order, axis=1), distances)


def stratified_sample(label: Ints, batch: Ints, profile: Profile) -> Ints:
    """Draw cells from every label and batch in proportion, at least two from each, in ascending order."""
    rng = np.random.default_rng(profile.seed)
    share = profile.sample_cells / len(label)
    chosen = []
    for cells in strata(label, batch):
        size = min(len(cells), max(2, int(np.ceil(share * len(cells)))))
        chosen.append(rng.choice(cells, size, replace=False))
    return np.sort(np.concatenate(chosen))


def strata(label: Ints, batch: Ints) -> Iterator[Ints]:
    """Yield the cells of each label and batch."""
    order = np.lexsort((batch, label))
    change = (np.diff(label[order]) != 0) | (np.diff(batch[order]) != 0)
    yield from np.split(order, np.flatnonzero(change) + 1)


def sampled_sums(X: Floats, label: Ints, batch: Ints, rows: Ints) -> DistanceSums:
    """Return the sums of distances from some cells to all, as :func:`distances.distance_sums`."""
    order = np.lexsort((batch, label))
    starts, to = _segments(label[order], batch[order])
    all_cells = X[order]
    norms = np.einsum("ij,ij->i", all_cells, all_cells)
    labels = np.zeros((len(rows), int(label.max()) + 1))
    batches = np.zeros((len(rows), int(batch.max()) + 1))
    height = max(1, _TILE // len(X))
    for start in range(0, len(rows), height):
        part = slice(start, min(start + height, len(rows)))
        sums = _segment_sums(X[rows[part]], all_cells, norms, starts, position=rows[part], order=order)
        for s, (own, group) in enumerate(to):
            labels[part, own] += sums[:, s]
            batches[part, group] += np.where(label[rows[part]] == own, sums[:, s], 0.0)
    return DistanceSums(labels, batches)


def _segments(label: Ints, batch: Ints) -> tuple[Ints, list[tuple[int, int]]]:
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(label) != 0) | (np.diff(batch) != 0)]))
    return starts, list(zip(label[starts].tolist(), batch[starts].tolist(), strict=True))


def _segment_sums(
    X: Floats, all_cells: Floats, norms: Floats, starts: Ints, *, position: Ints, order: Ints
) -> Floats:
    squared = norms - 2 * X @ all_cells.T
    squared += np.einsum("ij,ij->i", X, X)[:, None]
    np.maximum(squared, 0.0, out=squared)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    squared[np.arange(len(X)), place[position]] = 0.0
    sums: NDArray[np.float64] = np.add.reduceat(np.sqrt(squared, out=squared), starts, axis=1)
    return sums
