"""The part that adapters of scikit-learn's classifiers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._support import (
    dense,
    fit_pca,
    labels_of,
    most_probable,
    project,
    require_labels,
    require_same_genes,
)

if TYPE_CHECKING:
    from anndata import AnnData


class ClassifierAnnotator(ABC):
    """Fit a probabilistic classifier on the training cells and name the cells of a query with it.

    A child defines ``spec`` and :meth:`learn`, and where needed :meth:`inputs`.
    """

    spec: MethodSpec
    reject_below: float = 0.0

    def __init__(self) -> None:
        self._classifier: Any = None
        self._genes: list[str] = []

    @abstractmethod
    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Return a fitted classifier with ``predict_proba`` and ``classes_``."""

    def inputs(self, adata: AnnData) -> Any:
        """Return the (n_obs, n_features) matrix that the classifier reads."""
        return dense(adata.X)

    def fit(self, train: AnnData) -> Self:
        """Learn the labels of the training cells."""
        labels = labels_of(train)
        require_labels(labels, self.spec.method_id)
        self._genes = list(train.var_names)
        self._classifier = self.learn(self.inputs(train), labels)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells of the query."""
        probability = self.fitted(query).predict_proba(self.inputs(query))
        return most_probable(probability, self._classifier.classes_, reject_below=self.reject_below)

    def fitted(self, query: AnnData) -> Any:
        """Return the classifier, where there is one and the query has its genes."""
        if self._classifier is None:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        return self._classifier


class ComponentsAnnotator(ClassifierAnnotator):
    """A classifier of cells in the principal components of the training cells.

    A child also sets ``n_components`` and ``seed``.
    """

    n_components: int
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._pca: Any = None

    def fit(self, train: AnnData) -> Self:
        """Fit the principal components, then learn the labels of the training cells in them."""
        self._pca = fit_pca(train.X, n_components=self.n_components, seed=self.seed)
        return super().fit(train)

    def inputs(self, adata: AnnData) -> NDArray[np.float32]:
        """Project cells on the principal components of the training cells."""
        return project(self._pca, adata.X)


def nearest_voters(X: Any, labels: NDArray[np.str_], *, n_neighbors: int) -> Any:
    """Return the vote of the nearest cells as a fitted classifier: all cells where there are fewer."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=min(n_neighbors, labels.size)).fit(X, labels)


def repeat_rare(labels: NDArray[Any], *, at_least: int) -> NDArray[np.int64]:
    """Return positions of all cells, then those of rare labels again until each has ``at_least``."""
    names, counts = np.unique(labels, return_counts=True)
    extra = [
        np.resize(np.flatnonzero(labels == name), at_least - count)
        for name, count in zip(names, counts, strict=True)
        if count < at_least
    ]
    return np.concatenate([np.arange(labels.size), *extra])
