"""scmap: genes with more zeros than their expression explains, then similarity on these genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._correlation import ranked_rows, standardised_rows, unit_rows
from cellular_bench.methods._support import labels_of, most_frequent, require_labels, require_same_genes

if TYPE_CHECKING:
    from anndata import AnnData


class Scmap(ABC):
    """What both kinds of index share: the choice of genes and the scale of expression."""

    spec: MethodSpec
    n_genes: int

    def __init__(self) -> None:
        self._genes: list[str] = []

    @abstractmethod
    def index(self, X: NDArray[np.float64], labels: NDArray[np.str_]) -> None:
        """Keep what cells are compared with; ``X`` holds the chosen genes."""

    @abstractmethod
    def search(self, X: NDArray[np.float64]) -> Prediction:
        """Compare cells with the index."""

    def fit(self, train: AnnData) -> Self:
        """Choose genes, and index the training cells."""
        labels = labels_of(train)
        require_labels(labels, self.spec.method_id)
        excess = dropout_excess(train.X)
        if np.isneginf(excess).all():
            raise NotApplicableError(
                f"{self.spec.method_id}: each gene is expressed in all training cells or in none, so zeros "
                "tell nothing. Use data with more cells."
            )
        best = np.argsort(-excess, kind="stable")[: self.n_genes]
        self._chosen = np.sort(best[np.isfinite(excess[best])])
        self.index(self._expression(train), labels)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells of the query."""
        if not self._genes:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        return self.search(self._expression(query))

    def _expression(self, adata: AnnData) -> NDArray[np.float64]:
        """Return log2(x + 1) of the chosen genes, (n_obs, n_chosen)."""
        from scipy.sparse import csr_matrix

        return np.asarray(csr_matrix(adata.X, dtype=np.float64)[:, self._chosen].toarray() / np.log(2))


class ScmapCluster(Scmap):
    """scmap-cluster, written anew from its description: the most similar median profile.

    Cosine, Pearson and Spearman each name the most similar label. Where at least two name the same, it
    is the answer, and the highest of their similarities its confidence; else the confidence is 0, and
    the label is that of the cosine. Novelty is 1 - confidence. A label whose median profile is zero in all
    chosen genes cannot be found.

    Parameters
    ----------
    n_genes
        Genes to choose.
    reject_below
        Cells with less confidence are rejected.
    seed
        Accepted for uniformity; nothing is drawn.
    """

    spec = MethodSpec(
        method_id="scmap_cluster",
        name="scmap-cluster",
        tasks=("annotation", "novelty"),
        description="Median profile of each label, by agreement of three similarities.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1038/nmeth.4644",
        url="https://github.com/hemberg-lab/scmap",
        license="BSD-3-Clause",
        requires=("scipy",),
    )

    def __init__(self, *, n_genes: int = 500, reject_below: float = 0.7, seed: int = 0) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.reject_below = reject_below
        self.seed = seed

    def index(self, X: NDArray[np.float64], labels: NDArray[np.str_]) -> None:
        """Take the median of the training cells of each label."""
        names = np.unique(labels)
        median = np.stack([np.median(X[labels == name], axis=0) for name in names])
        seen = median.any(axis=1)
        if not seen.any():
            raise NotApplicableError(
                "scmap_cluster: the median profile of every label is zero in the chosen genes. Use data with "
                "deeper counts, or more genes (n_genes)."
            )
        self._labels, self._profiles = names[seen], median[seen]

    def search(self, X: NDArray[np.float64]) -> Prediction:
        """Ask the three similarities."""
        best, similarity = agreement(
            [rows(X) @ rows(self._profiles).T for rows in (unit_rows, standardised_rows, ranked_rows)]
        )
        return Prediction(
            label_pred=self._labels[best],
            novelty=1.0 - similarity,
            rejected=similarity < self.reject_below,
        )


class ScmapCell(Scmap):
    """scmap-cell, written anew from its description: the labels of the most similar training cells.

    Where the nearest cells by cosine share one label, it is the answer, and the similarity of the very
    nearest its confidence; else the confidence is 0, and the label that of most of them (of the nearest
    among equals). Novelty is 1 - confidence. Neighbours are exact; the original finds them
    approximately, by product quantisation.

    Parameters
    ----------
    n_genes
        Genes to choose.
    n_neighbors
        Nearest cells that must agree.
    reject_below
        Cells with no more confidence are rejected.
    seed
        Accepted for uniformity; nothing is drawn.
    """

    spec = MethodSpec(
        method_id="scmap_cell",
        name="scmap-cell",
        tasks=("annotation", "novelty"),
        description="Nearest training cells by cosine, which must agree on the label.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1038/nmeth.4644",
        url="https://github.com/hemberg-lab/scmap",
        license="BSD-3-Clause",
        requires=("scipy", "sklearn"),
    )

    def __init__(
        self, *, n_genes: int = 500, n_neighbors: int = 3, reject_below: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.n_neighbors = n_neighbors
        self.reject_below = reject_below
        self.seed = seed
        self._neighbours: Any = None

    def index(self, X: NDArray[np.float64], labels: NDArray[np.str_]) -> None:
        """Keep the training cells, with no more neighbours than there are of them."""
        from sklearn.neighbors import NearestNeighbors

        n_neighbors = min(self.n_neighbors, labels.size)
        self._neighbours = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine").fit(X)
        self._labels, self._code = np.unique(labels, return_inverse=True)

    def search(self, X: NDArray[np.float64]) -> Prediction:
        """Look at the nearest training cells."""
        distance, nearest = self._neighbours.kneighbors(X)
        code = self._code[nearest]
        agree = (code == code[:, :1]).all(axis=1)
        similarity = np.where(agree, 1.0 - distance[:, 0], 0.0)
        return Prediction(
            label_pred=self._labels[most_frequent(code)],
            novelty=1.0 - similarity,
            rejected=similarity <= self.reject_below,
        )


def dropout_excess(X: Any) -> NDArray[np.float64]:
    """Say how many more zeros genes have than others of their expression.

    Parameters
    ----------
    X
        (n_obs, n_vars) ``log1p`` expression, sparse or dense.

    Returns
    -------
    (n_vars,) residual of log2(percentage of cells with zero) after a straight line in the mean log2
    expression; minus infinity for genes with zeros in all cells or in none, which the line leaves out.
    """
    from scipy.sparse import csr_matrix

    X = csr_matrix(X)
    zeros = 100.0 * (1.0 - (X != 0).sum(axis=0) / X.shape[0])
    percentage = np.asarray(zeros).ravel()
    expression = np.asarray(X.sum(axis=0, dtype=np.float64)).ravel() / X.shape[0] / np.log(2)
    excess = np.full(percentage.size, -np.inf)
    usable = (percentage > 0) & (percentage < 100)
    if usable.any():
        excess[usable] = _residuals(np.log2(percentage[usable]), expression[usable])
    return excess


def _residuals(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a straight line in x leaves of y."""
    x, y = x - x.mean(), y - y.mean()
    spread = x @ x
    return y - x * (x @ y / spread) if spread > 0 else y


def agreement(
    similarities: list[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the label that two of three similarities find most similar, and how similar.

    Parameters
    ----------
    similarities
        Three tables (n_obs, n_labels).

    Returns
    -------
    best, similarity
        (n_obs,) position of the label, and the highest of the similarities that name it. Where all three
        name different labels: that of the first table, and 0.
    """
    named = np.stack([table.argmax(axis=1) for table in similarities], axis=1)
    highest = np.stack([table.max(axis=1) for table in similarities], axis=1)
    best = most_frequent(named)
    supporters = named == best[:, None]
    similarity = np.where(supporters, highest, -np.inf).max(axis=1)
    return best, np.where(supporters.sum(axis=1) >= 2, similarity, 0.0)
