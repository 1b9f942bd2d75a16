"""Distinguish genes from the other numbers of a table: totals, shares, clusters, coordinates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Names that Seurat, scanpy and other programs give to measurements of cells, and people to what they know of
#: them; and names of counters that programs write among the genes.
OF_CELLS = re.compile(
    r"n_?(count|feature|umi|gene|read|transcript)s?([._]\w+)?|total_?(count|umi|read|feature)s?(_\w+)?"
    r"|n_genes_by_\w+|log1?p?_?(n|total)_\w+|log10_?(genes|umi|genesperumi)\w*|umi_?counts?|library_?size"
    r"|(percent|pct|perc|fraction|frac|prop|ratio)[._]?(mt|mito|mitochondrial|ribo|rb|rp|hb|hemo|counts|in|ercc)\w*"
    r"|(mt|mito|mitochondrial|ribo|ribosomal)[._]?(percent|pct|perc|fraction|frac|prop|ratio)\w*"
    r"|(pANN|DF\.classifications)\w*[\d.]*.*|predicted_doublets?|(doublet|scrublet|scdblfinder)[._]?\w*"
    r"|size_?factors?|(s|g2m|g1)[._]score|cc[._]difference|phase"
    r"|\w*snn_res\.[\d.]+|(seurat|scanpy|kmeans)?_?clusters?([._]?(id|no|num|number|label))?"
    r"|(leiden|louvain)([._]?(r|res|resolution)?_?[\d.]+)?|(orig|old|active)[._]?ident|cluster_?[\d.]+"
    r"|(x_)?(umap|tsne|t-sne)[._ -]?\d{1,3}"
    r"|(x_)?(pca?|phate|diffmap|dc|fa|draw_graph_\w+|harmony|scvi|lsi|ica?|nmf|latent|z)[._ -]\d{1,3}"
    r"|(x_)?(umap|tsne|t-sne|phate)[._-]?[xy]|(dpt_)?pseudotime|cell_?types?([._]?(id|code|label))?|labels?"
    r"|batch([._]?id)?|donors?([._]?id)?|samples?([._]?id)?|patient([._]?id)?|plate|well|lane|age|sex|is_cell"
    r"|__(no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)"
    r"|n_(unmapped|multimapping|nofeature|ambiguous)",
    re.IGNORECASE,
)
#: Names of what annotations say of genes.
OF_GENES = re.compile(
    r"((gene|transcript|exon|exonic)[._]?)?length|start|end|width|strand|chr|chromosome|entrez([._]?(gene)?[._]?id)?"
    r"|ncbi[._]?gene[._]?id|(percentage_)?gc([._]?content)?",
    re.IGNORECASE,
)
#: Numbers of cells and genes from which values are judged: few agree by chance.
MIN_OBS, MIN_VARS = 10, 10
#: Number of columns at each end of a table that can be other than genes, whatever they are called.
MAX_ENDS = 20
#: Cells that are compared first.
N_SCREENED = 500


def not_genes(values: csr_matrix) -> NDArray[np.bool_]:
    """Mark columns whose values show that they are no genes, (n_vars,).

    These are columns of other values than counts among columns of counts, near an end of the table; a column
    that holds the sums of the others, or the number of those above 0; and all that lies outside a block of
    columns of which another column holds the sums or the number.

    Parameters
    ----------
    values
        (n_obs, n_vars) cells and genes, in the order of the table.
    """
    n_obs, n_vars = values.shape
    marked = np.zeros(n_vars, dtype=bool)
    if n_obs < MIN_OBS or n_vars < MIN_VARS:
        return marked
    marked |= _no_counts_among_counts(values)
    counts = values[:, ~marked]
    first, last = _block_that_a_column_sums(counts)
    outside = np.ones(counts.shape[1], dtype=bool)
    outside[first:last] = False
    outside[_sums_of_all_others(counts)] = True
    marked[np.flatnonzero(~marked)[outside]] = True
    return marked


def _no_counts_among_counts(values: csr_matrix) -> NDArray[np.bool_]:
    columns = values.tocsc()
    is_count = (columns.data >= 0) & (columns.data == np.floor(columns.data))
    fractions = np.zeros(values.shape[1], dtype=bool)
    fractions[np.repeat(np.arange(values.shape[1]), np.diff(columns.indptr))[~is_count]] = True
    ends = min(MAX_ENDS, values.shape[1] // 4)
    # Estimated counts have fractions anywhere.
    if fractions[ends : values.shape[1] - ends].any() or fractions.mean() > 0.5:
        return np.zeros_like(fractions)
    return fractions


def _block_that_a_column_sums(counts: csr_matrix) -> tuple[int, int]:
    """Return the ends of the largest block whose sums, or numbers above 0, a column beside it holds."""
    n_vars = counts.shape[1]
    ends = min(MAX_ENDS, (n_vars - MIN_VARS) // 2)
    for first, last in _blocks(counts[:N_SCREENED], ends):
        beside = [*range(first), *range(last, n_vars)]
        block = counts[:, first:last]
        if any(_are_equal(counts[:, beside].toarray(), sums).any() for sums in _sums(block)):
            return first, last
    return 0, n_vars


def _blocks(counts: csr_matrix, ends: int) -> Iterator[tuple[int, int]]:
    """Yield the blocks for which it holds in the first cells, the largest first."""
    n_vars = counts.shape[1]
    left, right = counts[:, :ends].toarray(), counts[:, n_vars - ends :].toarray()[:, ::-1]
    whole, left_sums, right_sums = _sums(counts), _running(left), _running(right)
    sizes = sorted(((a, b) for a in range(ends + 1) for b in range(ends + 1)), key=sum)
    for a, b in sizes[1:]:
        beside = np.hstack([left[:, :a], right[:, :b]])
        for total, from_left, from_right in zip(whole, left_sums, right_sums, strict=True):
            if _are_equal(beside, total - from_left[:, a] - from_right[:, b]).any():
                yield a, n_vars - b
                break


def _sums_of_all_others(counts: csr_matrix) -> list[int]:
    """Return the columns, wherever they are, that hold the sums of all others or their numbers above 0."""
    found = []
    for per_cell, of_columns, power in zip(_sums(counts), _sums(counts.T.tocsr()), (1, 0), strict=True):
        totals = np.asarray(counts.sum(axis=0)).ravel()
        for column in np.flatnonzero(totals == of_columns.sum() - of_columns):
            own = counts[:, [column]].toarray()
            others = per_cell - (own.ravel() if power else (own.ravel() > 0))
            if _are_equal(own, others).any():
                found.append(int(column))
    return found


def _sums(counts: csr_matrix) -> Sequence[NDArray[np.float64]]:
    """Return the sums of the rows, and their numbers of values above 0."""
    return [np.asarray(some.sum(axis=1), dtype=np.float64).ravel() for some in (counts, counts > 0)]


def _running(columns: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """Return the same for the first columns: none, one, two..."""
    start = np.zeros((len(columns), 1))
    return [np.hstack([start, some.cumsum(axis=1, dtype=np.float64)]) for some in (columns, columns > 0)]


def _are_equal(columns: NDArray[np.float64], sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the columns that are the sums; sums that are all the same do not count."""
    if (sums == sums[:1]).all():
        return np.zeros(columns.shape[1], dtype=bool)
    return np.asarray((columns == sums[:, None]).all(axis=0))
