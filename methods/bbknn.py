"""BBKNN: neighbours from every batch alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import Graph, MethodSpec
from cellular_bench.methods._support import (
    batches_of,
    principal_components,
    require_batches,
    unchanged_random_state,
)

if TYPE_CHECKING:
    from anndata import AnnData


class BBKNN:
    """Batch-balanced neighbours: a graph that links every cell to its nearest ones in each batch.

    Nothing is embedded, so metrics of coordinates have no value, and the row has no overall score.
    Neighbours are searched for exactly, whereas the library approximates them by default: what it
    finds then depends on the number of cores.

    Parameters
    ----------
    neighbors_within_batch
        Neighbours sought in every batch.
    n_components
        Principal components in which distances are measured; fewer where the data have no more.
    seed
        Seed of the solver of the principal components.

    Raises
    ------
    NotApplicableError
        If there is one batch, or a batch has fewer cells than neighbours are sought in it.
    """

    spec = MethodSpec(
        method_id="bbknn",
        name="BBKNN",
        tasks=("integration",),
        description="A graph of the 3 nearest cells in every batch; no coordinates.",
        needs_batches=True,
        doi="10.1093/bioinformatics/btz625",
        url="https://github.com/Teichlab/bbknn",
        license="MIT",
        requires=("bbknn", "sklearn"),
    )

    def __init__(self, *, neighbors_within_batch: int = 3, n_components: int = 50, seed: int = 0) -> None:
        self.neighbors_within_batch = neighbors_within_batch
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> Graph:
        """Return the links between the cells: UMAP's weights, and the distances."""
        from bbknn.matrix import bbknn

        require_batches(adata, self.spec.method_id)
        names, sizes = np.unique(batches_of(adata), return_counts=True)
        if sizes.min() < self.neighbors_within_batch:
            raise NotApplicableError(
                f"bbknn: batch '{names[sizes.argmin()]}' has {sizes.min()} cell(s), too few for "
                f"{self.neighbors_within_batch} neighbours in every batch. Leave such batches out."
            )
        scores = principal_components(adata.X, n_components=self.n_components, seed=self.seed)
        with unchanged_random_state():
            distances, connectivities, _ = bbknn(
                pca=scores,
                batch_list=batches_of(adata),
                neighbors_within_batch=self.neighbors_within_batch,
                n_pcs=scores.shape[1],
                computation="KDTree",
            )
        return Graph(connectivities=connectivities, distances=distances)
