"""k nearest neighbours in a joint Harmony embedding of training and query cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._components import pca_scores
from cellular_bench.methods._inputs import batches_of, labels_of, sparse_rows
from cellular_bench.methods._predictions import most_probable, nearest_voters
from cellular_bench.methods.harmony import run_harmony

if TYPE_CHECKING:
    from anndata import AnnData


class HarmonyKNN(TransductiveAnnotator):
    """Vote of the nearest training cells in a joint Harmony embedding of training and query cells.

    Transductive: principal components and Harmony also use the expression and the batches of the query
    (never its labels), so a cell's label depends on the other cells of the query. If there is only one
    batch in total, nothing is corrected. A query without batches counts as a separate batch.

    Parameters
    ----------
    n_neighbors
        Number of neighbours that vote; at most the number of training cells.
    n_components
        Number of principal components for Harmony.
    theta
        Harmony's diversity penalty. None: the library's.
    seed
        Seed of the principal components and of Harmony.
    """

    spec = MethodSpec(
        method_id="harmony_knn",
        name="Harmony + kNN",
        tasks=("annotation", "novelty"),
        description="Vote of the 15 nearest training cells in a joint Harmony embedding of all cells.",
        labels="train",
        scaling="given",
        inductive=False,
        doi="10.1038/s41592-019-0619-0",
        url="https://github.com/slowkow/harmonypy",
        license="GPL-3.0-or-later",
        requires=("harmonypy", "scipy", "sklearn"),
    )

    def __init__(
        self, *, n_neighbors: int = 15, n_components: int = 50, theta: float | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.theta = theta
        self.seed = seed

    def predict(self, query: AnnData) -> Prediction:
        """Embed all cells together and predict the labels of the query."""
        from scipy.sparse import vstack

        train = self.training_cells(query)
        X = vstack([sparse_rows(train.X), sparse_rows(query.X)], format="csr")
        scores = pca_scores(X, n_components=self.n_components, seed=self.seed)
        batches = np.concatenate([batches_of(train), batches_of(query)])
        embedding = run_harmony(scores, batches, theta=self.theta, seed=self.seed).Z_corr
        voters = nearest_voters(embedding[: train.n_obs], labels_of(train), n_neighbors=self.n_neighbors)
        return most_probable(voters.predict_proba(embedding[train.n_obs :]), voters.classes_)
