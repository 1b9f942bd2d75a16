"""Linear support vector machine that rejects uncertain cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._annotators import ClassifierAnnotator, repeat_rare
from cellular_bench.methods._inputs import sparse_rows
from cellular_bench.methods.linear_svm import linear_machine

if TYPE_CHECKING:
    from anndata import AnnData


class SVMRejection(ClassifierAnnotator):
    """Linear SVM with calibrated probabilities; cells below a threshold are rejected.

    The study that introduced it uses ``log1p`` of raw counts without normalisation; here it reads the
    log-normalised highly variable genes, like every other classifier. Calibration by cross-validation needs
    at least as many cells per label as folds. Cells of rarer labels are therefore repeated, because fewer
    folds would degrade all other labels.

    Parameters
    ----------
    reject_below
        Cells whose highest probability is below this value are rejected.
    C
        Inverse strength of the penalty.
    n_folds
        Number of folds of the calibration.
    seed
        Seed of the solver.
    """

    spec = MethodSpec(
        method_id="svm_rejection",
        name="SVM with rejection",
        tasks=("annotation", "novelty"),
        description="Calibrated linear SVM; cells with a highest probability below 0.7 are rejected.",
        labels="train",
        scaling="given",
        inductive=True,
        doi="10.1186/s13059-019-1795-z",
        url="https://github.com/tabdelaal/scRNAseq_Benchmark",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, reject_below: float = 0.7, C: float = 1.0, n_folds: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.reject_below = reject_below
        self.C = C
        self.n_folds = n_folds
        self.seed = seed

    def inputs(self, adata: AnnData) -> Any:
        """Return the expression as a sparse matrix."""
        return sparse_rows(adata.X)

    def learn(self, X: Any, labels: NDArray[np.str_]) -> Any:
        """Repeat the cells of rare labels, then fit and calibrate the machines."""
        from sklearn.calibration import CalibratedClassifierCV

        machine = linear_machine(C=self.C, seed=self.seed)
        rows = repeat_rare(labels, at_least=self.n_folds)
        return CalibratedClassifierCV(machine, cv=self.n_folds).fit(X[rows], labels[rows])
