"""CHETAH: classification along a tree of labels, with a confidence at each fork."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._correlation import ranked_rows
from cellular_bench.methods._inputs import require_fitted, require_labels

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Data to decide whether a cell belongs to a label or to the other branch of a fork."""

    #: Positions of the genes that differ most between the label and the other branch.
    genes: NDArray[np.int64]
    #: Standardised ranks of these genes in the mean profile of the label.
    centre: NDArray[np.float64]
    #: Ascending correlations with this profile, of training cells of the label and of the other branch.
    own: NDArray[np.float64]
    other: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """An inner node of the tree, with two branches: codes of the labels below each, and their profiles."""

    labels: tuple[list[int], list[int]]
    profiles: tuple[list[Profile], list[Profile]]
    #: The next fork of each branch; None if the branch is a single label.
    below: tuple[Fork | None, Fork | None]


class Chetah:
    """CHETAH, reimplemented from its description: classification along a tree of the reference's labels.

    The tree joins labels by average linkage of the Spearman distances between their mean profiles. At a
    fork, each label below it gets a profile score, which compares the cell's correlation with the label's
    mean with those of the label's own cells and of the cells of the other branch. The cell follows the
    label with the highest score. Its confidence is this score minus the mean score of the labels of the
    other branch.

    If the confidence is below ``reject_below``, the original stops and calls the cell by the node of the
    tree. Here such a cell is rejected, and its label is the leaf that it reaches without stopping. Novelty
    is 1 - the lowest confidence on the path.

    Parameters
    ----------
    n_genes
        Number of genes per label at a fork: those with the largest differences between the label's mean
        and the mean of the other branch, in which all labels have equal weight.
    reject_below
        Cells with a lower confidence at any fork are rejected.
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="chetah",
        name="CHETAH",
        tasks=("annotation", "novelty"),
        description="Rank correlation with label profiles at each fork of a tree of labels.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1093/nar/gkz543",
        url="https://github.com/jdekanter/CHETAH",
        license="BSD-3-Clause",
        requires=("scipy",),
    )

    def __init__(self, *, n_genes: int = 200, reject_below: float = 0.1, seed: int = 0) -> None:
        self.n_genes = n_genes
        self.reject_below = reject_below
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Build the tree and the profiles at each fork."""
        labels = require_labels(train, self.spec.method_id)
        self._labels, code = np.unique(labels, return_inverse=True)
        X = _columns(train.X)
        means = np.stack([np.asarray(X[code == k].mean(axis=0)).ravel() for k in range(self._labels.size)])
        self._root = self._fork(label_tree(means), X, code, means)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        require_fitted(query, self._genes, self.spec.method_id)
        label = np.empty(query.n_obs, dtype=np.int64)
        confidence = np.full(query.n_obs, np.inf)
        _walk(self._root, _columns(query.X), np.arange(query.n_obs), label, confidence)
        return Prediction(
            label_pred=self._labels[label],
            novelty=1.0 - confidence,
            rejected=confidence < self.reject_below,
        )

    def _fork(self, tree: Any, X: Any, code: NDArray[np.int64], means: NDArray[np.float64]) -> Fork:
        """Build a fork and all forks below it."""
        sides = (tree.left, tree.right)
        labels = (sides[0].pre_order(), sides[1].pre_order())
        return Fork(
            labels=labels,
            profiles=(
                [self._profile(label, labels[1], X, code, means) for label in labels[0]],
                [self._profile(label, labels[0], X, code, means) for label in labels[1]],
            ),
            below=(
                None if sides[0].is_leaf() else self._fork(sides[0], X, code, means),
                None if sides[1].is_leaf() else self._fork(sides[1], X, code, means),
            ),
        )

    def _profile(
        self, label: int, others: list[int], X: Any, code: NDArray[np.int64], means: NDArray[np.float64]
    ) -> Profile:
        """Build the profile of a label against the labels of the other branch."""
        difference = np.abs(means[label] - means[others].mean(axis=0))
        genes = np.sort(np.argsort(-difference, kind="stable")[: self.n_genes])
        centre = ranked_rows(means[label : label + 1, genes])[0]
        columns = X[:, genes]
        own, other = (
            np.sort(ranked_rows(columns[cells].toarray()) @ centre)
            for cells in (code == label, np.isin(code, others))
        )
        return Profile(genes=genes, centre=centre, own=own, other=other)


def label_tree(means: NDArray[np.float64]) -> Any:
    """Build a tree of labels from their means (n_labels, n_vars): average linkage of 1 - Spearman."""
    from scipy.cluster.hierarchy import linkage, to_tree
    from scipy.spatial.distance import squareform

    ranks = ranked_rows(means)
    distance = np.maximum(1.0 - ranks @ ranks.T, 0.0)
    np.fill_diagonal(distance, 0.0)
    return to_tree(linkage(squareform(distance, checks=False), method="average"))


def profile_score(
    correlation: NDArray[np.float64], own: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how typical correlations are of a label's own cells and not of other cells, -1 to 1.

    This is the share of ``own`` cells with at most this correlation, minus the share of ``other`` cells with
    a higher one. Both are sorted.
    """
    no_more = np.searchsorted(own, correlation, side="right") / own.size
    others_more = 1.0 - np.searchsorted(other, correlation, side="right") / other.size
    return np.asarray(no_more - others_more)


def _walk(
    fork: Fork,
    X: Any,
    cells: NDArray[np.int64],
    label: NDArray[np.int64],
    confidence: NDArray[np.float64],
) -> None:
    """Follow cells down from a fork; write their leaf to ``label`` and their minimum to ``confidence``."""
    if not cells.size:
        return
    scores = tuple(
        np.stack([_score(profile, X, cells) for profile in profiles], axis=1) for profiles in fork.profiles
    )
    side, margin = followed(*scores)
    confidence[cells] = np.minimum(confidence[cells], margin)
    for number in (0, 1):
        below, here = fork.below[number], cells[side == number]
        if below is None:
            label[here] = fork.labels[number][0]
        else:
            _walk(below, X, here, label, confidence)


def followed(
    left: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose the branch with the highest profile score (n_obs, n_labels): 0 for left, 1 for right.

    The confidence, also returned, is the highest score minus the mean score of the other branch.
    """
    to_right = right.max(axis=1) > left.max(axis=1)
    margin = np.where(to_right, right.max(axis=1) - left.mean(axis=1), left.max(axis=1) - right.mean(axis=1))
    return to_right.astype(np.int64), margin


def _score(profile: Profile, X: Any, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    ranks = ranked_rows(X[:, profile.genes][cells].toarray())
    return profile_score(ranks @ profile.centre, profile.own, profile.other)


def _columns(X: Any) -> Any:
    """Return the expression as csc, from which genes can be selected fast."""
    from scipy.sparse import csc_matrix

    return csc_matrix(X, dtype=np.float64)
