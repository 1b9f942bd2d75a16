"""Exact distances between cells, from one pass over all pairs, without an n x n matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates

#: Neighbours of every cell, itself included; metrics use 15, 50 and 90 of them.
N_NEIGHBORS = 91
#: Additional candidates, so that rounding in a tile rarely leaves a doubt about the last neighbour.
SPARE = 5
#: Cells in a panel, and rows of a panel in a tile. Pairs of panels are independent tasks; a tile of doubles
#: has 1 MB and fits into the caches.
PANEL, TILE_HEIGHT = 1024, 128
#: Up to this number of cells, tiles are in double precision: single precision would save a fraction of a
#: second.
DOUBLE_CELLS = 8192
#: Largest accepted error of a cell's mean distance to its own group by single precision.
SINGLE_ERROR = 1e-5


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
        """Return the k nearest cells, the cell itself included.

        Raises
        ------
        UndefinedError
            If fewer are known: the neighbourhood would be the whole data set.
        """
        n_obs, known = self.indices.shape
        if k > known:
            raise UndefinedError(
                f"needs {k} neighbours per cell, itself included; {known} are known of {n_obs} cells"
            )
        return Neighbors(self.indices[:, :k], self.distances[:, :k])


@dataclass(frozen=True, slots=True)
class DistanceSums:
    """Sums of Euclidean distances from every cell to groups of cells.

    Attributes
    ----------
    to_labels
        (n_obs, n_labels) sums over all cells of a label.
    to_batches
        (n_obs, n_batches) sums over the cells of a batch that have the cell's own label.
    """

    to_labels: Floats
    to_batches: Floats


def nearest_neighbors(X_emb: ArrayLike, k: int = N_NEIGHBORS, *, n_jobs: int = 1) -> Neighbors:
    """Return the k nearest cells of every cell by exact Euclidean distance, itself first.

    Undefined if the embedding is not finite, or constant.

    Parameters
    ----------
    X_emb
        (n_obs, n_latent) coordinates.
    k
        Neighbours per cell, itself included; all cells if there are fewer.
    n_jobs
        Number of threads; the result does not depend on it.

    Examples
    --------
    >>> nearest_neighbors([[0.0], [1.0], [3.0]], k=2).indices.tolist()
    [[0, 1], [1, 0], [2, 1]]
    """
    X = coordinates(X_emb)
    nothing = np.zeros(len(X), dtype=np.int64)
    return _Pass(X, nothing, nothing, k=k, sums=False).run(n_jobs).neighbors()


def distance_sums(X: Floats, label: Ints, batch: Ints, *, n_jobs: int = 1) -> DistanceSums:
    """Return the sums of distances of centred coordinates to labels, and to batches within the own label."""
    return _Pass(X, label, batch, k=0, sums=True).run(n_jobs).sums()


def neighbors_and_sums(
    X: Floats, label: Ints, batch: Ints, *, n_jobs: int = 1
) -> tuple[Neighbors, DistanceSums]:
    """Return the results of :func:`nearest_neighbors` and :func:`distance_sums`, from one pass."""
    walk = _Pass(X, label, batch, k=N_NEIGHBORS, sums=True).run(n_jobs)
    return walk.neighbors(), walk.sums()


def neighbors_in_groups(X: Floats, groups: Ints, near: Ints, k: int, *, n_jobs: int = 1) -> Neighbors:
    """Return the k nearest cells among those of the cell's own group and of the groups near it.

    Parameters
    ----------
    X
        (n_obs, n_dims) centred coordinates.
    groups
        (n_obs,) codes of groups, none of them empty.
    near
        (n_groups, n_near) the nearest groups of each group. If one group lists another, both are compared.
    k
        Neighbours per cell, itself included.
    n_jobs
        Number of threads; the result does not depend on it.
    """
    walk = _Pass(X, groups, np.zeros_like(groups), k=k, sums=False)
    walk.run_beside(near, n_jobs)
    return walk.neighbors(complete=False)


class _Pass:
    """One pass over all pairs of cells, sorted by label and batch, in panels.

    Every pair of panels is a task. Tasks of a round have no cell in common, so that they may run in parallel,
    and each cell is compared with the others in the same order for any number of threads: results are equal
    to the last bit.
    """

    def __init__(self, X: Floats, label: Ints, batch: Ints, *, k: int, sums: bool) -> None:
        # Along the widest axis, so that most cells are compared with near ones first and skip most others.
        widest = X[:, X.var(axis=0).argmax()]
        self._order = np.lexsort((widest, batch, label))
        self._X = X[self._order]
        self._k, self._with_sums = min(k, len(X)), sums
        self._segments(label[self._order], batch[self._order])
        # Scaling by a power of two is exact, and squares neither overflow nor underflow.
        self._unit = 2.0 ** np.ceil(np.log2(np.abs(X).max()))
        self._scaled = self._X / self._unit
        self._dtype = _precision(self._scaled, self._starts)
        self._factors()
        self._candidates()

    def _segments(self, label: Ints, batch: Ints) -> None:
        change = np.flatnonzero((np.diff(label) != 0) | (np.diff(batch) != 0)) + 1
        self._starts = np.concatenate([[0], change, [len(label)]])
        self._codes = label[self._starts[:-1]], batch[self._starts[:-1]]
        if self._with_sums:
            self._to_labels = np.zeros((len(label), int(label.max()) + 1))
            self._to_batches = np.zeros((len(label), int(batch.max()) + 1))

    def _factors(self) -> None:
        """Set up two matrices whose product is the squared distances."""
        X = self._scaled.astype(self._dtype)
        norms, ones = np.einsum("ij,ij->i", X, X)[:, None], np.ones((len(X), 1), dtype=self._dtype)
        self._left = np.hstack([-2 * X, norms, ones])
        self._right = np.ascontiguousarray(np.hstack([X, ones, norms]).T)

    def _candidates(self) -> None:
        n_obs, m = len(self._X), min(self._k - 1 + SPARE, len(self._X) - 1) if self._k else 0
        self._filled = np.zeros(n_obs, dtype=np.int32)
        self._kept = (
            np.empty((n_obs, 2 * m), dtype=self._dtype),
            np.empty((n_obs, 2 * m), dtype=np.int32),
            self._filled,
            np.full(n_obs, np.inf, dtype=self._dtype),
        )

    def run(self, n_jobs: int) -> _Pass:
        n_panels = -(-len(self._X) // PANEL)
        borders = np.linspace(0, len(self._X), n_panels + 1).astype(int)
        self._run([slice(int(a), int(b)) for a, b in pairwise(borders)], _rounds(n_panels), n_jobs)
        return self

    def run_beside(self, near: Ints, n_jobs: int) -> None:
        """Compare each group only with those near it."""
        panels = [slice(int(a), int(b)) for a, b in pairwise(self._starts)]
        self._run(panels, _rounds_of(near), n_jobs)

    def _run(self, panels: Sequence[slice], rounds: Iterable[Sequence[tuple[int, int]]], n_jobs: int) -> None:
        with ThreadPoolExecutor(n_jobs) as pool:
            for pairs in rounds:
                tasks = [(panels[i], panels[j]) for i, j in pairs]
                if n_jobs == 1:
                    for rows, columns in tasks:
                        self._meet(rows, columns)
                else:
                    list(pool.map(self._meet, *zip(*tasks, strict=True)))

    def _meet(self, rows: slice, columns: slice) -> None:
        """Compare the cells of two panels, or those of one panel with each other."""
        itself = rows == columns
        width = columns.stop - columns.start
        room = np.empty(TILE_HEIGHT * width, dtype=self._dtype)
        for start in range(rows.start, rows.stop, TILE_HEIGHT):
            height = min(TILE_HEIGHT, rows.stop - start)
            tile = room[: height * width].reshape(height, width)
            np.dot(self._left[start : start + height], self._right[:, columns], out=tile)
            diagonal = np.arange(height), np.arange(height) + start - columns.start
            self._read(tile, start, columns.start, diagonal if itself else None)

    def _read(self, tile: NDArray[Any], row: int, column: int, diagonal: Any | None) -> None:
        from cellular_bench.metrics.numerics import kernels

        both = diagonal is None
        if self._k:
            if diagonal is not None:
                tile[diagonal] = np.inf  # the cell itself is not a candidate; it is inserted first later
            kernels.keep_near(tile, row, column, kernels.Candidates(*self._kept), both)
        if self._with_sums:
            if diagonal is not None:
                tile[diagonal] = 0.0
            segments = kernels.Segments(self._starts, *self._codes)
            kernels.add_roots(tile, row, column, segments, self._to_labels, self._to_batches, both)

    def sums(self) -> DistanceSums:
        unscaled = []
        for sums in (self._to_labels, self._to_batches):
            unsorted = np.empty_like(sums)
            unsorted[self._order] = sums
            unsorted *= self._unit
            unscaled.append(unsorted)
        return DistanceSums(*unscaled)

    def neighbors(self, *, complete: bool = True) -> Neighbors:
        """Return the neighbours; search again for cells whose neighbours rounding may have hidden."""
        from cellular_bench.metrics.numerics import kernels

        n_obs, n_dims = self._X.shape
        near, distances = np.empty((n_obs, self._k), dtype=np.int64), np.empty((n_obs, self._k))
        proven = np.zeros(n_obs, dtype=bool)
        rounding = (n_dims + 6) * float(np.finfo(self._dtype).eps) / 2
        candidates = kernels.Candidates(*self._kept)
        kernels.exact_neighbors(self._scaled, self._order, candidates, rounding, near, distances, proven)
        if complete:
            doubtful = np.flatnonzero(~proven & (self._dtype == np.float32))
        else:  # cells that were compared with fewer than k others
            doubtful = self._order[self._filled < self._k - 1]
        if len(doubtful):
            X = np.empty_like(self._scaled)
            X[self._order] = self._scaled
            near[doubtful], distances[doubtful] = search(X, doubtful, self._k)
        return Neighbors(near, distances * self._unit)


def _precision(X: Floats, starts: Ints) -> DTypeLike:
    """Return single precision for many cells, unless groups are tiny and far from the centre.

    The error of a squared distance from a product is a share of the squared lengths of both cells.
    """
    if len(X) <= DOUBLE_CELLS:
        return np.float64
    sizes = np.diff(starts)
    norms = np.add.reduceat(np.einsum("ij,ij->i", X, X), starts[:-1])
    centres = np.add.reduceat(X, starts[:-1]) / sizes[:, None]
    within = norms - sizes * np.einsum("ij,ij->i", centres, centres)
    share = np.divide(norms, within, out=np.full_like(norms, np.inf), where=within > 0)
    error = sizes @ np.minimum(share * np.finfo(np.float32).eps, 1.0) / len(X)
    return np.float32 if error < SINGLE_ERROR else np.float64


def _rounds(n: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the pairs of n panels: each with itself, then rounds in which each panel occurs once.

    Examples
    --------
    >>> [sorted(pairs) for pairs in _rounds(3)]
    [[(0, 0), (1, 1), (2, 2)], [(1, 2)], [(0, 2)], [(0, 1)]]
    """
    yield [(i, i) for i in range(n)]
    size = n + n % 2  # if odd, one panel pauses in each round
    turning = list(range(1, size))
    for _ in range(size - 1 if n > 1 else 0):
        circle = [0, *turning]
        pairs = [(min(i, j), max(i, j)) for i, j in zip(circle, reversed(circle), strict=True)][: size // 2]
        yield [pair for pair in pairs if pair[1] < n]
        turning = turning[-1:] + turning[:-1]


def _rounds_of(near: Ints) -> list[list[tuple[int, int]]]:
    """Return the pairs of groups in rounds in which no group occurs twice; first each with itself.

    Examples
    --------
    >>> _rounds_of(np.array([[0, 1], [1, 0], [2, 1]]))
    [[(0, 0), (1, 1), (2, 2)], [(0, 1)], [(1, 2)]]
    """
    own = [(i, i) for i in range(len(near))]
    beside = {(min(i, j), max(i, j)) for i, row in enumerate(near.tolist()) for j in row if i != j}
    rounds: list[list[tuple[int, int]]] = []
    taken: list[set[int]] = [set() for _ in own]
    for i, j in sorted(beside):
        first = next(n for n in count() if n not in taken[i] and n not in taken[j])
        if first == len(rounds):
            rounds.append([])
        rounds[first].append((i, j))
        taken[i].add(first)
        taken[j].add(first)
    return [own, *rounds]


def search(X: Floats, rows: Ints, k: int) -> tuple[Ints, Floats]:
    """Return positions and distances of the neighbours of some cells (``rows``), in double precision."""
    norms = np.einsum("ij,ij->i", X, X)
    indices, distances = np.empty((len(rows), k), dtype=np.int64), np.empty((len(rows), k))
    height, m = max(1, PANEL * PANEL // len(X)), min(k + SPARE, len(X))
    for start in range(0, len(rows), height):
        part = slice(start, min(start + height, len(rows)))
        cells = rows[part]
        squared = norms - 2 * X[cells] @ X.T
        squared[np.arange(len(cells)), cells] = -np.inf  # before duplicates of the cell
        near = np.argpartition(squared, m - 1, axis=1)[:, :m]
        differences = X[near] - X[cells, None]
        exact = np.sqrt(np.einsum("ijk,ijk->ij", differences, differences))
        exact[near == cells[:, None]] = -1.0
        order = np.lexsort((near, exact), axis=1)[:, :k]
        indices[part] = np.take_along_axis(near, order, axis=1)
        distances[part] = np.take_along_axis(exact, order, axis=1)
    distances[:, 0] = 0.0
    return indices, distances
