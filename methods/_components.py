"""Principal components of the training cells, and projections of other cells onto them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods._inputs import dense, sparse_rows

#: Number of cells that are made dense at a time.
BLOCK_CELLS = 20_000


def fit_pca(matrix: Any, *, n_components: int, seed: int) -> Any:
    """Fit a PCA by an exact solver (no random projection); columns are centred, not scaled.

    There are ``min(n_obs - 1, n_vars)`` components if that is fewer; with one cell it is not applicable.
    """
    from sklearn.decomposition import PCA

    n_obs, n_vars = matrix.shape
    if n_obs < 2:
        raise NotApplicableError(f"Principal components need at least 2 cells, got {n_obs}.")
    kept = min(n_components, n_obs - 1, n_vars)
    # The iterative solver cannot return all components of a small matrix; the full solver can.
    if min(n_obs, n_vars) <= 500:
        whole = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
        return PCA(kept, svd_solver="full").fit(whole.astype(np.float64))
    return PCA(kept, svd_solver="arpack", random_state=seed).fit(_in_double(matrix))


def _in_double(matrix: Any) -> Any:
    """Return a matrix in double precision; a csr matrix shares its indices with the source."""
    if getattr(matrix, "format", None) != "csr":
        return matrix.astype(np.float64)
    from scipy.sparse import csr_matrix

    values = matrix.data.astype(np.float64)
    return csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)


def project(pca: Any, matrix: Any) -> NDArray[np.float32]:
    """Project cells onto fitted components, (n_obs, n_components), one dense block of cells at a time."""
    scores = [
        np.asarray(
            pca.transform(dense(matrix[first : first + BLOCK_CELLS]).astype(np.float64)), dtype=np.float32
        )
        for first in range(0, matrix.shape[0], BLOCK_CELLS)
    ]
    return np.concatenate(scores)


def pca_scores(matrix: Any, *, n_components: int, seed: int) -> NDArray[np.float32]:
    """Embed cells by their own principal components, (n_obs, n_components).

    Unlike ``core.components.principal_components``, on which metrics rest, this computes in double
    precision and can return every component of a small matrix.
    """
    return project(fit_pca(matrix, n_components=n_components, seed=seed), matrix)


class ScaledComponents:
    """Principal components of genes that are scaled to unit standard deviation.

    Genes without variation are not scaled. Genes are centred by the decomposition and not before it, so
    that a sparse matrix stays sparse.
    """

    def __init__(self, X: Any, *, n_components: int, seed: int) -> None:
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler(with_mean=False).fit(sparse_rows(X))
        self._pca = fit_pca(self._scaler.transform(sparse_rows(X)), n_components=n_components, seed=seed)

    def scores(self, X: Any) -> NDArray[np.float32]:
        """Project cells onto the components, (n_obs, n_components)."""
        return project(self._pca, self._scaler.transform(sparse_rows(X)))
