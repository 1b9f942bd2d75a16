"""SCALEX: an autoencoder whose decoder normalises each batch by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.environments import run_inside
from cellular_bench.methods._inputs import require_batches

if TYPE_CHECKING:
    from anndata import AnnData


class Scalex:
    """SCALEX (``scalex``): latent means of an autoencoder with batch normalisation per batch in its decoder.

    The encoder does not read the batch. As in the library, values are divided by the maximum of their gene
    in their batch, and cells are encoded in mini-batches of one batch each, whose means and variances
    normalise the hidden layer: the embedding of a cell depends on other cells of its batch.

    Parameters
    ----------
    max_iter
        Maximum number of mini-batches; training ends earlier after 10 epochs without a lower loss.
    batch_size
        Number of cells in a mini-batch; increased where one cell of a batch would remain alone.
    learning_rate
        Learning rate.
    seed
        Seed of weights and mini-batches.

    Raises
    ------
    NotApplicableError
        If all cells come from one batch, or a batch has one cell.
    """

    spec = MethodSpec(
        method_id="scalex",
        name="SCALEX",
        tasks=("integration",),
        description="Autoencoder with an encoder that reads no batch, and normalisation per batch.",
        needs_batches=True,
        doi="10.1038/s41467-022-33758-z",
        url="https://github.com/jsxlei/SCALEX",
        license="MIT",
        gpu=True,
        environment="scalex",
        program="scalex.py",
        check_params={"max_iter": 200},
    )

    def __init__(
        self,
        *,
        max_iter: int = 30000,
        batch_size: int = 64,
        learning_rate: float = 2e-4,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        self._params: dict[str, Any] = {
            "max_iter": max_iter,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
        }

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the latent mean of each cell, (n_obs, 10)."""
        require_batches(adata, self.spec.method_id)
        outputs = run_inside(self.spec, query=adata, seed=self.seed, params=self._params)
        return np.asarray(outputs.X_emb, dtype=np.float32)
