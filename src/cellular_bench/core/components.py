"""Principal components of expression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

N_COMPONENTS = 50


def principal_components(X: Any) -> NDArray[np.float32]:
    """Return up to 50 principal components of a sparse or dense matrix; exact and deterministic."""
    from sklearn.decomposition import PCA

    if min(X.shape) == 1:  # a single cell has no components, a single gene is its own
        dense = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float32)[:, :1]
        return np.asarray(dense - dense.mean(axis=0), dtype=np.float32)
    n_components = min(N_COMPONENTS, min(X.shape) - 1)
    pca = PCA(n_components=n_components, svd_solver="arpack", random_state=0)
    return np.asarray(pca.fit_transform(X), dtype=np.float32)
