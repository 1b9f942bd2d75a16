"""Multinomial logistic regression on log-normalised expression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._annotators import ClassifierAnnotator


class LogisticRegression(ClassifierAnnotator):
    """Linear classifier with ridge penalty and softmax probabilities.

    Parameters
    ----------
    C
        Inverse strength of the penalty.
    max_iter
        Maximum number of iterations of the solver.
    seed
        Not used; the solver has no randomness.
    """

    spec = MethodSpec(
        method_id="logistic_regression",
        name="Logistic regression",
        tasks=("annotation", "novelty"),
        description="Ridge-penalised multinomial logistic regression on log-normalised genes.",
        labels="train",
        scaling="given",
        inductive=True,
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, C: float = 1.0, max_iter: int = 1000, seed: int = 0) -> None:
        super().__init__()
        self.C = C
        self.max_iter = max_iter
        self.seed = seed

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Fit the coefficients."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.C, max_iter=self.max_iter, random_state=self.seed).fit(X, labels)
