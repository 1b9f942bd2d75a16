"""LIGER: factors that all batches share, and factors specific to each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.environments import run_inside
from cellular_bench.methods._inputs import require_batches, require_counts

if TYPE_CHECKING:
    from anndata import AnnData


class Liger:
    """LIGER (``pyliger``): loadings of cells on metagenes that all batches share.

    Integrative non-negative matrix factorisation decomposes the expression of each batch into metagenes
    that all batches share and a batch-specific deviation. The loadings of each batch are then aligned to
    the quantiles of the largest batch, cluster by cluster.

    Counts are divided by their sum over the given genes (the highly variable genes, in place of the
    library's own selection) and scaled by their root mean square, without centring. Genes that a batch does
    not express at all are left out.

    Parameters
    ----------
    n_factors
        Number of metagenes (dimensions of the embedding); reduced if it is not below the number of cells in
        the smallest batch.
    penalty
        Weight of the penalty on batch-specific deviations (lambda): larger values align batches more.
    max_iter
        Maximum number of rounds of alternating least squares.
    n_quantiles
        Number of quantiles that are aligned.
    n_neighbors
        Number of neighbours that vote on the cluster of a cell.
    min_cells
        Number of cells that a cluster needs in both batches to be aligned.
    seed
        Seed of the initial values.

    Raises
    ------
    NotApplicableError
        If all cells come from one batch, a batch has fewer than four cells, or there are no counts.
    """

    spec = MethodSpec(
        method_id="liger",
        name="LIGER",
        tasks=("integration",),
        description="Integrative non-negative matrix factorisation; loadings aligned by quantiles.",
        reads="counts",
        needs_batches=True,
        doi="10.1016/j.cell.2019.05.006",
        url="https://github.com/welch-lab/pyliger",
        license="GPL-3.0-only",
        environment="liger",
        program="liger.py",
    )

    def __init__(
        self,
        *,
        n_factors: int = 20,
        penalty: float = 5.0,
        max_iter: int = 30,
        n_quantiles: int = 50,
        n_neighbors: int = 20,
        min_cells: int = 20,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        self._params: dict[str, Any] = {
            "n_factors": n_factors,
            "penalty": penalty,
            "max_iter": max_iter,
            "n_quantiles": n_quantiles,
            "n_neighbors": n_neighbors,
            "min_cells": min_cells,
        }

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the aligned loadings, (n_obs, n_factors)."""
        require_batches(adata, self.spec.method_id)
        require_counts(adata, self.spec.method_id)
        outputs = run_inside(self.spec, query=adata, seed=self.seed, params=self._params)
        return np.asarray(outputs.X_emb, dtype=np.float32)
