"""Harmony as published in 2019: soft clusters that mix batches, and corrections within each of them.

Version 2 of the library, which ``harmony`` runs, has another penalty and other corrections, and cannot keep
cells where they are. Symphony and scPred were made with the first version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.methods._correlation import unit_rows

#: Defaults of version 0.1.1 of the R package.
SIGMA: Final = 0.1
THETA: Final = 2.0
RIDGE: Final = 1.0
MAX_ROUNDS: Final = 200
N_BLOCKS: Final = 20
CLUSTERING_TOLERANCE: Final = 1e-5
HARMONY_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Soft clusters of cells: summed assignments, and corrected cells summed by assignment."""

    sizes: NDArray[np.float64]
    sums: NDArray[np.float64]

    @property
    def centroids(self) -> NDArray[np.float64]:
        """Direction of each cluster, (n_clusters, n_components); rows have length 1."""
        return unit_rows(self.sums)


def harmonise(
    scores: NDArray[np.floating[Any]],
    batches: NDArray[np.str_],
    *,
    fixed: NDArray[np.bool_] | None = None,
    n_clusters: int | None = None,
    theta: float = THETA,
    max_iter: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run Harmony (Korsunsky et al. 2019, 10.1038/s41592-019-0619-0) on principal components.

    Results do not depend on the order of the cells. A single batch is clustered and not corrected.

    Parameters
    ----------
    scores
        (n_obs, n_components) principal components.
    batches
        (n_obs,) batch of each cell.
    fixed
        Cells that stay where they are, (n_obs,). They take part in the clustering, and the corrections of
        the others are relative to them.
    n_clusters
        Number of clusters, at most that of different cells. None: one per 30 cells, at most 100.
    theta
        Penalty on clusters that are dominated by one batch.
    max_iter
        Maximum number of rounds of clustering and correction.

    Returns
    -------
    Corrected components (n_obs, n_components), and shares of the clusters (n_obs, n_clusters).
    """
    order = np.lexsort((batches, *np.asarray(scores).T[::-1]))
    back = np.argsort(order)
    scores, batches = np.asarray(scores, dtype=np.float64)[order], batches[order]
    fixed = np.zeros(len(scores), dtype=bool) if fixed is None else fixed[order]
    if n_clusters is None:
        n_clusters = max(1, min(round(len(scores) / 30), 100))
    n_different = 1 + int((np.diff(scores, axis=0) != 0).any(axis=1).sum())
    clustering = _Clustering(
        unit_rows(scores), batches, n_clusters=min(n_clusters, n_different), theta=theta, seed=seed
    )
    moved, before = scores.copy(), clustering.objective()
    for _ in range(max_iter):
        clustering.update(unit_rows(moved))
        if (batches != batches[0]).any():
            moved[~fixed] = _corrected(scores, clustering.assigned, batches, fixed)
        now = clustering.objective()
        if before - now < HARMONY_TOLERANCE * abs(before):
            break
        before = now
    return moved[back], clustering.assigned[back]


def _corrected(
    scores: NDArray[np.float64],
    assigned: NDArray[np.float64],
    batches: NDArray[np.str_],
    fixed: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the cells that may move without the effects of their batches."""
    share = assigned[fixed]
    clusters = Clusters(sizes=share.sum(axis=0), sums=share.T @ scores[fixed])
    return without_batches(scores[~fixed], assigned[~fixed], batches[~fixed], clusters, ridge=RIDGE)


class _Clustering:
    """Soft clusters of cells by cosine, with a penalty on clusters that are dominated by one batch."""

    def __init__(
        self,
        cosine: NDArray[np.float64],
        batches: NDArray[np.str_],
        *,
        n_clusters: int,
        theta: float,
        seed: int,
    ) -> None:
        from sklearn.cluster import KMeans

        self._theta = theta
        self._rng = np.random.default_rng(seed)
        names, self._batch = np.unique(batches, return_inverse=True)
        self._members = (self._batch == np.arange(names.size)[:, None]).astype(np.float64)
        self._expected = self._members.mean(axis=1)
        kmeans = KMeans(n_clusters, n_init=10, max_iter=25, random_state=seed).fit(cosine)
        centroids = unit_rows(kmeans.cluster_centers_)
        self._distance = 2.0 * (1.0 - cosine @ centroids.T)
        self.assigned = soft_assignment(cosine, centroids, sigma=SIGMA)

    def update(self, cosine: NDArray[np.float64]) -> None:
        """Cluster cells that have moved, starting from their last assignments."""
        objectives = [self.objective()]
        for done in range(MAX_ROUNDS):
            centroids = unit_rows(self.assigned.T @ cosine)
            self._distance = 2.0 * (1.0 - cosine @ centroids.T)
            self._assign()
            objectives.append(self.objective())
            # Three values against the three before, from the fifth round on.
            old, new = sum(objectives[-4:-1]), sum(objectives[-3:])
            if done > 3 and old - new < CLUSTERING_TOLERANCE * abs(old):
                break

    def _assign(self) -> None:
        """Assign all cells again, a twentieth at a time, each with the batches that clusters then have."""
        weight = np.exp((self._distance.min(axis=1, keepdims=True) - self._distance) / SIGMA)
        observed = self._members @ self.assigned
        for cells in np.array_split(self._rng.permutation(len(weight)), N_BLOCKS):
            members = self._members[:, cells]
            observed -= members @ self.assigned[cells]
            expected = np.outer(self._expected, observed.sum(axis=0))
            penalty = ((expected + 1.0) / (observed + 1.0)) ** self._theta
            share = weight[cells] * penalty[self._batch[cells]]
            self.assigned[cells] = share / share.sum(axis=1, keepdims=True)
            observed += members @ self.assigned[cells]

    def objective(self) -> float:
        """Return what the clustering makes small: distances, entropy and imbalance of batches."""
        from scipy.special import xlogy

        observed = self._members @ self.assigned
        expected = np.outer(self._expected, observed.sum(axis=0))
        imbalance = (observed * np.log((observed + 1.0) / (expected + 1.0))).sum()
        entropy = xlogy(self.assigned, self.assigned).sum()
        return float((self.assigned * self._distance).sum() + SIGMA * (entropy + self._theta * imbalance))


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
