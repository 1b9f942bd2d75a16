"""Principal components of the training cells, and projections of other cells onto them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.scaling import Scaling
from cellular_bench.methods._inputs import dense

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
    """Principal components of genes that are scaled to unit variance.

    Genes without variation are 0. A sparse matrix stays sparse.

    Parameters
    ----------
    clip
        Largest absolute value of a scaled gene; None does not clip.
    """

    def __init__(self, X: Any, *, n_components: int, seed: int, clip: float | None = None) -> None:
        n_obs, n_vars = X.shape
        if n_obs < 2:
            raise NotApplicableError(f"Principal components need at least 2 cells, got {n_obs}.")
        self._scaling = Scaling.fit(X, clip=clip)
        self._loadings = _loadings(
            self._scaling, X, n_components=min(n_components, n_obs - 1, n_vars), seed=seed
        )

    def scores(self, X: Any, *, clipped: bool = True) -> NDArray[np.float32]:
        """Project cells onto the components, (n_obs, n_components), by default with clipped genes."""
        scaling = self._scaling if clipped else replace(self._scaling, clip=None)
        values, zeros = scaling.apply_sparse(X)
        return np.asarray(values @ self._loadings + zeros @ self._loadings, dtype=np.float32)


def _loadings(scaling: Scaling, X: Any, *, n_components: int, seed: int) -> NDArray[np.float64]:
    """Return the right singular vectors of scaled cells, (n_vars, n_components), largest first."""
    from scipy.sparse.linalg import LinearOperator, svds

    if min(X.shape) <= 500:  # the iterative solver cannot return all components of a small matrix
        right = np.linalg.svd(scaling.apply(X).astype(np.float64), full_matrices=False)[2][:n_components]
    else:
        values, zeros = scaling.apply_sparse(X)
        operator = LinearOperator(
            X.shape,
            matvec=lambda v: values @ np.ravel(v) + zeros @ np.ravel(v),
            rmatvec=lambda v: values.T @ np.ravel(v) + zeros * v.sum(),
            dtype=np.float64,
        )
        start = np.random.default_rng(seed).uniform(-1.0, 1.0, min(X.shape))
        right = svds(operator, n_components, v0=start, return_singular_vectors="vh")[2][::-1]
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    return np.asarray(right * signs[:, None], dtype=np.float64).T
