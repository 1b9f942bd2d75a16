"""Multinomial naive Bayes on counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._annotators import ClassifierAnnotator
from cellular_bench.methods._inputs import require_counts
from cellular_bench.methods._predictions import log_error_probability

if TYPE_CHECKING:
    from anndata import AnnData


class NaiveBayes(ClassifierAnnotator):
    """Multinomial naive Bayes: each label is a composition of genes from which counts are drawn.

    With thousands of counts per cell nearly all probabilities round to 0 or 1. Novelty is therefore the
    natural logarithm of (1 - the highest probability), computed without rounding, so that cells can still
    be ordered.

    Parameters
    ----------
    alpha
        Pseudocount added to every gene of every label.
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="naive_bayes",
        name="Naive Bayes",
        tasks=("annotation", "novelty"),
        description="Multinomial naive Bayes on the counts of the highly variable genes.",
        labels="train",
        reads="counts",
        inductive=True,
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, alpha: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.alpha = alpha
        self.seed = seed

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Estimate the composition of each label."""
        from sklearn.naive_bayes import MultinomialNB

        return MultinomialNB(alpha=self.alpha).fit(X, labels)

    def inputs(self, adata: AnnData) -> Any:
        """Return the counts."""
        return require_counts(adata, self.spec.method_id)

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        prediction = super().predict(query)
        joint = self._classifier.predict_joint_log_proba(self.inputs(query))
        return replace(prediction, novelty=log_error_probability(joint))
