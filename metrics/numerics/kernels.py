"""Compiled loops over tiles of distances, neighbours and sparse matrices.

Importing this module imports numba: do so inside functions only. Machine code is cached on disk beside
this file (or in the user's cache), so that only the first process compiles. No loop may assume that numbers
are finite: the bounds of neighbours start at infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cellular_bench.metrics.inputs import Floats, Ints

_Function = TypeVar("_Function", bound=Callable[..., Any])
Array = NDArray[Any]
#: Sums may be added in any order, so that they use all lanes; all other rules of IEEE arithmetic hold.
_ANY_ORDER = {"reassoc", "contract", "nsz"}
#: Distances that are compared at a time; a group without a distance below its bound is skipped.
_LANES = 32
#: Largest change of the logarithm of a kernel's width in one step of its search.
_LONGEST_STEP = 2.0
#: Rounding of a coordinate, in units of the last place of the largest one.
_ROUNDED = 4.0
#: Cells that are drawn from more than this multiple of their number are drawn one by one, not shuffled.
_SPARSE_DRAW = 4
_EPS = float(np.finfo(np.float64).eps)
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": _ANY_ORDER, "error_model": "numpy"}


class Segments(NamedTuple):
    """Runs of cells of one label and one batch.

    Attributes
    ----------
    starts
        (n_segments + 1,) first cell of each segment, and the number of cells.
    label, batch
        (n_segments,) codes.
    """

    starts: Ints
    label: Ints
    batch: Ints


class Points(NamedTuple):
    """Distinct points, and the cells at each of them.

    Attributes
    ----------
    X
        (n_points, n_dims) coordinates, none of them above 1 in magnitude.
    starts
        (n_points + 1,) first of the cells of each point in ``cells``, and the number of cells.
    cells
        (n_obs,) positions of cells, point by point; those of one point in the order of their ranks.
    ranks
        (n_obs,) random rank of every cell.
    """

    X: Floats
    starts: Ints
    cells: Ints
    ranks: Ints


class Candidates(NamedTuple):
    """Cells that may be neighbours, and their squared distances.

    Attributes
    ----------
    squared, indices
        (n_obs, 2 m) squared distances and positions; the first ``filled`` of each row are in use.
    filled
        (n_obs,) number of candidates.
    bound
        (n_obs,) squared distance below which m candidates lie; infinite before there are so many.
    """

    squared: Array
    indices: Array
    filled: Array
    bound: Array


def _compiled(function: _Function) -> _Function:
    try:
        return cast(_Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # no folder for machine code can be written: every process compiles
        return cast(_Function, numba.njit(**_OPTIONS)(function))


def _inlined(function: _Function) -> _Function:
    """Compile a function as a part of its callers.

    As a separate function it would be compiled twice, in two ways: the process that compiles links one of
    them, processes that load the machine code link the other, and sums differ in their last digits.
    """
    return cast(_Function, numba.njit(forceinline=True, **_OPTIONS)(function))


@_compiled
def add_roots(
    tile: Array,
    row: int,
    column: int,
    segments: Segments,
    label_sums: Floats,
    batch_sums: Floats,
    both: bool,  # noqa: FBT001 - compiled functions take positions only
) -> None:
    """Add the square roots of a tile to the sums of its rows, and of its columns if ``both``.

    Parameters
    ----------
    tile
        Squared distances between some cells (rows) and others; overwritten.
    row, column
        First cell of the rows and of the columns. Cells are sorted by segment.
    label_sums
        (n_obs, n_labels) sums of distances to all cells of a label; added to.
    batch_sums
        (n_obs, n_batches) sums of distances to the cells of a batch that have the cell's own label; added to.
    """
    starts, label, batch = segments
    height, width = tile.shape
    # Which segments the tile's rows and columns lie in.
    first = np.searchsorted(starts, column, side="right") - 1
    segment = np.searchsorted(starts, row, side="right") - 1
    below = np.zeros(width, dtype=tile.dtype)
    for r in range(height):
        i = row + r
        for c in range(width):
            tile[r, c] = np.sqrt(max(tile[r, c], tile.dtype.type(0)))
        own = label[segment]
        s = first
        begin = 0
        while begin < width:
            end = min(width, starts[s + 1] - column)
            total = tile.dtype.type(0)
            for c in range(begin, end):
                total += tile[r, c]
            label_sums[i, label[s]] += total
            if label[s] == own:
                batch_sums[i, batch[s]] += total
            begin = end
            s += 1
        if both:
            for c in range(width):
                below[c] += tile[r, c]
        if i + 1 == starts[segment + 1] or r + 1 == height:
            if both:
                s = first
                for c in range(width):
                    if column + c == starts[s + 1]:
                        s += 1
                    label_sums[column + c, own] += below[c]
                    if label[s] == own:
                        batch_sums[column + c, batch[segment]] += below[c]
                    below[c] = 0
            if i + 1 == starts[segment + 1]:
                segment += 1


@_inlined
def _keep_least(values: Array, indices: Array, row: int, n: int, k: int) -> Any:
    """Move the k least of a row's first n values to its front, with their indices; return their largest."""
    low, high = 0, n - 1
    while low < high:
        a, b, c = values[row, low], values[row, (low + high) // 2], values[row, high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[row, i] < pivot:
                i += 1
            while values[row, j] > pivot:
                j -= 1
            if i <= j:
                values[row, i], values[row, j] = values[row, j], values[row, i]
                indices[row, i], indices[row, j] = indices[row, j], indices[row, i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    largest = values[row, 0]
    for i in range(1, k):
        largest = max(largest, values[row, i])
    return largest


@_compiled
def keep_near(
    tile: Array,
    row: int,
    column: int,
    candidates: Candidates,
    both: bool,  # noqa: FBT001 - compiled functions take positions only
) -> None:
    """Add the cells of a tile that are nearer than the bound of a row, and of a column if ``both``.

    Parameters
    ----------
    tile
        Squared distances between some cells (rows) and others.
    row, column
        First cell of the rows and of the columns.
    candidates
        Candidates of all cells; added to.
    """
    squared, indices, filled, bound = candidates
    height, width = tile.shape
    room = squared.shape[1]
    none, one = tile.dtype.type(0), tile.dtype.type(1)  # counted in the tile's type: lanes of equal width
    for r in range(height):
        i = row + r
        for begin in range(0, width, _LANES):
            end = min(begin + _LANES, width)
            limit = bound[i]
            near = none
            if both:
                for c in range(begin, end):
                    near += one if (tile[r, c] < limit) | (tile[r, c] < bound[column + c]) else none
            else:
                for c in range(begin, end):
                    near += one if tile[r, c] < limit else none
            if near == none:
                continue
            for c in range(begin, end):
                value = tile[r, c]
                if value < bound[i]:
                    n = filled[i]
                    squared[i, n] = value
                    indices[i, n] = column + c
                    filled[i] = n + 1
                    if n + 1 == room:
                        filled[i] = room // 2
                        bound[i] = _keep_least(squared, indices, i, room, room // 2)
                if both and value < bound[column + c]:
                    j = column + c
                    n = filled[j]
                    squared[j, n] = value
                    indices[j, n] = i
                    filled[j] = n + 1
                    if n + 1 == room:
                        filled[j] = room // 2
                        bound[j] = _keep_least(squared, indices, j, room, room // 2)


@_inlined
def _squared(X: Floats, i: int, j: int) -> float:
    squared = 0.0
    for d in range(X.shape[1]):
        squared += (X[i, d] - X[j, d]) ** 2
    return squared


@_inlined
def _tie(squared: float, n_dims: int) -> Any:
    """Return the largest squared distance that equals one but for rounding, of coordinates up to 1."""
    return squared + _EPS * ((n_dims + 4) * squared + 2 * _ROUNDED * np.sqrt(n_dims * squared))


@_inlined
def _mixed(number: Any) -> Any:
    """Scatter a 64-bit integer (doi:10.1145/2660193.2660195)."""
    mixed = number + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@_inlined
def _draw_key(ranks: Ints, cell: int, other: int) -> Any:
    """Return the random number that places a cell among those at the same distance from another."""
    return _mixed(_mixed(np.uint64(ranks[cell])) + np.uint64(ranks[other]))


@_compiled
def exact_neighbors(
    points: Points,
    candidates: Candidates,
    rounding: float,
    near: Ints,
    distances: Floats,
    proven: Array,
) -> None:
    """Turn candidates into neighbours: recompute distances from differences, sort, and put the cell first.

    Cells at one distance are in an order drawn by the ranks.

    Parameters
    ----------
    points
        Every cell as a separate point, in the order of the candidates.
    candidates
        Candidates of all cells; overwritten.
    rounding
        Relative error of a squared distance in a tile.
    near, distances
        (n_obs, k) positions and distances of the neighbours; written, in the caller's order.
    proven
        (n_obs,) False if rounding, or a tie, may have hidden a cell that belongs to the neighbours; written.
    """
    stored, indices, filled, bound = candidates
    X, position, ranks = points.X, points.cells, points.ranks
    k = near.shape[1]
    m = stored.shape[1] // 2
    n_dims = X.shape[1]
    keys = np.empty(2 * m, dtype=np.float64)
    cells = np.empty(2 * m, dtype=np.int64)
    for i in range(X.shape[0]):
        n = filled[i]
        if n > m:
            bound[i] = _keep_least(stored, indices, i, n, m)
            n = m
        row = position[i]
        norm = 0.0
        for d in range(n_dims):
            norm += X[i, d] * X[i, d]
        for a in range(n):
            j = indices[i, a]
            squared = _squared(X, i, j)
            b = a
            while b > 0 and keys[b - 1] > squared:
                keys[b], cells[b] = keys[b - 1], cells[b - 1]
                b -= 1
            keys[b], cells[b] = squared, position[j]
        begin = 0
        while begin < n:
            limit = _tie(keys[begin], n_dims)
            end = begin + 1
            while end < n and keys[end] <= limit:
                keys[end] = keys[begin]
                b, cell = end, cells[end]
                key = _draw_key(ranks, row, cell)
                while b > begin and _draw_key(ranks, row, cells[b - 1]) > key:
                    cells[b] = cells[b - 1]
                    b -= 1
                cells[b] = cell
                end += 1
            begin = end
        near[row, 0] = row
        distances[row, 0] = 0.0
        for a in range(k - 1):
            near[row, a + 1] = cells[a]
            distances[row, a + 1] = np.sqrt(keys[a])
        limit = np.float64(bound[i])
        reach = 2 * np.sqrt(norm) + np.sqrt(limit)
        last = _tie(keys[max(k - 2, 0)], n_dims)
        proven[row] = np.isinf(limit) or limit - rounding * reach * reach > last


@_compiled
def nearest_points(X: Floats, tile: Floats, rows: Ints, limits: Floats) -> tuple[Ints, Ints, Floats]:
    """Return the points around some points, nearest first: their starts, indices and squared distances.

    Parameters
    ----------
    X
        (n_points, n_dims) coordinates.
    tile
        (n_rows, n_points) approximate squared distances from the rows.
    rows
        (n_rows,) points whose neighbours are wanted.
    limits
        (n_rows,) approximate squared distance up to which points are returned.
    """
    starts = np.zeros(tile.shape[0] + 1, dtype=np.int64)
    for r in range(tile.shape[0]):
        n = 0
        for j in range(tile.shape[1]):
            n += tile[r, j] <= limits[r]
        starts[r + 1] = starts[r] + n
    indices = np.empty(starts[-1], dtype=np.int64)
    squared = np.empty(starts[-1], dtype=np.float64)
    for r in range(tile.shape[0]):
        n = starts[r]
        for j in range(tile.shape[1]):
            if tile[r, j] <= limits[r]:
                indices[n] = j
                squared[n] = _squared(X, rows[r], j)
                n += 1
        order = np.argsort(squared[starts[r] : n], kind="mergesort")
        indices[starts[r] : n] = indices[starts[r] : n][order]
        squared[starts[r] : n] = squared[starts[r] : n][order]
    return starts, indices, squared


@_compiled
def draw_neighbors(
    points: Points,
    rows: Ints,
    around: tuple[Ints, Ints, Floats],
    place: Ints,
    near: Ints,
    distances: Floats,
) -> None:
    """Write the neighbours of cells: all cells of the nearest points, a random choice of those of the last.

    Cells at one distance are in random order. The numbers are drawn from the cell's own rank: the choice of a
    cell depends on no other cell's.

    Parameters
    ----------
    points
        Distinct points and their cells.
    rows
        Points whose cells are written.
    around
        Starts, indices and squared distances of the points near each row, nearest first, as
        :func:`nearest_points` returns them. If they end with a tie, all of it must be there.
    place
        (n_obs,) row of ``near`` and ``distances`` of each cell; negative: not wanted.
    near, distances
        (n_rows, k) positions and distances; written.
    """
    starts, indices, squared = around
    n_dims, k = points.X.shape[1], near.shape[1]
    ends = np.empty(len(indices) + 1, dtype=np.int64)
    pool = np.empty((_SPARSE_DRAW + 1) * k + 1, dtype=np.int64)
    for r in range(len(rows)):
        for own in range(points.starts[rows[r]], points.starts[rows[r] + 1]):
            cell = points.cells[own]
            out = place[cell]
            if out < 0:
                continue
            state = _mixed(np.uint64(points.ranks[cell]))
            near[out, 0] = cell
            distances[out, 0] = 0.0
            found, begin = 1, starts[r]
            while found < k and begin < starts[r + 1]:
                # Points at one distance, in their own order, and how many cells they have up to each.
                limit = _tie(squared[begin], n_dims)
                end = begin
                while end < starts[r + 1] and squared[end] <= limit:
                    end += 1
                run = np.sort(indices[begin:end])
                ends[0] = 0
                itself = 0
                for a in range(len(run)):
                    ends[a + 1] = ends[a] + points.starts[run[a] + 1] - points.starts[run[a]]
                    itself += run[a] == rows[r]
                total = ends[len(run)]
                want = min(k - found, total - itself)
                distance = np.sqrt(squared[begin])
                if total <= _SPARSE_DRAW * want + 1:  # shuffle them
                    n = 0
                    for a in range(len(run)):
                        for c in range(points.starts[run[a]], points.starts[run[a] + 1]):
                            if points.cells[c] != cell:
                                pool[n] = points.cells[c]
                                n += 1
                    for a in range(want):
                        state = _mixed(state)
                        b = a + np.int64(state % np.uint64(n - a))
                        pool[a], pool[b] = pool[b], pool[a]
                else:
                    a = 0
                    while a < want:
                        state = _mixed(state)
                        at = np.int64(state % np.uint64(total))
                        point = np.searchsorted(ends[: len(run) + 1], at, side="right") - 1
                        drawn = points.cells[points.starts[run[point]] + at - ends[point]]
                        fresh = drawn != cell
                        for before in range(a):
                            fresh = fresh and pool[before] != drawn
                        if fresh:
                            pool[a] = drawn
                            a += 1
                for a in range(want):
                    near[out, found] = pool[a]
                    distances[out, found] = distance
                    found += 1
                begin = end


@_inlined
def _weigh(near: Floats, row: int, beta: float, weights: Floats) -> tuple[float, float]:
    """Fill one row of kernel weights, summing to 1; return their entropy and its slope along log beta."""
    total = 0.0
    first = 0.0
    second = 0.0
    nearest = near[row, 1]
    for a in range(weights.shape[1]):
        beyond = near[row, a + 1] - nearest  # the weights do not change, and no exponential underflows
        weight = np.exp(-beyond * beta)
        weights[row, a] = weight
        total += weight
        first += beyond * weight
        second += beyond * beyond * weight
    for a in range(weights.shape[1]):
        weights[row, a] /= total
    mean = first / total
    return np.log(total) + beta * mean, -beta * beta * (second / total - mean * mean)


@_compiled
def search_perplexity(distances: Floats, target: float, tolerance: float, max_tries: int) -> Floats:
    """Return the weights of each cell's neighbours, (n_obs, k - 1), at the width that gives an entropy.

    Newton's method along the logarithm of the width; a step that would leave the interval in which the width
    is known to lie is replaced by the middle of the interval.

    Parameters
    ----------
    distances
        (n_obs, k) distances to the neighbours, the cell itself first.
    target, tolerance
        Entropy of the weights, in nats, and the largest accepted difference from it.
    max_tries
        Number of steps.
    """
    weights = np.empty((distances.shape[0], distances.shape[1] - 1))
    for row in range(distances.shape[0]):
        variance = np.var(distances[row, 1:])
        # The entropy of a narrow kernel is lower than that of equal weights by half of this.
        beta = np.sqrt(2 * (np.log(weights.shape[1]) - target) / variance) if variance > 0 else 1.0
        low, high = 0.0, np.inf
        for attempt in range(max_tries + 1):
            entropy, slope = _weigh(distances, row, beta, weights)
            excess = entropy - target
            if abs(excess) < tolerance or attempt == max_tries:
                break
            if excess > 0:
                low = beta
            else:
                high = beta
            step = -excess / slope if slope < 0 else np.sign(excess) * _LONGEST_STEP
            beta *= np.exp(min(max(step, -_LONGEST_STEP), _LONGEST_STEP))
            if not low < beta < high:
                beta = np.sqrt(low * high)
    return weights


@_compiled
def shortest_paths(starts: Ints, targets: Ints, lengths: Floats, ranks: Ints, k: int) -> tuple[Ints, Floats]:
    """Return the k cells nearest to every cell along links, and their distances, both (n_obs, k) (Dijkstra).

    Links of cell i are ``targets`` and ``lengths`` from ``starts[i]`` to ``starts[i + 1]``. Cells at the same
    distance are in an order drawn by their ranks. Where fewer cells can be reached, the rest is -1 at an
    infinite distance.
    """
    n_obs = len(starts) - 1
    indices = np.full((n_obs, k), -1, dtype=np.int64)
    distances = np.full((n_obs, k), np.inf, dtype=np.float64)
    nearest = np.full(n_obs, np.inf)
    settled = np.full(n_obs, -1, dtype=np.int64)
    for source in range(n_obs):
        nearest[source] = 0.0
        heap = [(0.0, np.uint64(0), source)]
        touched = [source]
        n_settled = 0
        while n_settled < k and len(heap) > 0:
            distance, _, cell = heappop(heap)
            if settled[cell] == source:
                continue
            settled[cell] = source
            indices[source, n_settled] = cell
            distances[source, n_settled] = distance
            n_settled += 1
            for link in range(starts[cell], starts[cell + 1]):
                target, length = int(targets[link]), distance + float(lengths[link])
                if length < nearest[target]:
                    nearest[target] = length
                    heappush(heap, (length, _draw_key(ranks, source, target), target))
                    touched.append(target)
        for cell in touched:
            nearest[cell] = np.inf
    return indices, distances
