"""BBKNN: the same number of neighbours from every batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import Graph, MethodSpec
from cellular_bench.methods._components import pca_scores
from cellular_bench.methods._inputs import batches_of, require_batches
from cellular_bench.methods._session import unchanged_random_state

if TYPE_CHECKING:
    from anndata import AnnData


class BBKNN:
    """Batch-balanced nearest neighbours: a graph that links every cell to its nearest cells in each batch.

    There is no embedding, so metrics of coordinates are undefined and the method has no overall score.
    Neighbours are exact. The library approximates them by default, with results that depend on the number
    of cores.

    Parameters
    ----------
    neighbors_within_batch
        Number of neighbours in every batch.
    n_components
        Number of principal components in which distances are measured; fewer if the data have fewer.
    seed
        Seed of the principal components' solver.

    Raises
    ------
    NotApplicableError
        If there is one batch, or a batch has fewer cells than ``neighbors_within_batch``.
    """

    spec = MethodSpec(
        method_id="bbknn",
        name="BBKNN",
        tasks=("integration",),
        description="Graph of the 3 nearest cells in every batch; no coordinates.",
        scaling="given",
        needs_batches=True,
        doi="10.1093/bioinformatics/btz625",
        url="https://github.com/Teichlab/bbknn",
        license="MIT",
        requires=("bbknn", "sklearn"),
        warm_up=240,
    )

    def __init__(self, *, neighbors_within_batch: int = 3, n_components: int = 50, seed: int = 0) -> None:
        self.neighbors_within_batch = neighbors_within_batch
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> Graph:
        """Return the graph of all cells: UMAP weights and distances."""
        require_batches(adata, self.spec.method_id)
        names, sizes = np.unique(batches_of(adata), return_counts=True)
        if sizes.min() < self.neighbors_within_batch:
            raise NotApplicableError(
                f"bbknn: batch '{names[sizes.argmin()]}' has {sizes.min()} cell(s), too few for "
                f"{self.neighbors_within_batch} neighbours in every batch. Leave such batches out."
            )
        scores = pca_scores(adata.X, n_components=self.n_components, seed=self.seed)
        with unchanged_random_state():
            from bbknn.matrix import bbknn

            distances, connectivities, _ = bbknn(
                pca=scores,
                batch_list=batches_of(adata),
                neighbors_within_batch=self.neighbors_within_batch,
                n_pcs=scores.shape[1],
                computation="KDTree",
            )
        return Graph(connectivities=connectivities, distances=distances)
