"""Markers of labels: genes with higher expression in one label than in another, by a test of each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Markers of one label against another, the best first: ``markers[label][other]``.
Markers = dict[str, dict[str, list[str]]]
#: Logarithms of two one-sided p-values of each gene: that a label is above another, and the reverse.
Test = Callable[[int, int], tuple[NDArray[np.float64], NDArray[np.float64]]]

#: Values, times labels, that are in memory at once.
_CHUNK: Final = 4_000_000
#: Smallest standard deviation of a rank sum, and smallest variance of a gene, in R's scran.
_LEAST: Final = 1e-8


def pairwise_markers(
    tests: Callable[[Any, NDArray[np.int64]], Test],
    X: Any,
    labels: NDArray[np.str_],
    genes: list[str],
    *,
    n_markers: int = 10,
    most_fdr: float = 0.05,
) -> Markers:
    """Return the genes that are significantly higher in one label than in another, for all pairs.

    This follows ``getTopMarkers`` of R's scran: of the genes whose false discovery rate (Benjamini and
    Hochberg 1995, 10.1111/j.2517-6161.1995.tb02031.x) is at most ``most_fdr``, those with the lowest
    p-values. Genes with equal p-values, also those below the smallest number (5e-324), stay in the order of
    the data.

    Parameters
    ----------
    tests
        :func:`rank_sum_tests` or :func:`welch_tests`.
    X
        Expression, not negative, (n_obs, n_vars), sparse or dense.
    labels
        Label of each cell.
    genes
        Names of the genes.
    n_markers
        Largest number of markers of a pair.
    most_fdr
        Largest false discovery rate.
    """
    names, code = np.unique(labels, return_inverse=True)
    test = tests(X, code)
    markers: Markers = {str(name): {str(other): [] for other in names} for name in names}
    for above in range(names.size):
        for below in range(above):
            for pair, log_p in zip(((above, below), (below, above)), test(above, below), strict=True):
                best = _lowest(log_p, n_markers, most_fdr)
                markers[str(names[pair[0]])][str(names[pair[1]])] = [genes[gene] for gene in best]
    return markers


def _lowest(log_p: NDArray[np.float64], n_markers: int, most_fdr: float) -> NDArray[np.int64]:
    """Return the positions of the lowest p-values with a small false discovery rate; NaN never qualifies."""
    order = np.argsort(log_p, kind="stable")
    fdr = log_p[order] + np.log(log_p.size / np.arange(1, log_p.size + 1))
    fdr = np.exp(np.minimum.accumulate(fdr[::-1])[::-1])
    significant = np.sort(order[fdr <= most_fdr])
    return significant[np.argsort(np.exp(log_p[significant]), kind="stable")[:n_markers]]


def rank_sum_tests(X: Any, code: NDArray[np.int64]) -> Test:
    """Prepare Wilcoxon's rank-sum test of each gene for all pairs of labels, as in scran's pairwiseWilcox.

    p-values are those of the normal distribution, with corrections for ties and continuity.

    Parameters
    ----------
    X
        Expression, not negative, (n_obs, n_vars).
    code
        Number of each cell's label, from 0.
    """
    from scipy.special import log_ndtr

    size = np.bincount(code).astype(np.float64)
    wins, ties = (np.concatenate(parts) for parts in zip(*_wins_and_ties(X, code), strict=True))

    def test(a: int, b: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n_pairs, n = size[a] * size[b], size[a] + size[b]
        if n_pairs < 2:
            return (np.full(len(wins), np.nan),) * 2
        tied = ties[:, a, a] + ties[:, b, b] + 3 * (ties[:, a, b] + ties[:, b, a]) - n
        spread = np.sqrt(n_pairs / 12 * ((n + 1) - tied / (n * (n - 1))))
        spread, excess = np.maximum(spread, _LEAST), wins[:, a, b] - n_pairs / 2
        return log_ndtr(-(excess - 0.5) / spread), log_ndtr((excess + 0.5) / spread)

    return test


def _wins_and_ties(
    X: Any, code: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield, for successive groups of genes, two arrays (n_genes, n_labels, n_labels).

    ``wins[:, a, b]`` is the number of pairs of cells in which that of label a has the higher value; equal
    values count one half. ``ties[:, a, b]`` is the sum over values of t(a)^2 t(b), where t(a) cells of label
    a have that value.
    """
    from scipy.sparse import csc_matrix, csr_matrix

    columns = csc_matrix(X, dtype=np.float64, copy=True)
    columns.eliminate_zeros()
    size = np.bincount(code).astype(np.float64)
    n_labels, n_genes = size.size, columns.shape[1]
    starts = np.flatnonzero(np.diff(columns.indptr[:-1] // max(_CHUNK // n_labels, 1), prepend=-1))
    for first, last in zip(starts, [*starts[1:], n_genes], strict=True):
        stored = slice(columns.indptr[first], columns.indptr[last])
        data, label = columns.data[stored], code[columns.indices[stored]]
        gene = np.repeat(np.arange(last - first), np.diff(columns.indptr[first : last + 1]))
        order = np.lexsort((data, gene))
        data, label, gene = data[order], label[order], gene[order]
        is_first = np.ones(data.size, dtype=bool)
        is_first[1:] = (data[1:] != data[:-1]) | (gene[1:] != gene[:-1])
        # Cells of each label that have a value of a gene (at), a lower one (below), and that have zero.
        row, value = gene * n_labels + label, np.cumsum(is_first) - 1
        of_gene = np.bincount(row, minlength=(last - first) * n_labels).reshape(-1, n_labels)
        at = np.bincount(value * n_labels + label, minlength=is_first.sum() * n_labels)
        at = at.reshape(-1, n_labels).astype(np.float64)
        zeros = size - of_gene
        below = np.cumsum(at, axis=0) - at + (zeros - np.cumsum(of_gene, axis=0) + of_gene)[gene[is_first]]
        having = csr_matrix((np.ones(data.size), (row, value)), shape=(of_gene.size, len(at)))
        shape = (last - first, n_labels, n_labels)
        pairs = zeros[:, :, None] * zeros[:, None, :]
        yield (
            (having @ (below + at / 2)).reshape(shape) + pairs / 2,
            (having.power(2) @ at).reshape(shape) + zeros[:, :, None] * pairs,
        )


def welch_tests(X: Any, code: NDArray[np.int64]) -> Test:
    """Prepare Welch's t-test of each gene for all pairs of labels, as in scran's pairwiseTTests.

    Parameters
    ----------
    X
        Expression, (n_obs, n_vars).
    code
        Number of each cell's label, from 0.
    """
    from scipy.sparse import csr_matrix
    from scipy.special import stdtr

    cells = csr_matrix(X, dtype=np.float64)
    of_label = csr_matrix((np.ones(code.size), (code, np.arange(code.size))))
    size = np.bincount(code)
    mean = (of_label @ cells).toarray() / size[:, None]
    squares = (of_label @ cells.power(2)).toarray() - size[:, None] * mean**2
    variance = np.maximum(squares / np.maximum(size - 1, 1)[:, None], _LEAST)

    def test(a: int, b: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if min(size[a], size[b]) < 2:
            return (np.full(mean.shape[1], np.nan),) * 2
        of_a, of_b = variance[a] / size[a], variance[b] / size[b]
        freedom = (of_a + of_b) ** 2 / (of_a**2 / (size[a] - 1) + of_b**2 / (size[b] - 1))
        t = (mean[a] - mean[b]) / np.sqrt(of_a + of_b)
        with np.errstate(divide="ignore"):  # the logarithm of 0
            return np.log(stdtr(freedom, -t)), np.log(stdtr(freedom, t))

    return test
