"""CellTypist: one logistic regression per cell type."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.keys import COUNTS, TARGET_SUM
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import require_fitted, require_labels
from cellular_bench.methods._session import unchanged_random_state
from cellular_bench.methods.celltypist.training import fit

if TYPE_CHECKING:
    from anndata import AnnData

#: Principal components of the library's clustering, which skips smaller data or fails on them.
LIBRARY_COMPONENTS: Final = 50
#: From so many cells on, the clustering finds neighbours by pynndescent, which compiles for seconds.
PYNNDESCENT_CELLS: Final = 8192


class CellTypist:
    """CellTypist trained on the reference, best match per cell, without majority voting.

    No published model is loaded. Training has two passes, as for the published models: stochastic gradient
    descent on all genes selects the genes with the largest coefficients of each label; logistic regression
    on these genes gives the model. If there are at most ``top_genes`` genes, there is only one pass.

    Each label has its own logistic regression, so the raw probabilities of a cell do not sum to 1.
    ``label_proba`` holds them divided by their sum. Novelty is 1 - the highest raw probability, which is
    low if no type fits.

    Importing the library creates the folder ``~/.celltypist`` (or ``CELLTYPIST_FOLDER``).

    Parameters
    ----------
    feature_selection
        Whether to train in two passes.
    top_genes
        Number of genes per label that the first pass selects.
    C
        Inverse strength of the penalty in the second pass.
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
        scaling="own",
        inductive=True,
        doi="10.1126/science.abl5197",
        url="https://github.com/Teichlab/celltypist",
        license="MIT",
        requires=("celltypist", "sklearn"),
        warm_up=240,
    )

    def __init__(
        self, *, feature_selection: bool = True, top_genes: int = 300, C: float = 1.0, seed: int = 0
    ) -> None:
        self.feature_selection = feature_selection
        self.top_genes = top_genes
        self.C = C
        self.seed = seed
        self._model: Any = None
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Train a model on the reference."""
        labels = require_labels(train, self.spec.method_id)
        _require_target_sum(train, self.spec.method_id)
        library = _library()
        with unchanged_random_state():
            classifier, scaler = fit(
                train,
                labels,
                top_genes=self.top_genes if self.feature_selection else None,
                C=self.C,
                seed=self.seed,
            )
        self._model = library.models.Model(classifier, scaler, description={})
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the most probable label of each cell."""
        from scipy.special import log_expit, softmax

        require_fitted(query, self._genes, self.spec.method_id)
        decisions = _library().annotate(_expression(query), model=self._model).decision_matrix
        # Logarithms, because all raw probabilities of a cell may be too small to divide by.
        log_raw = log_expit(decisions.to_numpy(dtype=np.float64))
        labels = np.asarray(decisions.columns, dtype=np.str_)
        return Prediction(
            label_pred=labels[log_raw.argmax(axis=1)],
            label_proba=softmax(log_raw, axis=1),
            labels=tuple(labels.tolist()),
            novelty=1.0 - np.exp(log_raw.max(axis=1)),
        )


class CellTypistMajority(CellTypist):
    """CellTypist with majority voting in small clusters of the query.

    The library's own clustering divides the query into small clusters (Leiden on a neighbour graph of the
    query, resolution 5 below 5,000 cells, higher above), and every cell gets the most frequent label of its
    cluster. A cell's label therefore depends on the other cells of the query. ``label_proba`` holds the
    shares of votes in the cluster; novelty is that of the individual cell, as in :class:`CellTypist`. A
    query of at most 50 cells is not clustered; each of its cells keeps its own label.

    Parameters
    ----------
    min_share
        Cells are rejected if the most frequent label of their cluster has a smaller share of the votes
        ("heterogeneous" in the library).
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
        warm_up=PYNNDESCENT_CELLS,
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
        """Predict the label of each cell, then vote in each cluster."""
        alone = super().predict(query)
        assert alone.labels is not None, "CellTypist returns its labels"
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
        """Return the library's clusters of the query, (n_obs,)."""
        # The library's pipeline keeps these genes; its decomposition fails if there are too few.
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
    """Return, for each cell, the share of each label in the cell's cluster, (n_obs, n_labels).

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
    """Return a copy with expression only, because the library reads and writes other fields."""
    from anndata import AnnData

    return AnnData(adata.X.copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())


def _require_target_sum(adata: AnnData, method_id: str) -> None:
    totals: NDArray[np.float64] = np.asarray(np.expm1(adata.X).sum(axis=1), dtype=np.float64).ravel()
    farthest = totals[np.abs(totals - TARGET_SUM).argmax()]
    # 1 % allows for rounding and for genes that a filter removed.
    if not abs(farthest - TARGET_SUM) <= 0.01 * TARGET_SUM:
        # The harness normalises counts to this sum over all genes, so the user asked for any difference.
        remedy = (
            "Genes were removed after normalisation (by the stress fewer_genes, or features other than all), "
            "or a recipe normalised to another sum. Run it on all genes, without such a stress or recipe."
            if COUNTS in adata.layers
            else "Use data with counts, or with all genes and this normalisation; the stress fewer_genes and "
            "features other than all remove genes."
        )
        raise NotApplicableError(
            f"{method_id}: needs log1p of counts per {TARGET_SUM:g} over all genes, but a cell has a total "
            f"of {farthest:g}. {remedy}"
        )


def _library() -> Any:
    """Import the library and undo its changes to the root logger."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with unchanged_random_state():
        import celltypist

    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    celltypist.logger.set_level(logging.ERROR)
    return celltypist
