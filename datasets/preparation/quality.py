"""Quality of cells: four quantities, and the cells that are far from the others. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UserError

#: Median absolute deviations from the median beyond which a cell is an outlier in the CELLULAR study.
N_MADS = 5.0
#: Smallest number of cells that express a gene in the CELLULAR study.
MIN_CELLS = 20
#: Number of genes whose share of a cell's counts indicates a poor library.
N_TOP = 20
#: Beginning of the names of mitochondrial genes, in capitals: MT- in human, mt- in mouse.
MITOCHONDRIAL = "MT-"

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Measures of the quality of cells, all (n_obs,).

    Attributes
    ----------
    n_counts, n_genes
        Number of counts, and of genes with a count.
    top_share, mito_share
        Share, from 0 to 1, of the counts in the cell's 20 most abundant genes, and in mitochondrial genes. 0
        for a cell without counts.
    """

    n_counts: Array
    n_genes: Array
    top_share: Array
    mito_share: Array

    def compared(self) -> dict[str, Array]:
        """Return the quantities for comparisons between cells: numbers on a logarithmic scale."""
        return {
            "log1p counts": np.log1p(self.n_counts),
            "log1p genes": np.log1p(self.n_genes),
            f"share of top {N_TOP} genes": self.top_share,
            "mitochondrial share": self.mito_share,
        }


def measure(counts: Any, var_names: Sequence[str]) -> Quality:
    """Measure the cells of a matrix of counts.

    Parameters
    ----------
    counts
        (n_obs, n_vars) raw counts, sparse or dense.
    var_names
        (n_vars,) names of the genes; mitochondrial genes are recognised by their symbols.

    Examples
    --------
    >>> quality = measure([[6, 0, 2], [0, 0, 0]], ["ACTB", "GAPDH", "MT-CO1"])
    >>> quality.n_counts.tolist(), quality.n_genes.tolist(), quality.mito_share.tolist()
    ([8.0, 0.0], [2.0, 0.0], [0.25, 0.0])
    """
    from scipy import sparse

    matrix = sparse.csr_matrix(counts)
    totals = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    is_mito = np.array([str(name).upper().startswith(MITOCHONDRIAL) for name in var_names], dtype=bool)
    if len(is_mito) != matrix.shape[1]:
        raise UserError(f"Expected one name per gene, got {len(is_mito)} names for {matrix.shape[1]} genes.")
    mito = np.asarray(matrix[:, is_mito].sum(axis=1), dtype=np.float64).ravel()
    return Quality(
        n_counts=totals,
        n_genes=_expressed(matrix),
        top_share=_share(_top_counts(matrix, N_TOP), totals),
        mito_share=_share(mito, totals),
    )


def far_from_median(
    values: ArrayLike, *, n_mads: float = N_MADS, group: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Mark values more than ``n_mads`` median absolute deviations from the median of their group.

    The deviation is not scaled to a standard deviation. If most values of a group are equal it is 0, and
    every other value is marked.

    Parameters
    ----------
    values
        (n_obs,) values.
    n_mads
        Number of median absolute deviations.
    group
        (n_obs,) group of each value; None: one group.

    Returns
    -------
    (n_obs,) True for marked values.

    Examples
    --------
    >>> far_from_median([1, 2, 3, 4, 100], n_mads=5).tolist()
    [False, False, False, False, True]
    """
    numbers = np.asarray(values, dtype=np.float64)
    groups = np.zeros(len(numbers), dtype=int) if group is None else np.asarray(group)
    if numbers.shape != groups.shape:
        raise UserError(f"Expected one group per value, got {groups.shape} for {numbers.shape}.")
    marked = np.zeros(len(numbers), dtype=bool)
    for name in np.unique(groups):
        inside = groups == name
        distance = np.abs(numbers[inside] - np.median(numbers[inside]))
        marked[inside] = distance > n_mads * np.median(distance)
    return marked


def outliers(
    quality: Quality, *, n_mads: float = N_MADS, sample: ArrayLike | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Mark the cells that are far from the others of their sample, by each of the four quantities.

    The filter of the CELLULAR study: log1p counts, log1p genes, share of the top 20 genes, mitochondrial
    share. A cell is dropped if any of them marks it.

    Returns
    -------
    (n_obs,) masks by the name of the quantity.
    """
    return {
        name: far_from_median(values, n_mads=n_mads, group=sample)
        for name, values in quality.compared().items()
    }


def cells_per_gene(counts: Any) -> NDArray[np.int64]:
    """Return the number of cells in which each gene has a count, (n_vars,).

    Examples
    --------
    >>> cells_per_gene([[1, 0, 3], [0, 0, 1]]).tolist()
    [1, 0, 2]
    """
    from scipy import sparse

    matrix = sparse.csr_matrix(counts)
    seen = matrix.indices[matrix.data > 0]
    return np.bincount(seen, minlength=matrix.shape[1]).astype(np.int64)


def _expressed(matrix: Any) -> Array:
    before = np.concatenate([[0], np.cumsum(matrix.data > 0)])
    return np.asarray(np.diff(before[matrix.indptr]), dtype=np.float64)


def _top_counts(matrix: Any, n_top: int) -> Array:
    sums = np.empty(matrix.shape[0])
    for row, (start, end) in enumerate(zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)):
        values = matrix.data[start:end]
        cut = len(values) - n_top
        sums[row] = (np.partition(values, cut)[cut:] if cut > 0 else values).sum(dtype=np.float64)
    return sums


def _share(part: Array, whole: Array) -> Array:
    share: Array = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return share
