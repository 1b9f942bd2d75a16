"""Linear support vector machine without rejection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._annotators import ClassifierAnnotator
from cellular_bench.methods._inputs import sparse_rows

if TYPE_CHECKING:
    from anndata import AnnData


class LinearSVM(ClassifierAnnotator):
    """One hyperplane per label against all others; the label with the highest margin is predicted.

    There are no probabilities. Confidence is the highest margin: 1 at the target margin of the training
    cells, 0 on the hyperplane, negative for a cell on the wrong side of every hyperplane. Novelty is
    1 - confidence.

    Parameters
    ----------
    C
        Inverse strength of the penalty.
    seed
        Seed of the solver.
    """

    spec = MethodSpec(
        method_id="linear_svm",
        name="Linear SVM",
        tasks=("annotation", "novelty"),
        description="One linear SVM per label against all others, without calibration or rejection.",
        labels="train",
        scaling="given",
        inductive=True,
        doi="10.1007/BF00994018",
        url="https://scikit-learn.org",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, C: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.C = C
        self.seed = seed

    def inputs(self, adata: AnnData) -> Any:
        """Return the expression as a sparse matrix."""
        return sparse_rows(adata.X)

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Fit the hyperplanes."""
        return linear_machine(C=self.C, seed=self.seed).fit(X, labels)

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        machine = self.fitted(query)
        margin = machine.decision_function(self.inputs(query))
        if margin.ndim == 1:  # for two labels: the margin of the second one
            margin = np.column_stack([-margin, margin])
        return Prediction(
            label_pred=np.asarray(machine.classes_, dtype=np.str_)[margin.argmax(axis=1)],
            novelty=1.0 - margin.max(axis=1),
        )


def linear_machine(*, C: float, seed: int) -> Any:
    """Return an unfitted linear SVM with the dual solver; the primal one takes 30 times as long here."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=C, dual=True, max_iter=10_000, random_state=seed)
