"""Random forest on log-normalised expression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._annotators import ClassifierAnnotator


class RandomForest(ClassifierAnnotator):
    """Vote of decision trees, each grown on a bootstrap sample of the training cells.

    Parameters
    ----------
    n_estimators
        Number of trees.
    seed
        Seed of the bootstrap samples and of the genes considered at each node.
    """

    spec = MethodSpec(
        method_id="random_forest",
        name="Random forest",
        tasks=("annotation", "novelty"),
        description="100 decision trees on log-normalised genes.",
        labels="train",
        inductive=True,
        doi="10.1023/A:1010933404324",
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, n_estimators: int = 100, seed: int = 0) -> None:
        super().__init__()
        self.n_estimators = n_estimators
        self.seed = seed

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Grow the forest."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(n_estimators=self.n_estimators, n_jobs=1, random_state=self.seed)
        return forest.fit(X, labels)
