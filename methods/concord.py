"""CONCORD: contrastive learning in mini-batches that hold cells of one batch."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError
from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._scvi import bare
from cellular_bench.methods._session import session
from cellular_bench.methods._support import batches_of, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "X_concord"


class CONCORD:
    """CONCORD: cells are told from others of their own batch, so that batches need not be told apart.

    The encoder reads expression and nothing else; cells of unseen batches are embedded like any others.

    Parameters
    ----------
    n_latent
        Dimensions of the embedding.
    n_epochs
        Passes over the training cells.
    device
        Where it is trained, as torch calls it.
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
        self._genes = list(train.var_names)
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
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return what the encoder makes of each cell, (n_obs, n_latent)."""
        if self._model is None:
            raise ContractError("concord: embed was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        data = bare(query.X, query, batch=batches_of(query))
        with session(self.seed), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self._model.predict_adata(data, output_key=KEY, domain_key=BATCH)
        return np.asarray(data.obsm[KEY], dtype=np.float32)
