"""k nearest neighbours in principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._annotators import ComponentsAnnotator
from cellular_bench.methods._predictions import nearest_voters


class KNearestNeighbours(ComponentsAnnotator):
    """Vote of the nearest training cells in the principal components of the training cells.

    Probabilities are shares of votes, so novelty (1 - the highest share) takes at most ``n_neighbors`` + 1
    different values.

    Parameters
    ----------
    n_neighbors
        Number of neighbours that vote; at most the number of training cells.
    n_components
        Number of principal components, fitted on the training cells only.
    seed
        Seed of the principal components' solver.
    """

    spec = MethodSpec(
        method_id="knn",
        name="kNN",
        tasks=("annotation", "novelty"),
        description="Majority vote of the 15 nearest training cells in PCA space.",
        labels="train",
        scaling="given",
        inductive=True,
        doi="10.1109/TIT.1967.1053964",
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, n_neighbors: int = 15, n_components: int = 50, seed: int = 0) -> None:
        super().__init__()
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.seed = seed

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Index the training cells."""
        return nearest_voters(X, labels, n_neighbors=self.n_neighbors)
