"""Gradient boosting of decision trees on principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._annotators import ComponentsAnnotator


class GradientBoosting(ComponentsAnnotator):
    """Histogram gradient boosting on principal components: each tree corrects the errors of earlier ones.

    Every round grows one tree per label on binned principal components of the training cells. Each split
    considers only a random share of the components, so that trees differ. If one component separated all
    labels, all trees would otherwise be the same, and new types could not be detected. Leaves may hold a
    single cell, because a rare label may have no more. The ridge penalty keeps the values of such leaves
    bounded.

    Parameters
    ----------
    n_rounds
        Number of trees per label.
    learning_rate
        Shrinkage of the contribution of each tree.
    split_share
        Share of the components that each split considers.
    penalty
        Ridge penalty on leaf values.
    n_components
        Number of principal components, fitted on the training cells only.
    seed
        Seed of the principal components' solver and of the components that each split considers.
    """

    spec = MethodSpec(
        method_id="gradient_boosting",
        name="Gradient boosting",
        tasks=("annotation", "novelty"),
        description="Histogram gradient boosting on the principal components of the training cells.",
        labels="train",
        inductive=True,
        doi="10.1214/aos/1013203451",
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
        check_params={"n_rounds": 10},
    )

    def __init__(
        self,
        *,
        n_rounds: int = 100,
        learning_rate: float = 0.1,
        split_share: float = 0.3,
        penalty: float = 1.0,
        n_components: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.split_share = split_share
        self.penalty = penalty
        self.n_components = n_components
        self.seed = seed

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Grow the trees."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        trees = HistGradientBoostingClassifier(
            max_iter=self.n_rounds,
            learning_rate=self.learning_rate,
            max_features=self.split_share,
            min_samples_leaf=1,
            l2_regularization=self.penalty,
            # Early stopping holds cells out, possibly all cells of a rare label.
            early_stopping=False,
            random_state=self.seed,
        )
        return trees.fit(X, labels)
