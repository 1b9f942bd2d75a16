"""Nearest label centroid by correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._correlation import standardised_rows
from cellular_bench.methods._inputs import dense, require_fitted, require_labels

if TYPE_CHECKING:
    from anndata import AnnData


class NearestCentroid:
    """The label whose mean expression profile has the highest correlation with the cell.

    This is the simplest annotator that uses the data. Novelty is 1 - the highest correlation, so a cell
    unlike all profiles is novel, no matter how the profiles differ. A cell that expresses none of the genes
    has correlation 0 with every profile.

    Parameters
    ----------
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="nearest_centroid",
        name="Nearest centroid",
        tasks=("annotation", "novelty"),
        description="Pearson correlation with the mean log-normalised profile of each label.",
        labels="train",
        scaling="given",
        inductive=True,
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Average the training cells of each label."""
        label = require_labels(train, self.spec.method_id, at_least=1)
        X = dense(train.X)
        self._labels = np.unique(label)
        self._profiles = standardised_rows(np.stack([X[label == name].mean(axis=0) for name in self._labels]))
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        require_fitted(query, self._genes, self.spec.method_id)
        correlation = standardised_rows(dense(query.X)) @ self._profiles.T
        best = correlation.argmax(axis=1)
        return Prediction(
            label_pred=self._labels[best],
            novelty=1.0 - correlation.max(axis=1),
        )
