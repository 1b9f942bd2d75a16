"""Nearest centroid by correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._correlation import standardised_rows
from cellular_bench.methods._support import dense, labels_of, require_labels, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData


class NearestCentroid:
    """The label whose mean expression profile correlates best with the cell.

    The simplest annotator that looks at the data. Novelty is 1 - the best correlation, so a cell
    unlike every profile is novel whatever the differences between the profiles. A cell that
    expresses none of the genes correlates 0 with everything.

    Parameters
    ----------
    seed
        Accepted for uniformity; nothing is drawn.
    """

    spec = MethodSpec(
        method_id="nearest_centroid",
        name="Nearest centroid",
        tasks=("annotation", "novelty"),
        description="Pearson correlation with the mean log-normalised profile of each label.",
        labels="train",
        inductive=True,
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._labels: NDArray[np.str_] | None = None

    def fit(self, train: AnnData) -> Self:
        """Average the training cells of each label."""
        label = labels_of(train)
        require_labels(label, self.spec.method_id, at_least=1)
        X = dense(train.X)
        self._genes = list(train.var_names)
        self._labels = np.unique(label)
        self._profiles = standardised_rows(np.stack([X[label == name].mean(axis=0) for name in self._labels]))
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Correlate each cell with each profile."""
        if self._labels is None:
            raise ContractError("nearest_centroid: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        correlation = standardised_rows(dense(query.X)) @ self._profiles.T
        best = correlation.argmax(axis=1)
        return Prediction(
            label_pred=self._labels[best],
            novelty=1.0 - correlation.max(axis=1),
        )
