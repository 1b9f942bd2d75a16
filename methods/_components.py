"""Principal components of genes that count the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.methods._support import fit_pca, project, sparse_rows


class ScaledComponents:
    """Principal components of some cells, each gene scaled to its standard deviation among them.

    Genes that do not vary stay as they are. Nothing is centred before the decomposition, which centres by
    itself, so that a sparse matrix stays sparse.

    Parameters
    ----------
    X
        (n_obs, n_vars) expression of the cells.
    n_components
        Wanted number of components; fewer where the data have no more.
    seed
        Seed of the solver's starting vector.
    """

    def __init__(self, X: Any, *, n_components: int, seed: int) -> None:
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler(with_mean=False).fit(sparse_rows(X))
        self._pca = fit_pca(self._scaler.transform(sparse_rows(X)), n_components=n_components, seed=seed)

    def scores(self, X: Any) -> NDArray[np.float32]:
        """Project cells on the components, (n_obs, n_components)."""
        return project(self._pca, self._scaler.transform(sparse_rows(X)))
