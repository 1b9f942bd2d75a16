"""k nearest neighbours in a Harmony embedding of training and query cells together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from cellular_bench.core.errors import ContractError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._classifier import nearest_voters
from cellular_bench.methods._support import (
    batches_of,
    labels_of,
    most_probable,
    principal_components,
    require_labels,
    require_same_genes,
    sparse_rows,
)
from cellular_bench.methods.harmony import run_harmony

if TYPE_CHECKING:
    from anndata import AnnData


class HarmonyKNN:
    """Vote of the nearest training cells after Harmony has mixed them with the cells to be named.

    Transductive: principal components and Harmony look at the expression and the batches of the query
    too, never at its labels, so that a cell's label depends on the other cells of the query. With one
    batch in all, nothing is corrected. A query without batches is a batch of its own.

    Parameters
    ----------
    n_neighbors
        Voters per cell; all training cells where there are fewer.
    n_components
        Principal components that go into Harmony.
    theta
        Harmony's diversity penalty.
    seed
        Seed of the principal components and of Harmony.
    """

    spec = MethodSpec(
        method_id="harmony_knn",
        name="Harmony + kNN",
        tasks=("annotation", "novelty"),
        description="Vote of the 15 nearest training cells in a Harmony embedding of all cells.",
        labels="train",
        inductive=False,
        doi="10.1038/s41592-019-0619-0",
        url="https://github.com/slowkow/harmonypy",
        license="GPL-3.0-or-later",
        requires=("harmonypy", "scipy", "sklearn"),
    )

    def __init__(
        self, *, n_neighbors: int = 15, n_components: int = 50, theta: float = 2.0, seed: int = 0
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.theta = theta
        self.seed = seed
        self._train: AnnData | None = None

    def fit(self, train: AnnData) -> Self:
        """Keep the training cells: there is nothing to learn without the query."""
        require_labels(labels_of(train), self.spec.method_id)
        self._train = train.copy()
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Embed all cells together, and name those of the query."""
        from scipy.sparse import vstack

        train = self._train
        if train is None:
            raise ContractError("harmony_knn: predict was called before fit. Call fit first.")
        require_same_genes(query, list(train.var_names), self.spec.method_id)
        X = vstack([sparse_rows(train.X), sparse_rows(query.X)], format="csr")
        scores = principal_components(X, n_components=self.n_components, seed=self.seed)
        batches = np.concatenate([batches_of(train), batches_of(query)])
        embedding = run_harmony(scores, batches, theta=self.theta, seed=self.seed).Z_corr
        voters = nearest_voters(embedding[: train.n_obs], labels_of(train), n_neighbors=self.n_neighbors)
        return most_probable(voters.predict_proba(embedding[train.n_obs :]), voters.classes_)
