"""Symphony: mapping of cells into a fixed Harmony embedding of the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._components import ScaledComponents
from cellular_bench.methods._harmony_v1 import Clusters, harmonise, soft_assignment, without_batches
from cellular_bench.methods._inputs import batches_of, require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable, nearest_voters

if TYPE_CHECKING:
    from anndata import AnnData


#: Largest absolute value of a scaled gene.
CLIP: Final = 10.0


class Symphony:
    """Symphony, reimplemented from its description: cells are mapped to a frozen Harmony reference.

    The genes of the reference are scaled, reduced to principal components and corrected by Harmony. A query
    cell is scaled and projected with the parameters of the reference, and softly assigned to the clusters
    of the reference by cosine. Then one linear model per cluster estimates the effects of the query's
    batches relative to the corrected reference cells, and these effects are subtracted. The reference never
    changes; the correction of a cell depends on the other cells of its batch in the query.

    Settings are the authors': scaled genes are clipped at 10, in the reference and in the query, and Harmony,
    in its first version, has 100 clusters and up to 20 rounds. Where a reference has not more cells than
    clusters, and the original therefore fails, there is one cluster per 30 cells. A reference with one batch
    is not corrected. A query without batches is treated as one batch.

    Parameters
    ----------
    n_components
        Number of principal components of the reference; fewer if it has fewer.
    n_clusters
        Number of clusters of the reference.
    theta
        Harmony's diversity penalty.
    max_iter
        Maximum number of rounds of clustering and correction.
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
        license="BSD-3-Clause",
        requires=("scipy", "sklearn"),
        version=2,
    )

    def __init__(
        self,
        *,
        n_components: int = 20,
        n_clusters: int = 100,
        theta: float = 2.0,
        max_iter: int = 20,
        sigma: float = 0.1,
        ridge: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_clusters = n_clusters
        self.theta = theta
        self.max_iter = max_iter
        self.sigma = sigma
        self.ridge = ridge
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Build the reference."""
        self._components = ScaledComponents(
            train.X, n_components=self.n_components, seed=self.seed, clip=CLIP
        )
        scores = self._components.scores(train.X).astype(np.float64)
        self._reference, assigned = harmonise(
            scores,
            batches_of(train),
            n_clusters=self.n_clusters if train.n_obs > self.n_clusters else None,
            theta=self.theta,
            max_iter=self.max_iter,
            seed=self.seed,
        )
        self._clusters = Clusters(sizes=assigned.sum(axis=0), sums=assigned.T @ self._reference)
        self._spreads = cluster_spreads(scores, assigned)
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
    n_components, n_clusters, theta, max_iter, sigma, ridge, seed
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
        n_clusters: int = 100,
        theta: float = 2.0,
        max_iter: int = 20,
        sigma: float = 0.1,
        ridge: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            n_clusters=n_clusters,
            theta=theta,
            max_iter=max_iter,
            sigma=sigma,
            ridge=ridge,
            seed=seed,
        )
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


def cluster_spreads(
    scores: NDArray[np.float64], assigned: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre and the inverse covariance of each cluster, from the uncorrected reference cells.

    With weights w that sum to 1, the covariance is the weighted scatter divided by 1 - sum of w squared. A
    cluster of too few cells has no invertible covariance, and the original stops; here such a cluster has
    the mean covariance of all clusters, weighted by their sizes.
    """
    sizes = assigned.sum(axis=0)
    weights = assigned / np.where(sizes > 0, sizes, 1.0)
    centres = weights.T @ scores
    scatters = np.stack(
        [
            ((scores - centre) * weight[:, None]).T @ (scores - centre)
            for weight, centre in zip(weights.T, centres, strict=True)
        ]
    )
    pooled = np.einsum("k,kij->ij", sizes / sizes.sum(), scatters)
    freedom = 1.0 - (weights**2).sum(axis=0)
    enough = (sizes > 0) & (freedom > np.finfo(np.float64).eps)
    covariances = np.where(
        enough[:, None, None], scatters / np.where(enough, freedom, 1.0)[:, None, None], pooled
    )
    singular = 1.0 / np.linalg.cond(covariances, 1) < np.finfo(np.float64).eps
    covariances[singular] = pooled
    return centres, np.linalg.pinv(covariances, hermitian=True)


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
