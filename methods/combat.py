"""ComBat: a linear model of location and scale per gene and batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import Corrected, MethodSpec
from cellular_bench.methods._support import batches_of, dense, principal_components, require_batches

if TYPE_CHECKING:
    from anndata import AnnData


class ComBat:
    """Expression from which ComBat removed the batches, and its principal components.

    Gene-wise batch means and variances are shrunk by empirical Bayes. No covariate protects the cell
    types, so types that are spread unevenly over the batches are partly removed with them.

    Parameters
    ----------
    n_components
        Dimensions of the embedding; fewer where the data have no more.
    seed
        Seed of the solver of the principal components.

    Raises
    ------
    NotApplicableError
        If there is one batch, or a batch of one cell, which has no variance.
    """

    spec = MethodSpec(
        method_id="combat",
        name="ComBat",
        tasks=("integration",),
        description="Empirical Bayes correction of batch means and variances per gene, then PCA.",
        needs_batches=True,
        doi="10.1093/biostatistics/kxj037",
        version=2,
        url="https://scanpy.readthedocs.io",
        license="BSD-3-Clause",
        requires=("scanpy", "sklearn"),
    )

    def __init__(self, *, n_components: int = 50, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> Corrected:
        """Return the corrected expression, and principal components of it, (n_obs, n_components)."""
        import scanpy as sc
        from anndata import AnnData

        require_batches(adata, self.spec.method_id)
        names, sizes = np.unique(batches_of(adata), return_counts=True)
        if sizes.min() < 2:
            raise NotApplicableError(
                f"combat: batch '{names[sizes.argmin()]}' has one cell, and one cell has no variance. "
                f"Leave such batches out."
            )
        bare = AnnData(dense(adata.X), obs=adata.obs[[BATCH]].copy(), var=adata.var[[]].copy())
        corrected = sc.pp.combat(bare, key=BATCH, inplace=False)
        scores = principal_components(corrected, n_components=self.n_components, seed=self.seed)
        return Corrected(X=corrected, X_emb=scores)
