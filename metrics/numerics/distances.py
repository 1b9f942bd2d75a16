"""Exact distances between cells, from one pass over all pairs, without an n x n matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, several
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from cellular_bench.metrics.numerics.kernels import Points

#: Neighbours of every cell, itself included, that are searched, and the numbers that metrics use.
N_NEIGHBORS = 91
USED = (15, 50, 90)
#: Additional candidates, so that rounding in a tile rarely leaves a doubt about the last neighbour.
SPARE = 5
#: Cells in a panel, and rows of a panel in a tile. Pairs of panels are independent tasks; a tile of doubles
#: has 1 MB and fits into the caches.
PANEL, TILE_HEIGHT = 1024, 128
#: Least share of the cells that must have neighbours enough.
MIN_SHARE = 0.5
#: Up to this number of cells, tiles are in double precision: single precision would save a fraction of a
#: second.
DOUBLE_CELLS = 8192
#: Largest accepted error of a cell's mean distance to its own group by single precision.
SINGLE_ERROR = 1e-5


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Nearest neighbours of every cell, nearest first.

    Of cells at the same distance, those that are neighbours are drawn at random, whatever their labels and
    batches.

    Attributes
    ----------
    indices
        (n_obs, k) positions; the first column is the cell itself.
    distances
        (n_obs, k) Euclidean distances, exactly 0 in the first column; or lengths of paths along a graph. In
        a part of a graph with fewer cells than k, the rest is -1 at an infinite distance.
    """

    indices: Ints
    distances: Floats

    def first(self, k: int) -> Neighbors:
        """Return the k nearest cells, the cell itself included.

        Raises
        ------
        UndefinedError
            If fewer are known: the neighbourhood would be the whole data set, or part of a graph.
        """
        found, cells = self.where_known(k)
        if len(cells) < len(self.indices):
            raise self._shortage(k, cells)
        return found

    def where_known(self, k: int) -> tuple[Neighbors, Ints]:
        """Return the k nearest cells of those that have as many, by their number; and which cells these are.

        Raises
        ------
        UndefinedError
            If fewer are known of all cells, or less than half of the cells have as many.
        """
        n_obs, known = self.indices.shape
        if k > known:
            raise UndefinedError(
                f"needs {k} neighbours per cell, itself included; {known} are known of {n_obs} cells"
            )
        cells = np.flatnonzero(self.indices[:, k - 1] >= 0)
        if len(cells) == n_obs:
            return Neighbors(self.indices[:, :k], self.distances[:, :k]), cells
        if len(cells) < MIN_SHARE * n_obs:
            raise self._shortage(k, cells)
        number = np.full(n_obs, -1)
        number[cells] = np.arange(len(cells))
        return Neighbors(number[self.indices[cells, :k]], self.distances[cells, :k]), cells

    def _shortage(self, k: int, cells: Ints) -> UndefinedError:
        n_obs = len(self.indices)
        return UndefinedError(
            f"needs {k} neighbours per cell; {n_obs - len(cells)} of {n_obs} cells are in parts of the graph "
            "with fewer cells",
            by_output=True,
        )

    def tied(self) -> NDArray[np.bool_]:
        """Return whether the last of 15, 50 or 90 neighbours is as near as the next cell, (n_obs,)."""
        last = [k for k in USED if k < self.distances.shape[1]]
        equal = (self.distances[:, np.array(last, int) - 1] == self.distances[:, last]) & (
            self.indices[:, last] >= 0
        )
        tied: NDArray[np.bool_] = equal.any(axis=1)
        return tied

    def links(self) -> csr_matrix:
        """Return the distances to the neighbours as a sparse matrix, (n_obs, n_obs)."""
        from scipy.sparse import csr_matrix

        known = self.indices >= 0
        starts = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
        return csr_matrix((self.distances[known], self.indices[known], starts), shape=(len(known),) * 2)


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


def known_groups(neighbors: Neighbors, k: int, values: ArrayLike, name: str) -> tuple[Neighbors, Ints, Ints]:
    """Return the cells with k neighbours, the codes of their groups, and which cells these are.

    Undefined as :meth:`Neighbors.where_known`, or if these cells are of one group.
    """
    _, codes = several(values, name, n_obs=len(neighbors.indices))
    near, cells = neighbors.where_known(k)
    return near, several(codes[cells], name)[1], cells


def nearest_neighbors(
    X_emb: ArrayLike, k: int = N_NEIGHBORS, *, ranks: Ints | None = None, n_jobs: int = 1
) -> Neighbors:
    """Return the k nearest cells of every cell by exact Euclidean distance, itself first.

    Cells at the same distance are in random order. Undefined if the embedding is not finite, or constant.

    Parameters
    ----------
    X_emb
        (n_obs, n_latent) coordinates.
    k
        Neighbours per cell, itself included; all cells if there are fewer.
    ranks
        (n_obs,) random ranks that draw neighbours among cells at the same distance; None: from the
        coordinates.
    n_jobs
        Number of threads; the result does not depend on it.

    Examples
    --------
    >>> nearest_neighbors([[0.0], [1.0], [3.0]], k=2).indices.tolist()
    [[0, 1], [1, 0], [2, 1]]
    """
    X = coordinates(X_emb)
    return centred_neighbors(X, k, random_ranks(row_content(X)) if ranks is None else ranks, n_jobs=n_jobs)


def centred_neighbors(X: Floats, k: int, ranks: Ints, *, n_jobs: int = 1) -> Neighbors:
    """Return the result of :func:`nearest_neighbors` for centred coordinates, which may all be equal."""
    nothing = np.zeros(len(X), dtype=np.int64)
    return _Pass(X, nothing, nothing, ranks=ranks, k=k).run(n_jobs).neighbors()


def distance_sums(X: Floats, label: Ints, batch: Ints, *, n_jobs: int = 1) -> DistanceSums:
    """Return the sums of distances of centred coordinates to labels, and to batches within the own label."""
    return _Pass(X, label, batch, ranks=np.arange(len(X)), sums=True).run(n_jobs).sums()


def neighbors_and_sums(
    X: Floats, label: Ints, batch: Ints, ranks: Ints, *, n_jobs: int = 1
) -> tuple[Neighbors, DistanceSums]:
    """Return neighbours, drawn by the ranks among ties, and :func:`distance_sums`, from one pass."""
    walk = _Pass(X, label, batch, ranks=ranks, k=N_NEIGHBORS, sums=True).run(n_jobs)
    return walk.neighbors(), walk.sums()


def neighbors_in_groups(X: Floats, groups: Ints, near: Ints, k: int, *, n_jobs: int = 1) -> Neighbors:
    """Return the k nearest cells among those of the cell's own group and of the groups near it.

    Of several cells at the distance of the last neighbour, the first ones are taken.

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
    walk = _Pass(X, groups, np.zeros_like(groups), ranks=np.arange(len(X)), k=k)
    walk.run_beside(near, n_jobs)
    return walk.neighbors(complete=False)


class _Pass:
    """One pass over all pairs of cells, sorted by label and batch, in panels.

    Every pair of panels is a task. Tasks of a round have no cell in common, so that they may run in parallel,
    and each cell is compared with the others in the same order for any number of threads: results are equal
    to the last bit.
    """

    def __init__(
        self, X: Floats, label: Ints, batch: Ints, *, ranks: Ints, k: int = 0, sums: bool = False
    ) -> None:
        # Along the widest axis, so that most cells are compared with near ones first and skip most others.
        widest = X[:, X.var(axis=0).argmax()]
        self._order = np.lexsort((ranks, widest, batch, label))
        self._X, self._ranks = X[self._order], ranks
        self._k, self._with_sums = min(k, len(X)), sums
        self._segments(label[self._order], batch[self._order])
        # Scaling by a power of two is exact, and squares neither overflow nor underflow.
        self._unit = 2.0 ** np.ceil(np.log2(np.abs(X).max() or 1.0))
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
        points = kernels.Points(self._scaled, np.arange(n_obs + 1), self._order, self._ranks)
        kernels.exact_neighbors(points, candidates, rounding, near, distances, proven)
        # Or those that were compared with fewer than k others.
        doubtful = np.flatnonzero(~proven) if complete else self._order[self._filled < self._k - 1]
        if len(doubtful):
            X = np.empty_like(self._scaled)
            X[self._order] = self._scaled
            near[doubtful], distances[doubtful] = search(X, doubtful, self._k, self._ranks)
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


def distinct_points(X: Floats, ranks: Ints) -> tuple[Points, Ints]:
    """Return the distinct rows of coordinates, sorted, with the cells at each; and the point of every cell.

    Parameters
    ----------
    X
        (n_obs, n_dims) coordinates, none of them above 1 in magnitude.
    ranks
        (n_obs,) random ranks.
    """
    from cellular_bench.metrics.numerics.kernels import Points

    _, first, point = np.unique(row_content(X), return_index=True, return_inverse=True)
    cells = np.lexsort((ranks, point))
    starts = np.concatenate([[0], np.cumsum(np.bincount(point))])
    return Points(X[first], starts, cells, ranks), point


def search(X: Floats, rows: Ints, k: int, ranks: Ints) -> tuple[Ints, Floats]:
    """Return positions and distances of the neighbours of some cells (``rows``), in double precision.

    Cells at one place are one point, so that their number does not matter. Coordinates are at most 1 in
    magnitude.
    """
    from cellular_bench.metrics.numerics import kernels

    points, point = distinct_points(X, ranks)
    place = np.full(len(X), -1)
    place[rows] = np.arange(len(rows))
    indices, distances = np.empty((len(rows), k), dtype=np.int64), np.empty((len(rows), k))
    wanted = np.unique(point[rows])
    norms = np.einsum("ij,ij->i", points.X, points.X)
    m, rounding = min(k, len(norms)), (X.shape[1] + 6) * float(np.finfo(np.float64).eps)
    for part in np.split(wanted, range(height := max(1, PANEL * PANEL // len(norms)), len(wanted), height)):
        tile = norms - 2 * points.X[part] @ points.X.T + norms[part, None]
        limits = np.partition(tile, m - 1, axis=1)[:, m - 1]
        # Of the same distance but for rounding, here and in the product.
        limits += rounding * (2 * np.sqrt(norms[part]) + np.sqrt(np.maximum(limits, 0)) + 1) ** 2
        around = kernels.nearest_points(points.X, tile, part, limits)
        kernels.draw_neighbors(points, part, around, place, indices, distances)
    return indices, distances
