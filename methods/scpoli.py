"""scPoli: a conditional autoencoder with embeddings of batches and prototypes of cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._inputs import require_counts
from cellular_bench.methods._predictions import returned_prediction

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.outputs import Outputs


class ScPoli(TransductiveAnnotator):
    """scPoli (``scarches``): latent means of cells, and the types of the nearest prototypes.

    An autoencoder of counts is conditioned on a learned embedding of each batch. In the last tenth of the
    epochs, cells are also drawn to the prototype of their type, which is the mean of its cells in the latent
    space. If the query has batches that were not in training, embeddings of these are trained on the query,
    without its labels and with the rest of the network fixed. Cells of known batches do not depend on the
    rest of the query. The program trains in :meth:`embed` and :meth:`predict`.

    Probabilities are proportional to exp(-distance to the prototype); novelty is the distance to the nearest
    one, the authors' uncertainty.

    Parameters
    ----------
    n_latent
        Number of dimensions of the embedding of cells.
    n_embedding
        Number of dimensions of the embedding of batches.
    max_epochs
        Number of passes over the training cells.
    query_epochs
        Number of passes over the query if it has new batches.
    eta
        Weight of the prototype loss.
    seed
        Seed of weights, mini-batches and held-out cells.

    Raises
    ------
    NotApplicableError
        If there are no counts, one label, or no label with 10 training cells.
    """

    spec = MethodSpec(
        method_id="scpoli",
        name="scPoli",
        tasks=("integration", "annotation", "novelty"),
        description="Autoencoder conditioned on embeddings of batches, with prototypes of cell types.",
        labels="train",
        reads="counts",
        inductive=True,
        doi="10.1038/s41592-023-02035-2",
        url="https://github.com/theislab/scarches",
        license="MIT",
        gpu=True,
        environment="scpoli",
        program="scpoli.py",
        check_params={"max_epochs": 20, "query_epochs": 3},
    )

    def __init__(
        self,
        *,
        n_latent: int = 10,
        n_embedding: int = 10,
        max_epochs: int = 100,
        query_epochs: int = 100,
        eta: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.seed = seed
        self._params: dict[str, Any] = {
            "n_latent": n_latent,
            "n_embedding": n_embedding,
            "max_epochs": max_epochs,
            "query_epochs": query_epochs,
            "eta": eta,
        }

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the latent mean of each cell, (n_obs, n_latent)."""
        return np.asarray(self._run(query).X_emb, dtype=np.float32)

    def predict(self, query: AnnData) -> Prediction:
        """Predict the type of the nearest prototype."""
        outputs = self._run(query)
        return returned_prediction(outputs)

    def _run(self, query: AnnData) -> Outputs:
        train = self.training_cells(query)
        for cells in (train, query):
            require_counts(cells, self.spec.method_id)
        return run_inside(self.spec, train=train, query=query, seed=self.seed, params=self._params)
