"""Approximations for large data: approximate neighbours, and sums of distances of a sample."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from cellular_bench.metrics.inputs import Floats, Ints
from cellular_bench.metrics.numerics.distances import (
    DistanceSums,
    Neighbors,
    distinct_points,
    neighbors_in_groups,
    search,
)

#: Cells whose approximate neighbours are compared with exact ones.
RECALL_CELLS = 500
#: Distances that differ by less than this share are equal.
ROUNDING = 1e-9
#: Number of groups, in square roots of the number of cells, and of groups that each is compared with.
GROUPS, NEAR_GROUPS = 0.5, 32
#: Cells per group that k-means uses, and its iterations.
TRAINING, N_ITERATIONS = 64, 10
#: Rows and columns of a tile of distances, which fits into the cache.
_HEIGHT, _WIDTH = 128, 4096


def approximate_neighbors(
    X: Floats, k: int, ranks: Ints, *, seed: int, n_jobs: int = 1
) -> tuple[Neighbors, float]:
    """Return approximate neighbours of centred coordinates and their recall on a sample of cells.

    K-means assigns distinct points to the lists of an inverted file (faiss); each list is compared with its
    nearest lists, by the same pass that compares all pairs elsewhere. Distances are exact, the cell itself is
    first with distance 0, cells at one distance are drawn by their ranks, and the result does not depend on
    ``n_jobs``, the number of threads. The recall is the share of neighbours that are no farther than the last
    exact one.

    References
    ----------
    doi:10.1109/TPAMI.2010.57
    """
    from cellular_bench.metrics.numerics import kernels

    unit = 2.0 ** np.ceil(np.log2(np.abs(X).max()))
    points, _ = distinct_points(X / unit, ranks)
    rows, k = np.arange(len(points.X)), min(k, len(X))
    found = neighbors_in_groups(points.X, *_inverted_lists(points.X, seed), k, n_jobs=n_jobs)
    indices, distances = np.empty((len(X), k), dtype=np.int64), np.empty((len(X), k))
    starts = np.arange(0, found.indices.size + 1, found.indices.shape[1])
    around = starts, found.indices.ravel(), np.square(found.distances).ravel()
    kernels.draw_neighbors(points, rows, around, np.arange(len(X)), indices, distances)
    cells = np.argsort(ranks)[:RECALL_CELLS]
    farthest = search(X / unit, cells, k, ranks)[1][:, -1:]
    # The cell itself is always a hit.
    hits = int(np.count_nonzero(distances[cells] <= farthest * (1 + ROUNDING))) - len(cells)
    return Neighbors(indices, distances * unit), hits / (len(cells) * (k - 1))


def _inverted_lists(X: Floats, seed: int) -> tuple[Ints, Ints]:
    """Return the list of every cell, (n_obs,), and the nearest lists of every list, (n_lists, n_near)."""
    import faiss

    points = X.astype(np.float32)
    n_lists = max(1, int(GROUPS * np.sqrt(len(X))))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # sums in one order, whatever the number of cores
    try:
        means = faiss.Kmeans(
            X.shape[1], n_lists, niter=N_ITERATIONS, seed=seed,
            max_points_per_centroid=TRAINING, min_points_per_centroid=1,
        )  # fmt: skip
        means.train(points)
        names, groups = np.unique(means.index.search(points, 1)[1].ravel(), return_inverse=True)
        centres = np.asarray(means.centroids)[names]
        near = faiss.knn(centres, centres, min(NEAR_GROUPS, len(names)))[1]
    finally:
        faiss.omp_set_num_threads(threads)
    return groups.astype(np.int64), near.astype(np.int64)


def stratified_sample(label: Ints, batch: Ints, n_cells: int, ranks: Ints) -> Ints:
    """Take cells of all labels and batches in proportion, at least two each; return ascending positions.

    Of each label and batch, those of the lowest random ranks are taken.
    """
    share = n_cells / len(label)
    chosen = []
    for cells in strata(label, batch):
        size = min(len(cells), max(2, int(np.ceil(share * len(cells)))))
        chosen.append(cells[np.argsort(ranks[cells])[:size]])
    return np.sort(np.concatenate(chosen))


def strata(label: Ints, batch: Ints) -> Iterator[Ints]:
    """Yield the positions of the cells of each label and batch."""
    order = np.lexsort((batch, label))
    change = (np.diff(label[order]) != 0) | (np.diff(batch[order]) != 0)
    yield from np.split(order, np.flatnonzero(change) + 1)


def sampled_sums(X: Floats, label: Ints, batch: Ints, rows: Ints, *, n_jobs: int = 1) -> DistanceSums:
    """Return the sums of distances from some cells (``rows``) to all, as :func:`distances.distance_sums`."""
    order = np.lexsort((batch, label))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    all_cells = X[order]
    norms = np.einsum("ij,ij->i", all_cells, all_cells)
    pieces = list(_pieces(label[order], batch[order]))
    labels = np.zeros((len(rows), int(label.max()) + 1))
    batches = np.zeros((len(rows), int(batch.max()) + 1))

    def meet(part: slice) -> None:
        cells = place[rows[part]]
        own = label[rows[part]]
        for piece, of_label, of_batch in pieces:
            squared = norms[piece] - 2 * all_cells[cells] @ all_cells[piece].T
            squared += norms[cells, None]
            np.maximum(squared, 0.0, out=squared)
            here = np.flatnonzero((piece.start <= cells) & (cells < piece.stop))
            squared[here, cells[here] - piece.start] = 0.0
            sums = np.sqrt(squared, out=squared).sum(axis=1)
            labels[part, of_label] += sums
            batches[part, of_batch] += np.where(own == of_label, sums, 0.0)

    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(meet, [slice(at, at + _HEIGHT) for at in range(0, len(rows), _HEIGHT)]))
    return DistanceSums(labels, batches)


def _pieces(label: Ints, batch: Ints) -> Iterator[tuple[slice, int, int]]:
    """Yield runs of cells of one label and batch, no longer than a tile is wide."""
    change = np.flatnonzero((np.diff(label) != 0) | (np.diff(batch) != 0)) + 1
    for begin, end in pairwise([0, *change.tolist(), len(label)]):
        for start in range(begin, end, _WIDTH):
            yield slice(start, min(start + _WIDTH, end)), int(label[begin]), int(batch[begin])
