"""CellTypist: one logistic regression per cell type."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError
from cellular_bench.core.keys import COUNTS, TARGET_SUM
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._support import (
    labels_of,
    require_labels,
    require_same_genes,
    unchanged_random_state,
)

if TYPE_CHECKING:
    from anndata import AnnData

#: Principal components of the library's clustering; it leaves smaller data alone, or fails on them.
LIBRARY_COMPONENTS: Final = 50


class CellTypist:
    """CellTypist trained on the reference, best match per cell, without majority voting.

    No published model is loaded. Training has two passes, as for the published models: stochastic
    gradient descent on all genes picks the genes with the largest coefficients of each label, and
    logistic regression on these gives the model. With no more genes than ``top_genes`` there is
    nothing to pick, and one pass.

    Each label has its own logistic regression, so the raw probabilities of a cell do not sum to 1.
    ``label_proba`` holds them divided by their sum; novelty is 1 - the highest raw probability, which
    is low where no type fits.

    Importing the library creates the folder ``~/.celltypist`` (or ``CELLTYPIST_FOLDER``).

    Parameters
    ----------
    feature_selection
        Whether to train in two passes.
    top_genes
        Genes kept per label by the first pass.
    C
        Inverse strength of the penalty of the second pass.
    seed
        Seed of the stochastic gradient descent.

    Raises
    ------
    NotApplicableError
        If ``X`` is not ``log1p`` of counts per 10,000 over all genes, or if there is one label.
    """

    spec = MethodSpec(
        method_id="celltypist",
        name="CellTypist",
        tasks=("annotation", "novelty"),
        description="Logistic regression per cell type after gene selection, trained on the reference.",
        labels="train",
        features="all",
        inductive=True,
        doi="10.1126/science.abl5197",
        url="https://github.com/Teichlab/celltypist",
        license="MIT",
        requires=("celltypist",),
    )

    def __init__(
        self, *, feature_selection: bool = True, top_genes: int = 300, C: float = 1.0, seed: int = 0
    ) -> None:
        self.feature_selection = feature_selection
        self.top_genes = top_genes
        self.C = C
        self.seed = seed
        self._model: Any = None

    def fit(self, train: AnnData) -> Self:
        """Train a model on the reference."""
        labels = labels_of(train)
        require_labels(labels, self.spec.method_id)
        _require_target_sum(train, self.spec.method_id)
        self._genes = list(train.var_names)
        n_expressed = int(np.count_nonzero(np.asarray(train.X.sum(axis=0)).ravel()))
        with unchanged_random_state():
            self._model = _library().train(
                _expression(train),
                labels=labels,
                feature_selection=self.feature_selection and n_expressed > self.top_genes,
                top_genes=self.top_genes,
                C=self.C,
                check_expression=False,
                random_state=self.seed,
            )
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Match each cell with its most probable label."""
        from scipy.special import log_expit, softmax

        if self._model is None:
            raise ContractError(f"{self.spec.method_id}: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        found = _library().annotate(_expression(query), model=self._model)
        # Logarithms, because every raw probability of a cell may be too small to be divided by.
        log_raw = log_expit(found.decision_matrix.to_numpy(dtype=np.float64))
        labels = np.asarray(found.decision_matrix.columns, dtype=np.str_)
        return Prediction(
            label_pred=labels[log_raw.argmax(axis=1)],
            label_proba=softmax(log_raw, axis=1),
            labels=tuple(labels.tolist()),
            novelty=1.0 - np.exp(log_raw.max(axis=1)),
        )


class CellTypistMajority(CellTypist):
    """CellTypist, then a vote in each of many small clusters of the query.

    The query is clustered as the library does it, on a neighbour graph of its own, finely (Leiden with
    resolution 5 below 5,000 cells, more above), and every cell gets the most frequent label of its
    cluster. A cell's label so depends on the other cells of the query. ``label_proba`` holds the shares
    of votes in its cluster; novelty is that of the cell itself, as in :class:`CellTypist`. A query of 50
    cells or fewer is not clustered, and its cells are named one by one.

    Parameters
    ----------
    min_share
        Cells of a cluster whose most frequent label has a smaller share are rejected ("heterogeneous" in
        the library).
    feature_selection, top_genes, C, seed
        As for :class:`CellTypist`.

    Raises
    ------
    NotApplicableError
        As :class:`CellTypist`, and if the query has too few genes for the library's 50 components.
    """

    spec = replace(
        CellTypist.spec,
        method_id="celltypist_majority",
        name="CellTypist, majority voting",
        description="CellTypist, then the most frequent label in each small cluster of the query.",
        inductive=False,
        variant_of="celltypist",
    )

    def __init__(
        self,
        *,
        min_share: float = 0.0,
        feature_selection: bool = True,
        top_genes: int = 300,
        C: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(feature_selection=feature_selection, top_genes=top_genes, C=C, seed=seed)
        self.min_share = min_share

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells one by one, then vote in each cluster."""
        alone = super().predict(query)
        assert alone.labels is not None, "CellTypist names its labels"
        if query.n_obs <= LIBRARY_COMPONENTS:
            return alone
        votes = shares_of_votes(alone.label_pred, self._clusters(query), labels=alone.labels)
        highest = votes.max(axis=1)
        return replace(
            alone,
            label_pred=np.asarray(alone.labels, dtype=np.str_)[votes.argmax(axis=1)],
            label_proba=votes,
            rejected=highest < self.min_share if self.min_share > 0 else None,
        )

    def _clusters(self, query: AnnData) -> NDArray[np.str_]:
        """Cluster the query as the library does it, (n_obs,)."""
        # What the library's own pipeline keeps; its decomposition fails on fewer.
        n_usable = int((query.X.getnnz(axis=0) >= 5).sum())
        if n_usable <= LIBRARY_COMPONENTS:
            raise NotApplicableError(
                f"{self.spec.method_id}: {n_usable} genes are expressed in 5 or more cells of the query; "
                f"clustering needs more than {LIBRARY_COMPONENTS}. Use data with more genes, or celltypist."
            )
        library = _library()
        with unchanged_random_state():
            classifier = library.classifier.Classifier(filename=_expression(query), model=self._model)
            return np.asarray(classifier.over_cluster(), dtype=np.str_)


def shares_of_votes(
    label_pred: NDArray[Any], clusters: NDArray[np.str_], *, labels: Sequence[str]
) -> NDArray[np.float64]:
    """Return the share of each label among the cells of a cell's cluster, (n_obs, n_labels).

    Examples
    --------
    >>> shares_of_votes(np.array(["b", "b", "a", "a"]), np.array(["0", "0", "0", "1"]), labels=("a", "b"))
    array([[0.33333333, 0.66666667],
           [0.33333333, 0.66666667],
           [0.33333333, 0.66666667],
           [1.        , 0.        ]])
    """
    voted = (np.asarray(label_pred)[:, None] == np.asarray(labels)).astype(np.float64)
    _, code = np.unique(clusters, return_inverse=True)
    ballots = np.zeros((code.max() + 1, len(labels)))
    np.add.at(ballots, code, voted)
    return np.asarray((ballots / ballots.sum(axis=1, keepdims=True))[code])


def _expression(adata: AnnData) -> AnnData:
    """Return the expression alone: the library looks at, and writes to, what else there is."""
    from anndata import AnnData

    return AnnData(adata.X.copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())


def _require_target_sum(adata: AnnData, method_id: str) -> None:
    totals: NDArray[np.float64] = np.asarray(np.expm1(adata.X).sum(axis=1), dtype=np.float64).ravel()
    farthest = totals[np.abs(totals - TARGET_SUM).argmax()]
    # Within 1 %: sums of rounded numbers, and of genes without those that a filter dropped.
    if not abs(farthest - TARGET_SUM) <= 0.01 * TARGET_SUM:
        # The harness normalises counts so, over all genes: what differs then was asked for.
        remedy = (
            "Genes were left out after normalising (a stress fewer_genes, or features other than all), or a "
            "recipe normalised otherwise. Run it on all genes, without such a stress or recipe."
            if COUNTS in adata.layers
            else "Use data with counts, or with all genes and that normalisation; a stress fewer_genes or "
            "features other than all leave genes out."
        )
        raise NotApplicableError(
            f"{method_id}: wants log1p of counts per {TARGET_SUM:g} over all genes, but a cell has a total "
            f"of {farthest:g}. {remedy}"
        )


def _library() -> Any:
    """Import the library, and undo what it does to the root logger."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    import celltypist

    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    celltypist.logger.set_level(logging.ERROR)
    return celltypist
