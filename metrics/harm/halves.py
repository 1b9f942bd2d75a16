"""Where a method puts the cells of one batch if two random halves of it pass for batches.

The halves differ by chance alone. Cells that are neighbours are the same whatever the halves, unless the
method moves them; and within a stratum, in which the halves are random, a neighbour is of the other half as
often as chance says.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.embedding.graphs import nearest_along
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, encode
from cellular_bench.metrics.numerics.distances import MIN_SHARE, centred_neighbors
from cellular_bench.metrics.numerics.ranks import graph_content, random_ranks, row_content
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Neighbours of a cell, itself excluded.
N_NEIGHBORS = 15
#: A stratum counts if each half has so many of its cells.
MIN_HALF = 20


def neighbors_of_calls(X_emb: ArrayLike, X_emb_again: ArrayLike) -> Ints:
    """Return the 15 nearest cells of every cell in two embeddings of the same cells, (2, n_obs, 15).

    Undefined if an embedding is not finite or constant, or there are fewer than 17 cells.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> first, second = neighbors_of_calls(X, 2 * X)
    >>> first.shape, bool((first == second).all())
    ((40, 15), True)
    """
    pair = [coordinates(X, name) for X, name in ((X_emb, "X_emb"), (X_emb_again, "X_emb_again"))]
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"X_emb_again has {len(pair[1])} rows; expected {len(pair[0])}, as X_emb")
    _check_size(len(pair[0]))
    # The same draws among equal distances: equal embeddings have equal neighbours.
    ranks = random_ranks(row_content(np.hstack(pair)))
    return np.array([centred_neighbors(X, N_NEIGHBORS + 1, ranks).indices[:, 1:] for X in pair])


def neighbors_of_calls_along(graph_distances: csr_matrix, neighbors_again: ArrayLike) -> Ints:
    """Return the result of :func:`neighbors_of_calls` for a method that returned graphs.

    Parameters
    ----------
    graph_distances
        (n_obs, n_obs) lengths of the links of the first graph.
    neighbors_again
        (n_obs, 15) result of :func:`nearest_on_graph` for the second.
    """
    _check_size(graph_distances.shape[0])
    return np.array([nearest_on_graph(graph_distances), np.asarray(neighbors_again)])


def nearest_on_graph(graph_distances: csr_matrix) -> Ints:
    """Return the 15 nearest cells by the shortest paths, (n_obs, 15); -1 where no more are connected.

    There are fewer columns if there are fewer than 16 cells.
    """
    return nearest_along(graph_distances, N_NEIGHBORS + 1).indices[:, 1:]


def stratum_neighbors(
    X_emb: ArrayLike, stratum: ArrayLike, batch: ArrayLike, cell_ranks: Ints | None = None
) -> Ints:
    """Return the 15 nearest cells among those of the cell's own stratum, (n_obs, 15).

    Cells of strata with fewer than 20 cells in a half have none: -1.

    Parameters
    ----------
    stratum
        (n_obs,) group of each cell; a half is random within it.
    batch
        (n_obs,) half of each cell.
    cell_ranks
        (n_obs,) random ranks that draw neighbours among cells at the same distance; None: from the
        coordinates.
    """
    X = coordinates(X_emb)
    ranks = random_ranks(row_content(X)) if cell_ranks is None else cell_ranks
    near = np.full((len(X), N_NEIGHBORS), -1, dtype=np.int64)
    for cells, _ in _strata(stratum, batch):
        own = centred_neighbors(X[cells], N_NEIGHBORS + 1, np.argsort(np.argsort(ranks[cells])))
        near[cells] = cells[own.indices[:, 1:]]
    return near


def stratum_neighbors_along(
    graph_distances: csr_matrix, stratum: ArrayLike, batch: ArrayLike, cell_ranks: Ints | None = None
) -> Ints:
    """Return the result of :func:`stratum_neighbors` by the shortest paths within the stratum."""
    n_obs = graph_distances.shape[0]
    ranks = random_ranks(graph_content(graph_distances)) if cell_ranks is None else cell_ranks
    near = np.full((n_obs, N_NEIGHBORS), -1, dtype=np.int64)
    for cells, _ in _strata(stratum, batch):
        links = graph_distances[cells][:, cells]
        own = nearest_along(links, N_NEIGHBORS + 1, np.argsort(np.argsort(ranks[cells]))).indices[:, 1:]
        near[cells] = np.where(own >= 0, cells[own], -1)
    return near


@metric(
    metric_id="harmless",
    name="Neighbours unharmed",
    aspect="harm",
    definition=(
        "Share of the 15 nearest cells that are the same whatever half of one batch passes for a batch, "
        "corrected for chance."
    ),
    minimum=-1.0,
)
def harmless(neighbors_of_calls: Ints) -> float:
    """Overlap of the neighbours of each cell between two calls of a method, 1 if all are the same; chance 0.

    The calls had the same cells, in halves of two draws. Cells with fewer than 15 neighbours, in a small part
    of a graph, are left out.

    Parameters
    ----------
    neighbors_of_calls
        (2, n_obs, 15) positions of the nearest cells in each call, the cell itself excluded.

    Returns
    -------
    float
        Undefined if there are fewer than 17 cells, or more than half of them are left out.

    Notes
    -----
    Formula: (o - c) / (1 - c), o = mean over cells of the shared neighbours / 15, c = 15 / (n - 1).

    Fooled by: ignoring the halves, which scores 1 and is right here; so is a constant shift. Unstable methods
    lose by chance in their own draws, although they have the same seed.

    Examples
    --------
    >>> from cellular_bench.metrics.harm.halves import neighbors_of_calls
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> harmless(neighbors_of_calls(X, X)), round(harmless(neighbors_of_calls(X, X[::-1])), 2)
    (1.0, 0.03)
    """
    first, second = neighbors_of_calls
    n_obs = len(first)
    _check_size(n_obs)
    known = (first[:, -1] >= 0) & (second[:, -1] >= 0)
    if known.sum() < MIN_SHARE * n_obs:
        raise UndefinedError(
            f"{n_obs - int(known.sum())} of {n_obs} cells have fewer than {N_NEIGHBORS} neighbours",
            by_output=True,
        )
    shared = (first[known][:, :, None] == second[known][:, None, :]).any(axis=2).mean()
    chance = N_NEIGHBORS / (n_obs - 1)
    return float((shared - chance) / (1 - chance))


@metric(
    metric_id="mixing_as_chance",
    name="Mixing as by chance",
    aspect="harm",
    definition=(
        "1 if neighbours are of the other half of a batch as often as chance says, 0 if twice or half as "
        "often."
    ),
)
def mixing_as_chance(stratum_neighbors: Ints, batch: ArrayLike, stratum: ArrayLike) -> float:
    """Compare :func:`mixing_ratio` with 1, the right value: 1 if it is 1, 0 if it is 2, 1/2 or beyond.

    Undefined as :func:`mixing_ratio`.

    Notes
    -----
    Formula: max(0, 1 - |log2 m|), m = mixing_ratio.

    Fooled by: strata that deviate in opposite directions, because the ratio is averaged first.

    Examples
    --------
    >>> from cellular_bench.metrics.harm.halves import stratum_neighbors
    >>> half, X = np.repeat(["one", "two"], 30), np.random.default_rng(0).normal(size=(60, 2))
    >>> near = stratum_neighbors(X + 100 * (half == "two")[:, None], ["all"] * 60, half)
    >>> mixing_as_chance(near, half, ["all"] * 60)
    0.0
    """
    ratio = mixing_ratio(stratum_neighbors, batch, stratum)
    return max(0.0, 1.0 - abs(float(np.log2(ratio)))) if ratio > 0 else 0.0


@metric(
    metric_id="mixing_ratio",
    name="Mixing ratio",
    aspect="harm",
    definition=(
        "Neighbours of the other half of a batch / what chance expects: 1 is right, less is a batch effect "
        "that the method made, more is too much mixing."
    ),
    maximum=10.0,
    in_overall=False,
)
def mixing_ratio(stratum_neighbors: Ints, batch: ArrayLike, stratum: ArrayLike) -> float:
    """Neighbours of the other half / their expected number, within strata; 1 is right.

    Parameters
    ----------
    stratum_neighbors
        (n_obs, 15) positions of the nearest cells of the own stratum.
    batch
        (n_obs,) half of each cell.
    stratum
        (n_obs,) group within which halves are random: all cells, or those of a type where types are divided
        unevenly. Those with fewer than 20 cells in a half are left out.

    Returns
    -------
    float
        0 or above. Undefined if no stratum has 20 cells in each half, or if more than half of the cells of
        such strata have fewer than 15 neighbours.

    Notes
    -----
    Formula: mean over strata of the mean over cells of (share of the other half among the 15 nearest cells of
    the stratum) / (m / (n - 1)), n = cells of the stratum, m = those of them in the other half.

    Fooled by: noise, which mixes as chance does. Few cells vary: with 20 cells in a half, a ratio of 0.9 or
    1.1 is chance.

    Examples
    --------
    >>> from cellular_bench.metrics.harm.halves import stratum_neighbors
    >>> rng = np.random.default_rng(0)
    >>> half, X = rng.permutation(np.repeat(["one", "two"], 300)), rng.normal(size=(600, 3))
    >>> round(mixing_ratio(stratum_neighbors(X, ["all"] * 600, half), half, ["all"] * 600), 1)
    1.0
    """
    near = np.asarray(stratum_neighbors)
    ratios, n_known, n_used = [], 0, 0
    for cells, is_second in _strata(stratum, batch):
        half = np.zeros(len(near), dtype=bool)
        half[cells] = is_second
        known = near[cells][:, -1] >= 0
        n_known, n_used = n_known + int(known.sum()), n_used + len(cells)
        if known.any():
            other = (half[near[cells[known]]] != half[cells[known], None]).mean(axis=1)
            ratios.append(float((other / _expected(is_second)[known]).mean()))
    if not n_used:
        raise UndefinedError(f"no stratum has {MIN_HALF} cells in each half")
    if n_known < MIN_SHARE * n_used:
        raise UndefinedError(
            f"{n_used - n_known} of {n_used} cells have fewer than {N_NEIGHBORS} neighbours in their stratum",
            by_output=True,
        )
    return float(np.mean(ratios))


def _expected(is_second: NDArray[np.bool_]) -> Floats:
    """Return the share of the other half among the other cells, (n_obs,)."""
    n_second = int(is_second.sum())
    n_other = np.where(is_second, len(is_second) - n_second, n_second)
    return np.asarray(n_other / (len(is_second) - 1))


def _strata(stratum: ArrayLike, batch: ArrayLike) -> Iterator[tuple[Ints, NDArray[np.bool_]]]:
    """Yield the cells of each stratum that counts, and which of them are in the second half."""
    names, codes = encode(stratum, "stratum")
    halves, of_half = encode(batch, "batch", n_obs=len(codes))
    if len(halves) != 2:
        raise UndefinedError(f"needs the two halves of a batch; there are {len(halves)} batches")
    for code in range(len(names)):
        cells = np.flatnonzero(codes == code)
        is_second = of_half[cells] == 1
        if min(int(is_second.sum()), int((~is_second).sum())) >= MIN_HALF:
            yield cells, is_second


def _check_size(n_obs: int) -> None:
    if n_obs < N_NEIGHBORS + 2:
        raise UndefinedError(f"needs {N_NEIGHBORS + 2} cells; there are {n_obs}")
