"""Symphony: mapping of cells into a fixed Harmony embedding of the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._components import ScaledComponents
from cellular_bench.methods._correlation import unit_rows
from cellular_bench.methods._inputs import batches_of, require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable, nearest_voters
from cellular_bench.methods.harmony import run_harmony

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Soft clusters of the reference: summed assignments, and corrected cells summed by assignment."""

    sizes: NDArray[np.float64]
    sums: NDArray[np.float64]

    @property
    def centroids(self) -> NDArray[np.float64]:
        """Direction of each cluster, (n_clusters, n_components); rows have length 1."""
        return unit_rows(self.sums)


class Symphony:
    """Symphony, reimplemented from its description: cells are mapped to a frozen Harmony reference.

    The genes of the reference are scaled, reduced to principal components and corrected by Harmony. A query
    cell is scaled and projected with the parameters of the reference, and softly assigned to the clusters
    of the reference by cosine. Then one linear model per cluster estimates the effects of the query's
    batches relative to the corrected reference cells, and these effects are subtracted. The reference never
    changes; the correction of a cell depends on the other cells of its batch in the query.

    Harmony is ``harmonypy`` with its defaults, with one cluster per 30 cells (at most 100). A reference
    with one batch is not corrected. A query without batches is treated as one batch.

    Parameters
    ----------
    n_components
        Number of principal components of the reference; fewer if it has fewer.
    theta
        Harmony's diversity penalty.
    sigma
        Width of the soft assignment: smaller values make it harder.
    ridge
        Ridge penalty on the batch terms of the query.
    seed
        Seed of the principal components and of Harmony.
    """

    spec = MethodSpec(
        method_id="symphony",
        name="Symphony",
        tasks=("integration",),
        description="Mapping of cells into a Harmony embedding of the training cells.",
        scaling="own",
        inductive=True,
        is_reimplementation=True,
        doi="10.1038/s41467-021-25957-x",
        url="https://github.com/immunogenomics/symphony",
        license="GPL-3.0-or-later",
        requires=("harmonypy", "scipy", "sklearn"),
    )

    def __init__(
        self,
        *,
        n_components: int = 20,
        theta: float = 2.0,
        sigma: float = 0.1,
        ridge: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.theta = theta
        self.sigma = sigma
        self.ridge = ridge
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Build the reference."""
        self._components = ScaledComponents(train.X, n_components=self.n_components, seed=self.seed)
        result = run_harmony(
            self._components.scores(train.X), batches_of(train), theta=self.theta, seed=self.seed
        )
        assigned, self._reference = (
            np.asarray(array, dtype=np.float64) for array in (result.R, result.Z_corr)
        )
        self._clusters = Clusters(sizes=assigned.sum(axis=0), sums=assigned.T @ self._reference)
        self._spreads = cluster_spreads(np.asarray(result.Z_orig, dtype=np.float64), assigned)
        self._genes = list(train.var_names)
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the mapped cells, (n_obs, n_components)."""
        scores, assigned = self._assigned(query)
        return self._mapped(scores, assigned, query)

    def _mapped(
        self, scores: NDArray[np.float64], assigned: NDArray[np.float64], query: AnnData
    ) -> NDArray[np.float32]:
        mapped = without_batches(scores, assigned, batches_of(query), self._clusters, ridge=self.ridge)
        return mapped.astype(np.float32)

    def _assigned(self, query: AnnData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Project cells onto the components of the reference and assign them to its clusters."""
        require_fitted(query, self._genes, self.spec.method_id)
        scores = self._components.scores(query.X).astype(np.float64)
        return scores, soft_assignment(scores, self._clusters.centroids, sigma=self.sigma)


class SymphonyKNN(Symphony):
    """Vote of the nearest reference cells in the embedding of Symphony.

    Probabilities are shares of votes. Novelty is the authors' mapping metric: the distance of a cell, before
    correction, from the clusters that it is assigned to, in units of the spread of each cluster.

    Parameters
    ----------
    n_neighbors
        Number of neighbours that vote.
    n_components, theta, sigma, ridge, seed
        As for :class:`Symphony`.
    """

    spec = replace(
        Symphony.spec,
        method_id="symphony_knn",
        name="Symphony + kNN",
        tasks=("annotation", "novelty"),
        description="Vote of the 5 nearest training cells after mapping with Symphony.",
        labels="train",
    )

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        n_components: int = 20,
        theta: float = 2.0,
        sigma: float = 0.1,
        ridge: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(n_components=n_components, theta=theta, sigma=sigma, ridge=ridge, seed=seed)
        self.n_neighbors = n_neighbors

    def fit(self, train: AnnData) -> Self:
        """Build the reference and index its cells with their labels."""
        labels = require_labels(train, self.spec.method_id)
        super().fit(train)
        self._voters = nearest_voters(self._reference, labels, n_neighbors=self.n_neighbors)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Map the query and predict its labels."""
        scores, assigned = self._assigned(query)
        probability = self._voters.predict_proba(self._mapped(scores, assigned, query))
        return replace(
            most_probable(probability, self._voters.classes_),
            novelty=mapping_distance(scores, assigned, self._spreads),
        )


def soft_assignment(
    scores: NDArray[np.float64], centroids: NDArray[np.float64], *, sigma: float
) -> NDArray[np.float64]:
    """Assign cells to clusters by cosine: (n_obs, n_clusters) shares that sum to 1.

    Shares are proportional to exp(-2 (1 - cosine) / sigma); ``centroids`` have length 1.
    """
    from scipy.special import softmax

    return np.asarray(softmax(2.0 * (unit_rows(scores) @ centroids.T - 1.0) / sigma, axis=1))


def without_batches(
    scores: NDArray[np.float64],
    assigned: NDArray[np.float64],
    batches: NDArray[np.str_],
    clusters: Clusters,
    *,
    ridge: float,
) -> NDArray[np.float64]:
    """Subtract the batch effects of a query relative to the reference, cluster by cluster.

    In each cluster, a ridge regression models the cells of the query by a term shared with the corrected
    reference cells and one term per batch. Only the batch terms are penalised, and only they are
    subtracted, in proportion to the cell's share of the cluster.
    """
    names, code = np.unique(batches, return_inverse=True)
    is_batch = (code[:, None] == np.arange(names.size)).astype(np.float64)
    design = np.column_stack([np.ones(len(scores)), is_batch])
    penalty = ridge * np.diag([0.0] + [1.0] * names.size)
    mapped = scores.copy()
    for share, size, total in zip(assigned.T, clusters.sizes, clusters.sums, strict=True):
        weighted = design * share[:, None]
        left, right = weighted.T @ design, weighted.T @ scores
        left[0, 0] += size
        right[0] += total
        terms = np.linalg.solve(left + penalty, right)
        mapped -= weighted[:, 1:] @ terms[1:]
    return mapped


def cluster_spreads(
    scores: NDArray[np.float64], assigned: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre and the inverse covariance of each cluster, from the uncorrected reference cells.

    Small clusters do not determine a covariance. Each covariance is therefore shrunk towards the mean over
    all clusters, with a weight equal to that of as many additional cells as there are components.
    """
    sizes = assigned.sum(axis=0)
    centres = (assigned.T @ scores) / sizes[:, None]
    scatters = np.stack(
        [
            ((scores - centre) * share[:, None]).T @ (scores - centre)
            for share, centre in zip(assigned.T, centres, strict=True)
        ]
    )
    n_components = scores.shape[1]
    pooled = scatters.sum(axis=0) / sizes.sum()
    covariance = (scatters + n_components * pooled) / (sizes[:, None, None] + n_components)
    return centres, np.linalg.pinv(covariance, hermitian=True)


def mapping_distance(
    scores: NDArray[np.float64],
    assigned: NDArray[np.float64],
    spreads: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the Mahalanobis distance of cells to clusters, averaged by assignment, (n_obs,)."""
    total = np.zeros(len(scores))
    for share, centre, precision in zip(assigned.T, *spreads, strict=True):
        away = scores - centre
        square = np.einsum("ij,jk,ik->i", away, precision, away, optimize=True)
        total += share * np.sqrt(np.maximum(square, 0.0))
    return total
