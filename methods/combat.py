"""ComBat: a linear model of the location and scale of each gene in each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import Corrected, MethodSpec
from cellular_bench.methods._components import pca_scores
from cellular_bench.methods._inputs import batches_of, dense, require_batches

if TYPE_CHECKING:
    from anndata import AnnData


class ComBat:
    """Expression corrected by ComBat, and its principal components.

    Batch means and variances of each gene are shrunk by empirical Bayes. No covariate protects the cell
    types, so types that are distributed unevenly over the batches are partly removed with them.

    Parameters
    ----------
    n_components
        Number of dimensions of the embedding; fewer if the data have fewer.
    seed
        Seed of the principal components' solver.

    Raises
    ------
    NotApplicableError
        If there is one batch, or a batch with a single cell, which has no variance.
    """

    spec = MethodSpec(
        method_id="combat",
        name="ComBat",
        tasks=("integration",),
        description="Empirical Bayes correction of batch means and variances per gene, then PCA.",
        scaling="given",
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
        """Return the corrected expression (n_obs, n_vars) and its principal components."""
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
        scores = pca_scores(corrected, n_components=self.n_components, seed=self.seed)
        return Corrected(X=corrected, X_emb=scores)
