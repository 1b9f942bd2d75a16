"""Principal components of expression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Components that the harness compares embeddings with.
N_COMPONENTS = 50


def principal_components(X: Any, *, n_components: int | None = None, seed: int = 0) -> NDArray[np.float32]:
    """Return the leading principal components of the cells, computed exactly.

    A sparse matrix is centred on the fly and never made dense, unless all its components are requested.

    Parameters
    ----------
    X
        (n_obs, n_vars) expression, sparse or dense. Genes are centred, not scaled.
    n_components
        Number of components; all of them if there are not more. None: 50, or one fewer than the smaller
        dimension of ``X``.
    seed
        Seed of the vector that the iteration (ARPACK) starts from.

    Returns
    -------
    (n_obs, n_components) scores; the same for the same matrix and seed.

    Examples
    --------
    >>> principal_components(np.eye(4), n_components=2).shape
    (4, 2)
    """
    from sklearn.decomposition import PCA

    limit = min(X.shape)
    if limit == 1:  # a single cell has no components, a single gene is its own
        dense = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float32)[:, :1]
        return np.asarray(dense - dense.mean(axis=0), dtype=np.float32)
    kept = min(N_COMPONENTS, limit - 1) if n_components is None else min(n_components, limit)
    if kept < limit:
        pca = PCA(kept, svd_solver="arpack", random_state=seed)
    else:  # the iterative solver cannot return every component
        X, pca = X.toarray() if hasattr(X, "toarray") else X, PCA(kept, svd_solver="full")
    return np.asarray(pca.fit_transform(X), dtype=np.float32)
