"""Base classes of annotators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._components import fit_pca, project
from cellular_bench.methods._inputs import dense, require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable

if TYPE_CHECKING:
    from anndata import AnnData


class ClassifierAnnotator(ABC):
    """Label the cells of a query by a scikit-learn classifier fitted on the training cells.

    A subclass defines ``spec`` and :meth:`learn`, and may override :meth:`inputs`.
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
        """Fit the classifier on the labels of the training cells."""
        labels = require_labels(train, self.spec.method_id)
        self._classifier = self.learn(self.inputs(train), labels)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        probability = self.fitted(query).predict_proba(self.inputs(query))
        return most_probable(probability, self._classifier.classes_, reject_below=self.reject_below)

    def fitted(self, query: AnnData) -> Any:
        """Return the classifier, or raise if there is none or the query has other genes."""
        require_fitted(query, self._genes, self.spec.method_id)
        return self._classifier


class ComponentsAnnotator(ClassifierAnnotator):
    """A classifier that reads principal components, fitted on the training cells.

    A subclass also sets ``n_components`` and ``seed``.
    """

    n_components: int
    seed: int

    def fit(self, train: AnnData) -> Self:
        """Fit the principal components, then the classifier on them."""
        self._pca = fit_pca(train.X, n_components=self.n_components, seed=self.seed)
        return super().fit(train)

    def inputs(self, adata: AnnData) -> NDArray[np.float32]:
        """Project cells onto the principal components of the training cells."""
        return project(self._pca, adata.X)


class TransductiveAnnotator:
    """A method that works in ``predict`` or ``embed``, where it has the training cells and the query.

    A subclass defines ``spec`` and ``predict``, or ``embed``.
    """

    spec: MethodSpec

    def __init__(self) -> None:
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Keep the training cells."""
        require_labels(train, self.spec.method_id)
        self._train, self._genes = train, list(train.var_names)
        return self

    def training_cells(self, query: AnnData) -> AnnData:
        """Return the training cells, or raise if there are none or the query has other genes."""
        require_fitted(query, self._genes, self.spec.method_id)
        return self._train


def repeat_rare(labels: NDArray[Any], *, at_least: int) -> NDArray[np.int64]:
    """Return the positions of all cells, then repeats of rare labels until each has ``at_least`` cells.

    Examples
    --------
    >>> repeat_rare(np.array(["a", "b", "a"]), at_least=2).tolist()
    [0, 1, 2, 1]
    """
    names, counts = np.unique(labels, return_counts=True)
    extra = [
        np.resize(np.flatnonzero(labels == name), at_least - count)
        for name, count in zip(names, counts, strict=True)
        if count < at_least
    ]
    return np.concatenate([np.arange(labels.size), *extra])
