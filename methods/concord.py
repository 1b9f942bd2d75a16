"""CONCORD: contrastive learning in mini-batches of cells from one batch."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._inputs import batches_of, require_fitted
from cellular_bench.methods._scvi import bare
from cellular_bench.methods._session import session

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "X_concord"


class CONCORD:
    """CONCORD: each cell is contrasted with cells of its own batch, so batch differences are not learned.

    The encoder reads only expression; cells of unseen batches are embedded like any others.

    Parameters
    ----------
    n_latent
        Number of dimensions of the embedding.
    n_epochs
        Number of passes over the training cells.
    device
        torch device used for training.
    seed
        Seed of weights, masks and mini-batches.
    """

    spec = MethodSpec(
        method_id="concord",
        name="CONCORD",
        tasks=("integration",),
        description="Contrastive encoder trained in mini-batches of one batch; embeds unseen cells.",
        inductive=True,
        doi="10.1101/2025.03.13.643146",
        url="https://github.com/Gartner-Lab/Concord",
        license="MIT",
        requires=("concord",),
        check_params={"n_epochs": 3},
        warm_up=240,
    )

    def __init__(
        self, *, n_latent: int = 100, n_epochs: int = 15, device: str = "cpu", seed: int = 0
    ) -> None:
        self.n_latent = n_latent
        self.n_epochs = n_epochs
        self.device = device
        self.seed = seed
        self._model: Any = None
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Train on the log-normalised training cells."""
        data = bare(train.X, train, batch=batches_of(train))
        with session(self.seed), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            import concord
            import torch

            self._model = concord.Concord(
                data,
                save_dir=None,
                seed=self.seed,
                domain_key=BATCH,
                latent_dim=self.n_latent,
                n_epochs=self.n_epochs,
                device=torch.device(self.device),
                num_workers=0,
            )
            self._model.init_model()
            self._model.train(save_model=False)
        self._genes = list(train.var_names)
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the encoder's output for each cell, (n_obs, n_latent)."""
        require_fitted(query, self._genes, self.spec.method_id)
        data = bare(query.X, query, batch=batches_of(query))
        with session(self.seed), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self._model.predict_adata(data, output_key=KEY, domain_key=BATCH)
        return np.asarray(data.obsm[KEY], dtype=np.float32)
