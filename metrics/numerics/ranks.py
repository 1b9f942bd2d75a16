"""A random order of the cells that depends on what they are: not on their order, nor on names of groups.

Whatever must choose among equals (equally near neighbours, the cells of a sample, the first node of a graph
that is clustered) chooses by these ranks. The choice is then independent of labels and batches, and the same
for any order of the cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.metrics.inputs import Floats, Ints

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Rounds in which a cell of a graph learns what its neighbours are.
ROUNDS = 4


def random_ranks(content: Ints, *groups: Ints, seed: int = 0) -> Ints:
    """Return a random rank of every cell, (n_obs,): a permutation of 0 to n_obs - 1.

    Cells are sorted by their content; cells of equal content by their groups, and these by their sizes and
    their cells' content, so that names of groups do not matter. A seeded permutation of the sorted cells then
    gives the ranks. Cells that agree in content and in all groups are interchangeable.

    Parameters
    ----------
    content
        (n_obs,) result of :func:`row_content` or :func:`graph_content`: equal numbers for equal cells.
    groups
        (n_obs,) codes each, such as labels and batches.
    seed
        Seed of the permutation.

    Examples
    --------
    >>> X, label = np.array([[3.0], [1.0], [2.0]]), np.array([0, 0, 1])
    >>> ranks, order = random_ranks(row_content(X), label), np.array([2, 0, 1])
    >>> np.array_equal(random_ranks(row_content(X[order]), 1 - label[order]), ranks[order])
    True
    """
    codes = content
    for group in (*groups, *groups):  # the second time, equal groups may differ by what the other group is
        if len(np.unique(codes)) == len(codes):
            break
        codes = refined(codes, _rank_groups(group, codes))
    ranks = np.empty(len(codes), dtype=np.int64)
    ranks[np.argsort(codes, kind="stable")] = np.random.default_rng(seed).permutation(len(codes))
    return ranks


def row_content(X: Floats) -> Ints:
    """Return a number for every row, (n_obs,), in the order of the sorted rows; equal for equal rows.

    Examples
    --------
    >>> row_content(np.array([[2.0, 1.0], [1.0, 5.0], [2.0, 1.0], [2.0, 0.0]])).tolist()
    [2, 0, 2, 1]
    """
    codes = np.zeros(len(X), dtype=np.int64)
    tied = np.arange(len(X))
    for column in X.T:
        codes[tied] = refined(codes[tied], column[tied])
        tied = np.flatnonzero(np.bincount(codes, minlength=len(codes))[codes] > 1)
        if not len(tied):
            break
    return codes


def graph_content(graph: csr_matrix) -> Ints:
    """Return a number for every cell of a graph, (n_obs,), from the links around it and its neighbours.

    Equal numbers for cells that cannot be distinguished by the graph. Weights only matter where links leave
    cells equal: rounding of weights then changes little.

    References
    ----------
    Weisfeiler-Lehman refinement: https://www.jmlr.org/papers/v12/shervashidze11a.html
    """
    links = graph.tocsr()
    weights = np.ascontiguousarray(links.data, dtype=np.float64).view(np.uint64)
    by_links = refined(np.zeros(links.shape[0], dtype=np.int64), _around(links, np.zeros_like(weights)))
    return refined(by_links, _around(links, _mixed(weights)))


def _around(links: csr_matrix, weights: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of what lies around each cell, (n_obs,)."""
    state = np.zeros(links.shape[0], dtype=np.uint64)
    for _ in range(ROUNDS):
        # Sums of integers wrap around: they are the same in any order.
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(state[links.indices] ^ weights))])
        state = _mixed(state) + sums[links.indptr[1:]] - sums[links.indptr[:-1]]
    return state


def refined(codes: Ints, values: NDArray[np.generic]) -> Ints:
    """Return codes, (n_obs,), that distinguish cells of one code by a value.

    A code is the number of cells with a lower one.

    Examples
    --------
    >>> refined(np.array([0, 2, 0, 3]), np.array([5.0, 1.0, 4.0, 0.0])).tolist()
    [1, 2, 0, 3]
    """
    order = np.lexsort((values, codes))
    code, value = codes[order], values[order]
    starts = np.flatnonzero(np.r_[True, (code[1:] != code[:-1]) | (value[1:] != value[:-1])])
    before = starts - np.searchsorted(code, code[starts])
    finer = np.empty_like(codes)
    finer[order] = np.repeat(code[starts] + before, np.diff(np.r_[starts, len(code)]))
    return finer


def _rank_groups(groups: Ints, content: Ints) -> Ints:
    """Return for every cell the rank of its group by size and by the content of its cells, (n_obs,)."""
    order = np.lexsort((content, groups))
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    keys = [(len(cells), cells.tolist()) for cells in np.split(content[order], borders)]
    ranks = {n: rank for rank, n in enumerate(sorted(range(len(keys)), key=keys.__getitem__))}
    for before, n in zip(ranks, list(ranks)[1:], strict=False):
        if keys[n] == keys[before]:
            ranks[n] = ranks[before]
    ranked = np.empty_like(content)
    ranked[order] = np.repeat([ranks[n] for n in range(len(keys))], [size for size, _ in keys])
    return ranked


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit integers (doi:10.1145/2660193.2660195)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
