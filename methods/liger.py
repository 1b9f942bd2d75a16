"""LIGER: factors that batches share, beside factors of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.environments import run_inside
from cellular_bench.methods._support import require_batches, require_counts

if TYPE_CHECKING:
    from anndata import AnnData


class Liger:
    """LIGER by ``pyliger``: loadings of cells on metagenes that all batches share.

    Integrative non-negative matrix factorisation splits the expression of each batch into metagenes that
    all batches share and a deviation of the batch's own; the loadings of each batch are then brought to the
    quantiles of the largest one, cluster by cluster.

    Counts are divided by their sum over the genes that are given (the highly variable ones, in place of the
    library's own choice) and scaled by their root mean square, without centring. Genes that a batch does not
    express at all are left out.

    Parameters
    ----------
    n_factors
        Metagenes, the dimensions of the embedding; fewer where the smallest batch has no more cells.
    penalty
        Weight of the penalty on what is a batch's own (lambda): larger values align more.
    max_iter
        Most rounds of alternating least squares.
    n_quantiles, n_neighbors, min_cells
        Quantiles that are aligned; neighbours that vote on a cell's cluster; cells that a cluster needs in
        both batches to be aligned.
    seed
        Seed of the starting values.

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
        found = run_inside(self.spec, query=adata, seed=self.seed, params=self._params)
        return np.asarray(found.X_emb, dtype=np.float32)
