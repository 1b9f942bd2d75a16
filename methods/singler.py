"""SingleR: rank correlation with labelled reference cells on marker genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UnknownNameError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import require_fitted, require_labels
from cellular_bench.methods._markers import Markers, pairwise_markers, rank_sum_tests, welch_tests

if TYPE_CHECKING:
    from anndata import AnnData

#: Ways to select the markers between two labels.
MARKER_METHODS = ("wilcox", "t", "classic", "auc", "cohens_d")
#: Those that the library lacks, by the test of the original.
_TESTS = {"wilcox": rank_sum_tests, "t": welch_tests}


class SingleR:
    """SingleR with fine-tuning (library: BiocPy ``singler``).

    The score of a label is a high quantile of the cell's Spearman correlations with the reference cells of
    that label, on marker genes of all pairs of labels. Labels with scores close to the best are compared
    again on the markers between them only.

    Confidence is the score of the predicted label minus the median score of all labels; novelty is
    1 - confidence. As in the original's score pruning, a cell is rejected if its confidence is more than
    ``n_mads`` median absolute deviations below the median of the query cells with the same label. Only
    rejection depends on the other cells of the query.

    Parameters
    ----------
    marker_method
        How markers between two labels are selected. ``"wilcox"``: the ten genes with the lowest p-values
        of a rank-sum test, as the authors recommend for references of single cells. ``"t"``: the same with
        Welch's t-test. ``"classic"``: the genes whose medians differ most, for references of bulk samples;
        in single cells the median of most genes is 0. ``"auc"`` and ``"cohens_d"``, of the library: the ten
        genes that best rank the cells of one label above those of the other, or whose means differ most
        in units of their standard deviation, whether significant or not.
    quantile
        Quantile of the correlations that is the score of a label.
    fine_tune_threshold
        Labels whose score is within this distance of the highest one are compared again.
    n_mads
        Number of median absolute deviations below the median at which a cell is rejected.
    seed
        Not used; there is no randomness.
    """

    spec = MethodSpec(
        method_id="singler",
        name="SingleR",
        tasks=("annotation", "novelty"),
        description="Spearman correlation with reference cells on pairwise marker genes, fine-tuned.",
        labels="train",
        features="all",
        inductive=True,
        doi="10.1038/s41590-018-0276-y",
        url="https://github.com/BiocPy/singler",
        license="MIT",
        requires=("scipy", "scranpy", "singler"),
        version=2,
    )

    def __init__(
        self,
        *,
        marker_method: str = "wilcox",
        quantile: float = 0.8,
        fine_tune_threshold: float = 0.05,
        n_mads: float = 3.0,
        seed: int = 0,
    ) -> None:
        if marker_method not in MARKER_METHODS:
            raise UnknownNameError("marker method", marker_method, MARKER_METHODS)
        self.marker_method = marker_method
        self.quantile = quantile
        self.fine_tune_threshold = fine_tune_threshold
        self.n_mads = n_mads
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Select the markers between all pairs of labels of the reference."""
        import singler

        labels = require_labels(train, self.spec.method_id)
        genes = list(train.var_names)
        self._reference = singler.train_single(
            _genes_by_cells(train),
            labels.tolist(),
            genes,
            markers=self._tested_markers(train.X, labels, genes),
            marker_method=self.marker_method,
            num_threads=1,
        )
        self._genes = genes
        return self

    def _tested_markers(self, X: Any, labels: NDArray[np.str_], genes: list[str]) -> Markers | None:
        """Return markers by a statistical test, or None if the library is to select them."""
        if self.marker_method not in _TESTS:
            return None
        markers = pairwise_markers(_TESTS[self.marker_method], X, labels, genes)
        if not any(found for of_label in markers.values() for found in of_label.values()):
            raise NotApplicableError(
                f"{self.spec.method_id}: no gene differs significantly between any two labels. Use more "
                'training cells, or marker_method="auc".'
            )
        return markers

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label with the highest score for each cell."""
        import singler

        require_fitted(query, self._genes, self.spec.method_id)
        result = singler.classify_single(
            _genes_by_cells(query),
            self._reference,
            quantile=self.quantile,
            fine_tune_threshold=self.fine_tune_threshold,
            num_threads=1,
        )
        label = np.asarray(result["best"], dtype=np.str_)
        confidence = _confidence(result["scores"], label, list(self._reference.labels))
        return Prediction(
            label_pred=label,
            novelty=1.0 - confidence,
            rejected=_outliers(confidence, label, n_mads=self.n_mads),
        )


def _genes_by_cells(adata: AnnData) -> Any:
    """Return the expression in the form that the library reads: sparse, one column per cell."""
    from scipy.sparse import csr_matrix

    return csr_matrix(adata.X, dtype=np.float64).T.tocsc()


def _confidence(scores: Any, label: NDArray[np.str_], labels: list[str]) -> NDArray[np.float64]:
    """Return the score of each cell's label minus the median of its scores, (n_obs,)."""
    table = np.column_stack([np.asarray(scores[name], dtype=np.float64) for name in labels])
    column = {name: position for position, name in enumerate(labels)}
    of_label = np.array([column[name] for name in label])
    return np.asarray(table[np.arange(label.size), of_label] - np.median(table, axis=1))


def _outliers(
    confidence: NDArray[np.float64], label: NDArray[np.str_], *, n_mads: float
) -> NDArray[np.bool_]:
    """Return a mask of cells whose confidence is far below that of other cells with the same label."""
    rejected = np.zeros(label.size, dtype=np.bool_)
    for name in np.unique(label):
        cells = label == name
        median = np.median(confidence[cells])
        # 1.4826 makes this equal to the standard deviation for a normal distribution.
        spread = 1.4826 * np.median(np.abs(confidence[cells] - median))
        rejected[cells] = confidence[cells] < median - n_mads * spread
    return rejected
