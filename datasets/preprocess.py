"""Normalisation of counts: pure functions that do not modify their input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import TARGET_SUM

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Number of cells that are normalised in double precision at a time.
BLOCK_CELLS = 20_000


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
        If a cell has no counts.

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
    """Return ``log1p`` of counts divided by the size factor of the cell.

    Parameters
    ----------
    counts
        (n_obs, n_vars) raw counts, sparse or dense.
    size_factors
        (n_obs,) positive divisors.

    Returns
    -------
    (n_obs, n_vars) float32, sparse.

    Examples
    --------
    >>> np.expm1(log1p_of_scaled([[1, 0, 3]], np.array([0.5])).toarray()).round().tolist()
    [[2.0, 0.0, 6.0]]
    """
    from scipy import sparse

    return _log1p_of_products(sparse.csr_matrix(counts), 1 / size_factors)


def _log1p_of_products(counts: csr_matrix, per_cell: NDArray[np.float64]) -> csr_matrix:
    """Compute in double precision for some cells at a time, to save memory."""
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
