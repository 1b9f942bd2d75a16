"""Multinomial naive Bayes on counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._classifier import ClassifierAnnotator
from cellular_bench.methods._support import require_counts

if TYPE_CHECKING:
    from anndata import AnnData


class NaiveBayes(ClassifierAnnotator):
    """Each label is a composition of genes, each cell a draw of counts from one of them.

    With thousands of counts per cell nearly all probabilities are 0 or 1 to the last digit. Novelty is
    therefore the natural logarithm of (1 - the highest probability), worked out without rounding, so
    that cells keep their order.

    Parameters
    ----------
    alpha
        Counts added to every gene of every label.
    seed
        Accepted for uniformity; nothing is drawn.
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
        """Count genes per label."""
        from sklearn.naive_bayes import MultinomialNB

        return MultinomialNB(alpha=self.alpha).fit(X, labels)

    def inputs(self, adata: AnnData) -> Any:
        """Return the counts."""
        return require_counts(adata, self.spec.method_id)

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells of the query."""
        from scipy.special import logsumexp

        prediction = super().predict(query)
        joint = self._classifier.predict_joint_log_proba(self.inputs(query))
        # Without its winner, a row sums to 1 - the highest probability.
        others = np.sort(joint, axis=1)[:, :-1]
        doubt = logsumexp(others, axis=1) - logsumexp(joint, axis=1)
        return replace(prediction, novelty=doubt)
