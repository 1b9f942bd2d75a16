"""Gradient boosting of decision trees on principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._classifier import ComponentsAnnotator


class GradientBoosting(ComponentsAnnotator):
    """Trees grown one after the other, each on what the ones before still get wrong.

    Every round grows a tree per label on binned principal components of the training cells. Each split
    chooses among some of the components, so that trees look at different ones: where one component tells
    all labels apart, all trees would otherwise be the same, and no new type could be told from a known one.
    Leaves may hold a single cell, because a rare label can have no more; without a penalty on what a leaf
    adds, the few cells of a rare label drive it out of bounds.

    Parameters
    ----------
    n_rounds
        Trees per label.
    learning_rate
        Share of each tree that is added.
    split_share
        Share of the components that a split chooses among.
    penalty
        Ridge penalty on what a leaf adds.
    n_components
        Principal components, fitted on the training cells alone.
    seed
        Seed of the solver of the principal components, and of the components that each split looks at.
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
            # Early stopping holds cells out, of rare labels perhaps all.
            early_stopping=False,
            random_state=self.seed,
        )
        return trees.fit(X, labels)
