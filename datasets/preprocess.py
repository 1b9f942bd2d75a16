"""Normalisation and selection of genes: pure functions that leave their input as it is."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import TARGET_SUM

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Cells that are normalised in double precision at a time.
BLOCK_CELLS = 20_000
#: Highly variable genes that the CELLULAR study uses.
N_TOP_GENES = 2000


def normalise(counts: Any) -> csr_matrix:
    """Log-normalised expression: ``log1p`` of counts per 10,000 counts of the cell.

    Parameters
    ----------
    counts
        (n_obs, n_vars) raw counts, sparse or dense.

    Returns
    -------
    (n_obs, n_vars) float32, sparse; natural logarithm. Zero where the count is zero.

    Raises
    ------
    UserError
        If a cell has no counts, because it has no composition.

    Examples
    --------
    >>> np.expm1(normalise([[1, 0, 3]]).toarray()).round().tolist()
    [[2500.0, 0.0, 7500.0]]
    """
    from scipy import sparse

    matrix = sparse.csr_matrix(counts)
    totals = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    if not (totals > 0).all():
        raise UserError(f"{int((totals <= 0).sum())} cells have no counts; remove them before normalising.")
    return _log1p_of_products(matrix, TARGET_SUM / totals)


def log1p_of_scaled(counts: Any, size_factors: NDArray[np.float64]) -> csr_matrix:
    """Return ``log1p`` of the counts of each cell, divided by its size factor: sparse float32.

    Examples
    --------
    >>> np.expm1(log1p_of_scaled([[1, 0, 3]], np.array([0.5])).toarray()).round().tolist()
    [[2.0, 0.0, 6.0]]
    """
    from scipy import sparse

    return _log1p_of_products(sparse.csr_matrix(counts), 1 / size_factors)


def _log1p_of_products(counts: csr_matrix, per_cell: NDArray[np.float64]) -> csr_matrix:
    """Work in double precision for some cells at a time: a large matrix is never held twice in it."""
    from scipy import sparse

    matrix = counts if counts.has_canonical_format else counts.copy()
    matrix.sum_duplicates()
    values = np.empty(matrix.nnz, dtype=np.float32)
    for first in range(0, matrix.shape[0], BLOCK_CELLS):
        starts = matrix.indptr[first : first + BLOCK_CELLS + 1]
        factors = np.repeat(per_cell[first : first + len(starts) - 1], np.diff(starts))
        inside = slice(starts[0], starts[-1])
        values[inside] = np.log1p(matrix.data[inside].astype(np.float64) * factors)
    return sparse.csr_matrix((values, matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape)


def highly_variable(adata_train: AnnData, *, n_top_genes: int = N_TOP_GENES) -> NDArray[np.bool_]:
    """Genes whose dispersion stands out among genes of similar mean, in the training cells.

    scanpy's ``flavor="cell_ranger"`` on ``X``, as in the CELLULAR study, after genes that no
    training cell expresses are set aside (they make scanpy fail). Where so many genes share one mean
    that scanpy cannot bin them by it, or every bin holds equal dispersions, the dispersions are compared
    without bins.

    Parameters
    ----------
    adata_train
        Training cells; ``X`` log-normalised. Not altered.
    n_top_genes
        How many genes to choose; if not more are expressed, all expressed genes.

    Returns
    -------
    (n_vars,) True for the chosen genes: exactly ``min(n_top_genes, expressed genes)`` of them; of genes
    that tie, those that come first.

    Raises
    ------
    UserError
        If ``n_top_genes`` is below 1, or no gene is expressed.

    References
    ----------
    Zheng et al. 2017, https://doi.org/10.1038/ncomms14049.
    """
    if n_top_genes < 1:
        raise UserError(f"n_top_genes must be at least 1, came {n_top_genes}.")
    expressed = np.asarray((adata_train.X > 0).sum(axis=0)).ravel() > 0
    if not expressed.any():
        raise UserError("No gene is expressed in the training cells.")
    if expressed.sum() <= n_top_genes:
        return expressed
    chosen = np.zeros(adata_train.n_vars, dtype=bool)
    ranked = np.flatnonzero(expressed)[_by_dispersion(adata_train.X[:, expressed])]
    chosen[ranked[:n_top_genes]] = True
    return chosen


def _by_dispersion(lognorm: Any) -> NDArray[np.intp]:
    """Order of the genes, the most variable first; ties by position, so that the order is one."""
    dispersion = _normalised_dispersion(lognorm)
    # NaN (a bin of equal dispersions) sorts last, as scanpy has it.
    return np.argsort(-dispersion, kind="stable")


def _normalised_dispersion(lognorm: Any) -> NDArray[np.float64]:
    import scanpy as sc
    from anndata import AnnData

    with warnings.catch_warnings():
        # Bins of equal dispersions divide by zero; such genes rank last.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            # Without n_top_genes: with it scanpy fails where no dispersion can be normalised.
            table = sc.pp.highly_variable_genes(AnnData(lognorm), flavor="cell_ranger", inplace=False)
        except ValueError as error:
            if "Bin edges must be unique" not in str(error):
                raise
            return _dispersion(lognorm)
    normalised = np.asarray(table["dispersions_norm"], dtype=np.float64)
    return _dispersion(lognorm) if np.isnan(normalised).all() else normalised


def _dispersion(lognorm: Any) -> NDArray[np.float64]:
    mean = np.asarray(lognorm.mean(axis=0), dtype=np.float64).ravel()
    squares = lognorm.multiply(lognorm) if hasattr(lognorm, "multiply") else lognorm**2
    variance = np.asarray(squares.mean(axis=0), dtype=np.float64).ravel() - mean**2
    return np.asarray(variance / mean, dtype=np.float64)
