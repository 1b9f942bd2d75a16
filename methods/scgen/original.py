"""scGen as its authors distribute it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._inputs import require_batches
from cellular_bench.methods.scgen.adapter import ScGenPaper

if TYPE_CHECKING:
    from anndata import AnnData


class ScGenOriginal(TransductiveAnnotator):
    """scGen 2.1.0, the authors' package: batches of the query are removed with its true labels.

    The procedure of :class:`ScGenPaper`, which is its reimplementation. Like that row, it needs the labels
    that it is scored on. Network and training are the package's, with the parameters of the CELLULAR study.
    The embedding is encoded from the corrected expression, which itself is not returned. The network is
    trained in :meth:`embed`.

    Parameters
    ----------
    n_hidden
        Number of units in each hidden layer.
    n_latent
        Number of latent dimensions.
    max_epochs
        Maximum number of passes over the training cells.
    patience
        Number of epochs without a better validation loss after which training ends.
    seed
        Seed of all random numbers.

    Raises
    ------
    NotApplicableError
        If the training cells or the query come from one batch, or if no type is in two batches of the query.
    """

    spec = replace(
        ScGenPaper.spec,
        method_id="scgen_original",
        name="scGen 2.1.0, authors' package (true labels)",
        description="The authors' package; types, taken from the labels that are scored, are aligned.",
        is_reimplementation=False,
        license="GPL-3.0-only",
        requires=(),
        environment="scgen_original",
        program="scgen_original.py",
        check_params={"max_epochs": 100, "n_hidden": 100},
        warm_up=0,
    )

    def __init__(
        self,
        *,
        n_hidden: int = 800,
        n_latent: int = 100,
        max_epochs: int = 100,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.seed = seed
        self._params: dict[str, Any] = {
            "n_hidden": n_hidden,
            "n_latent": n_latent,
            "max_epochs": max_epochs,
            "patience": patience,
        }

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Train the autoencoder and return the embedding of the corrected query, (n_obs, n_latent)."""
        train = self.training_cells(query)
        for cells in (train, query):
            require_batches(cells, self.spec.method_id)
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=self._params)
        return np.asarray(outputs.X_emb, dtype=np.float32)
