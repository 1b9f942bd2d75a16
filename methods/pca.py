"""Principal component analysis without batch correction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._components import pca_scores

if TYPE_CHECKING:
    from anndata import AnnData


class PCA:
    """Principal components of the scored cells, as in the CELLULAR study.

    Genes are centred, not scaled.

    Parameters
    ----------
    n_components
        Number of dimensions of the embedding; fewer if the data have fewer.
    seed
        Seed of the solver's initial vector.
    """

    spec = MethodSpec(
        method_id="pca",
        name="PCA",
        tasks=("integration",),
        description="Principal components of the log-normalised highly variable genes; no batch correction.",
        scaling="given",
        doi="10.1080/14786440109462720",
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, n_components: int = 50, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the principal components of the cells, (n_obs, n_components)."""
        return pca_scores(adata.X, n_components=self.n_components, seed=self.seed)
