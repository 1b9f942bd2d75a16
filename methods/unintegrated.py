"""No integration: the expression matrix itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._inputs import dense

if TYPE_CHECKING:
    from anndata import AnnData


class Unintegrated:
    """The log-normalised expression of the highly variable genes, one column per gene.

    This is the baseline of integration, as in the CELLULAR study.

    Parameters
    ----------
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="unintegrated",
        name="Unintegrated",
        tasks=("integration",),
        description="The log-normalised matrix of the highly variable genes, without correction.",
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return ``X`` as a dense matrix, (n_obs, n_vars)."""
        return dense(adata.X)
