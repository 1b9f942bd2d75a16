"""scmap: selection of genes with more zeros than expected, then similarity on these genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UnknownNameError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._correlation import ranked_rows, standardised_rows, unit_rows
from cellular_bench.methods._inputs import require_fitted, require_labels
from cellular_bench.methods._predictions import most_frequent

if TYPE_CHECKING:
    from anndata import AnnData

#: How scmap-cell finds similar cells.
SEARCHES = ("quantised", "exact")
#: As in the original: genes of a chunk, most chunks, steps of k-means, and similar cells that are found.
_CHUNK: Final = 10
_MOST_CHUNKS: Final = 100
_N_STEPS: Final = 50
_N_FOUND: Final = 10
#: Query cells whose similarities are in memory at once.
_N_QUERIES: Final = 1000


class Scmap(ABC):
    """Common part of both kinds of index: gene selection and the scale of expression."""

    spec: MethodSpec
    n_genes: int

    def __init__(self) -> None:
        self._genes: list[str] = []

    @abstractmethod
    def index(self, X: NDArray[np.float64], labels: NDArray[np.str_]) -> None:
        """Build the index from training cells; ``X`` holds the selected genes."""

    @abstractmethod
    def search(self, X: NDArray[np.float64]) -> Prediction:
        """Predict labels of cells from the index."""

    def fit(self, train: AnnData) -> Self:
        """Select genes and index the training cells."""
        labels = require_labels(train, self.spec.method_id)
        excess = dropout_excess(train.X)
        if np.isneginf(excess).all():
            raise NotApplicableError(
                f"{self.spec.method_id}: each gene is expressed in all training cells or in none, so zeros "
                "carry no information. Use data with more cells."
            )
        best = np.argsort(-excess, kind="stable")[: self.n_genes]
        self._selected = np.sort(best[np.isfinite(excess[best])])
        self.index(self._expression(train), labels)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        require_fitted(query, self._genes, self.spec.method_id)
        return self.search(self._expression(query))

    def _expression(self, adata: AnnData) -> NDArray[np.float64]:
        """Return log2(x + 1) of the selected genes, (n_obs, n_selected)."""
        from scipy.sparse import csr_matrix

        return np.asarray(csr_matrix(adata.X, dtype=np.float64)[:, self._selected].toarray() / np.log(2))


class ScmapCluster(Scmap):
    """scmap-cluster, reimplemented from its description: the label with the most similar median profile.

    Cosine, Pearson and Spearman similarity each select the most similar label. If at least two agree, this
    label is predicted, with the highest of their similarities as confidence. Otherwise the label is that of
    the cosine, with confidence 0. Novelty is 1 - confidence. A label whose median profile is zero in all
    selected genes is never predicted.

    Parameters
    ----------
    n_genes
        Number of genes to select.
    reject_below
        Cells with a lower confidence are rejected.
    seed
        Not used; there is no randomness.
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
        """Compute the median profile of each label."""
        names = np.unique(labels)
        median = np.stack([np.median(X[labels == name], axis=0) for name in names])
        seen = median.any(axis=1)
        if not seen.any():
            raise NotApplicableError(
                "scmap_cluster: the median profile of every label is zero in the selected genes. Use data "
                "with deeper counts, or more genes (n_genes)."
            )
        self._labels, self._profiles = names[seen], median[seen]

    def search(self, X: NDArray[np.float64]) -> Prediction:
        """Predict labels by agreement of the three similarities."""
        best, similarity = agreement(
            [rows(X) @ rows(self._profiles).T for rows in (unit_rows, standardised_rows, ranked_rows)]
        )
        return Prediction(
            label_pred=self._labels[best],
            novelty=1.0 - similarity,
            rejected=similarity < self.reject_below,
        )


class ScmapCell(Scmap):
    """scmap-cell, reimplemented from its description: the label of the most similar training cells.

    The genes are divided into chunks of ten, and each training cell is replaced by the nearest of
    sqrt(n_obs) centroids in each chunk (product quantisation). Of the ten training cells that are then most
    similar by cosine, as many as must agree are compared: those that come first in a random order. If
    they all have the same label, this label is predicted, with the highest similarity as confidence.
    Otherwise the label is the most frequent one of all the cells found (ties: that of the nearest cell),
    with confidence 0. Novelty is 1 - confidence.

    Parameters
    ----------
    n_genes
        Number of genes to select.
    n_neighbors
        Number of similar cells that must agree.
    reject_below
        Cells with at most this confidence are rejected.
    search
        ``"quantised"``: as in the original. ``"exact"``: the ``n_neighbors`` nearest training cells by
        cosine.
    seed
        Seed of the centroids and of the random order; not used by ``"exact"``.
    """

    spec = replace(
        ScmapCluster.spec,
        method_id="scmap_cell",
        name="scmap-cell",
        description="Similar training cells by quantised cosine, which must agree on the label.",
        requires=("scipy", "sklearn"),
        version=2,
    )

    def __init__(
        self,
        *,
        n_genes: int = 500,
        n_neighbors: int = 3,
        reject_below: float = 0.5,
        search: str = "quantised",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if search not in SEARCHES:
            raise UnknownNameError("search", search, SEARCHES)
        self.n_genes = n_genes
        self.n_neighbors = n_neighbors
        self.reject_below = reject_below
        self.is_exact = search == "exact"
        self.seed = seed

    def index(self, X: NDArray[np.float64], labels: NDArray[np.str_]) -> None:
        """Index the training cells."""
        X = unit_rows(X)
        self._used = np.arange(X.shape[1])
        if not self.is_exact:
            # A random order that depends on the cells and not on how they come.
            rng = np.random.default_rng(self.seed)
            order = np.lexsort(X.T)[rng.permutation(len(X))]
            X, labels = X[order], labels[order]
            X, self._used = quantised(X, rng)
        self._cells = X
        self._labels, self._code = np.unique(labels, return_inverse=True)

    def search(self, X: NDArray[np.float64]) -> Prediction:
        """Predict labels by agreement of similar training cells."""
        nearest, highest = self._most_similar(unit_rows(X[:, self._used]))
        compared = self._code[np.sort(nearest, axis=1)[:, : self.n_neighbors]]
        agree = (compared == compared[:, :1]).all(axis=1)
        best = np.where(agree, compared[:, 0], most_frequent(self._code[nearest]))
        similarity = np.where(agree, highest, 0.0)
        return Prediction(
            label_pred=self._labels[best],
            novelty=1.0 - similarity,
            rejected=similarity <= self.reject_below,
        )

    def _most_similar(self, X: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the most similar training cells of each cell, the nearest first, and its similarity."""
        n_found = min(
            self.n_neighbors if self.is_exact else max(_N_FOUND, self.n_neighbors), len(self._cells)
        )
        nearest = np.empty((len(X), n_found), dtype=np.int64)
        highest = np.empty(len(X))
        for start in range(0, len(X), _N_QUERIES):
            rows = slice(start, start + _N_QUERIES)
            similarity = X[rows] @ self._cells.T
            found = np.argpartition(similarity, -n_found, axis=1)[:, -n_found:]
            of_found = np.take_along_axis(similarity, found, axis=1)
            order = np.argsort(-of_found, axis=1, kind="stable")
            nearest[rows] = np.take_along_axis(found, order, axis=1)
            highest[rows] = of_found.max(axis=1)
        return nearest, highest


def quantised(
    X: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Replace each cell by the nearest of sqrt(n_obs) centroids in each chunk of genes.

    Centroids, found by k-means from cells drawn at random, are scaled to length 1. Genes after the last
    whole chunk are left out, and chunks in which fewer than sqrt(n_obs) cells differ, as in the original.

    Parameters
    ----------
    X
        Cells of length 1, (n_obs, n_vars).
    rng
        Random numbers; the result depends on the order of the cells.

    Returns
    -------
    cells, used
        Cells of about length 1, (n_obs, n_used), and the positions of the genes in use.
    """
    from sklearn.cluster import KMeans

    n_vars, n_centroids = X.shape[1], int(np.sqrt(len(X)))
    size = max(min(n_vars, _CHUNK), n_vars // _MOST_CHUNKS)
    chunks, used = [], []
    for start in range(0, n_vars - size + 1, size):
        genes = np.arange(start, start + size)
        values, of_cell, n_cells = np.unique(X[:, genes], axis=0, return_inverse=True, return_counts=True)
        if len(values) < n_centroids:
            continue
        first = of_cell[rng.choice(len(X), n_centroids, replace=False)]
        if np.unique(first).size < n_centroids:
            first = rng.choice(len(values), n_centroids, replace=False)
        means = KMeans(n_centroids, init=values[first], n_init=1, max_iter=_N_STEPS, tol=0)
        means.fit(values, sample_weight=n_cells)
        chunks.append(unit_rows(means.cluster_centers_)[means.labels_][of_cell])
        used.append(genes)
    if not chunks:
        raise NotApplicableError(
            f"scmap_cell: in no chunk of {size} genes do {n_centroids} cells differ, so there are no "
            'centroids. Use data with deeper counts, or search="exact".'
        )
    return np.hstack(chunks) / np.sqrt(len(chunks)), np.concatenate(used)


def dropout_excess(X: Any) -> NDArray[np.float64]:
    """Return how many more zeros each gene has than expected from its mean expression, (n_vars,).

    This is the residual of log2(percentage of cells with zero) after a linear fit on the mean log2
    expression. Genes with zeros in all cells or in none are not part of the fit and get minus infinity.
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
    """Return the residuals of a linear fit of y on x."""
    x, y = x - x.mean(), y - y.mean()
    spread = x @ x
    return y - x * (x @ y / spread) if spread > 0 else y


def agreement(
    similarities: list[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the label on which two of three similarities (n_obs, n_labels) agree, and the highest of them.

    If all three select different labels: the label of the first array, and 0.
    """
    label = np.stack([table.argmax(axis=1) for table in similarities], axis=1)
    highest = np.stack([table.max(axis=1) for table in similarities], axis=1)
    best = most_frequent(label)
    supporters = label == best[:, None]
    similarity = np.where(supporters, highest, -np.inf).max(axis=1)
    return best, np.where(supporters.sum(axis=1) >= 2, similarity, 0.0)
