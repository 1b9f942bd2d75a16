"""scPred: one support vector machine with radial kernel per label, on principal components."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._annotators import repeat_rare
from cellular_bench.methods._components import ScaledComponents
from cellular_bench.methods._harmony_v1 import harmonise
from cellular_bench.methods._inputs import require_fitted, require_labels

if TYPE_CHECKING:
    from anndata import AnnData

#: Largest absolute value of a scaled gene of the training cells.
CLIP: Final = 10.0
#: Rounds of clustering and correction of the alignment.
MAX_ITER: Final = 20
#: Candidates for the inverse strength of the penalty.
PENALTIES = (0.25, 0.5, 1.0)


class ScPred:
    """scPred, reimplemented from its description: one support vector machine per label against all others.

    Genes are scaled by the standard deviations of the training cells, where values above 10 are clipped, and
    reduced to principal components.
    For each label, the components on which its cells differ from all others (Wilcoxon rank-sum test) are
    the input of a machine with radial kernel and Platt probabilities. The penalty is selected by
    cross-validated area under the ROC curve; the kernel width is the heuristic of the R packages kernlab
    and caret, from distances between random pairs of cells. A label with fewer cells than ``n_folds`` has
    as many folds as cells; a single cell is repeated once.

    The probabilities of a cell do not sum to 1. ``label_proba`` holds them divided by their sum. Novelty is
    1 - the highest unscaled probability; a cell is rejected if this probability is not above
    ``reject_below``.

    Before the prediction, Harmony aligns the query, as one batch, to the training cells, which do not move.
    A cell's label therefore depends on the other cells of the query; :class:`UnalignedScPred` leaves
    the alignment out.

    Parameters
    ----------
    n_components
        Number of principal components, fitted on the training cells only.
    significance
        Maximum adjusted p-value (Benjamini-Hochberg) of the components of a label; 1 keeps all.
    reject_below
        Cells whose highest probability is not above this value are rejected.
    n_folds
        Number of folds of the cross-validations.
    seed
        Seed of the components' solver, of the folds, of the pairs of cells and of the alignment.
    """

    spec = MethodSpec(
        method_id="scpred",
        name="scPred",
        tasks=("annotation", "novelty"),
        description="One radial SVM per label on principal components that separate it.",
        labels="train",
        scaling="own",
        is_reimplementation=True,
        doi="10.1186/s13059-019-1862-5",
        url="https://github.com/powellgenomicslab/scPred",
        license="BSD-3-Clause",
        requires=("scipy", "sklearn"),
        check_params={"n_folds": 2},
        version=2,
    )
    is_aligned: ClassVar[bool] = True

    def __init__(
        self,
        *,
        n_components: int = 50,
        significance: float = 1.0,
        reject_below: float = 0.55,
        n_folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.significance = significance
        self.reject_below = reject_below
        self.n_folds = n_folds
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Fit the components, then one machine per label."""
        labels = require_labels(train, self.spec.method_id)
        self._components = ScaledComponents(
            train.X, n_components=self.n_components, seed=self.seed, clip=CLIP
        )
        self._reference = self._components.scores(train.X)
        self._labels = np.unique(labels)
        self._machines = [self._machine(self._reference, labels == name) for name in self._labels]
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        scores = self._scores(query)
        probability = np.column_stack(
            [machine.predict_proba(scores[:, kept])[:, 1] for kept, machine in self._machines]
        )
        highest = probability.max(axis=1)
        return Prediction(
            label_pred=self._labels[probability.argmax(axis=1)],
            label_proba=probability / probability.sum(axis=1, keepdims=True),
            labels=tuple(self._labels.tolist()),
            novelty=1.0 - highest,
            rejected=highest <= self.reject_below,
        )

    def _scores(self, query: AnnData) -> NDArray[np.floating[Any]]:
        """Project the query onto the components, as in the original without clipping, and align it."""
        require_fitted(query, self._genes, self.spec.method_id)
        scores = self._components.scores(query.X, clipped=False)
        if not self.is_aligned:
            return scores
        is_query = np.arange(len(self._reference) + len(scores)) >= len(self._reference)
        aligned, _ = harmonise(
            np.concatenate([self._reference, scores]),
            np.where(is_query, "query", "reference"),
            fixed=~is_query,
            max_iter=MAX_ITER,
            seed=self.seed,
        )
        return aligned[is_query]

    def _machine(self, scores: NDArray[np.float32], is_label: NDArray[np.bool_]) -> tuple[Any, Any]:
        """Return the components of a label and its fitted machine."""
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.model_selection import GridSearchCV, StratifiedKFold

        kept = separating(scores, is_label, significance=self.significance)
        rows = repeat_rare(is_label, at_least=2)
        X, y = scores[rows][:, kept], is_label[rows]
        n_folds = min(self.n_folds, int(np.bincount(y.astype(int)).min()))
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=self.seed)
        machine = _radial_machine(gamma=kernel_width(X, seed=self.seed), seed=self.seed)
        search = GridSearchCV(machine, {"svc__C": PENALTIES}, scoring="roc_auc", cv=folds, refit=False)
        machine.set_params(**search.fit(X, y).best_params_)
        return kept, CalibratedClassifierCV(machine, cv=folds, ensemble=False).fit(X, y)


class UnalignedScPred(ScPred):
    """scPred without alignment: a cell's label does not depend on the other cells of the query.

    Parameters are those of :class:`ScPred`.
    """

    spec = replace(
        ScPred.spec,
        method_id="scpred_unaligned",
        name="scPred, no alignment",
        description="scPred without the alignment of the query to the training cells.",
        inductive=True,
        variant_of="scpred",
    )
    is_aligned = False


def separating(
    scores: NDArray[np.floating[Any]], is_label: NDArray[np.bool_], *, significance: float
) -> NDArray[np.int64]:
    """Return the components on which the cells of a label differ from all others (Wilcoxon rank-sum test).

    ``significance`` is the maximum p-value after Benjamini-Hochberg adjustment. If no p-value is low enough,
    only the component with the lowest one is returned.
    """
    from scipy.stats import false_discovery_control, mannwhitneyu

    test = mannwhitneyu(scores[is_label], scores[~is_label], axis=0, method="asymptotic")
    adjusted = false_discovery_control(test.pvalue)
    kept = np.flatnonzero(adjusted <= significance)
    return kept if kept.size else np.asarray([adjusted.argmin()])


def kernel_width(X: NDArray[np.floating[Any]], *, seed: int) -> float:
    """Return gamma of the radial kernel: the mean of the inverse 10th and 90th percentile of distances.

    Distances are squared and measured between random pairs of scaled cells; the number of pairs is half
    the number of cells.
    """
    from sklearn.preprocessing import StandardScaler

    X = np.asarray(StandardScaler().fit_transform(X), dtype=np.float64)
    first, second = np.random.default_rng(seed).integers(len(X), size=(2, max(len(X) // 2, 1)))
    distance = ((X[first] - X[second]) ** 2).sum(axis=1)
    if not distance.any():
        return float(1.0 / X.shape[1])  # all cells are identical: the default of scikit-learn
    return float(np.mean(1.0 / np.quantile(distance[distance > 0], [0.1, 0.9])))


def _radial_machine(*, gamma: float, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(gamma=gamma, random_state=seed))
