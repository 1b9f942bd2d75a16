"""Scores of predicted cell types.

A rejected cell ("unknown") counts as wrong in all metrics except ``accuracy_accepted``: it lowers the recall
of its true label and is not a prediction of any label. A label without training cells is a true label like
any other: methods cannot predict it, and its cells count as wrong.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation import counts as counting
from cellular_bench.metrics.annotation.counts import RARE_SHARE, Counts, count, named_cells
from cellular_bench.metrics.spec import metric


@metric(
    metric_id="accuracy",
    name="Accuracy",
    aspect="annotation",
    definition="Share of cells with a correct label. A rejected cell counts as wrong.",
)
def accuracy(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Share of cells with a correct label, 0 to 1.

    Undefined if there are no cells.

    Notes
    -----
    Formula: correct cells / all cells.

    Fooled by: unequal numbers of cells. If 90 % of the cells are of one type, predicting it for every cell
    scores 0.9; compare with the majority-label control.

    Examples
    --------
    >>> accuracy(["T", "T", "B", "B"], ["T", "B", "B", "B"])
    0.75
    >>> accuracy(["T", "T", "B", "B"], ["T", "B", "B", "B"], [False, False, False, True])
    0.5
    """
    return float(counting.accuracy_of(count(label, label_pred, rejected)))


@metric(
    metric_id="balanced_accuracy",
    name="Balanced accuracy",
    aspect="annotation",
    definition="Recall of each true label, averaged over labels: rare labels count as much as common ones.",
    doi="10.1109/ICPR.2010.764",
)
def balanced_accuracy(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Mean recall over the labels that occur in the truth, 0 to 1.

    Undefined if there are no cells.

    Notes
    -----
    Formula: mean over true labels t of (cells of t predicted as t / cells of t).

    Fooled by: labels of very few cells, each of which changes the score as much as thousands of others; and
    by predicting a rare label too often, which does not lower the recall of that label.

    Examples
    --------
    >>> balanced_accuracy(["T", "T", "T", "B"], ["T", "T", "T", "T"])
    0.5
    """
    return float(counting.balanced_accuracy_of(count(label, label_pred, rejected)))


@metric(
    metric_id="f1_macro",
    name="F1 (macro)",
    aspect="annotation",
    definition="F1 of each label that is true or predicted for some cell, averaged over labels.",
)
def f1_macro(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Mean F1 over the union of true and predicted labels, 0 to 1.

    Rejection is not a label. Undefined if there are no cells.

    Notes
    -----
    Formula: mean over labels t, true or predicted, of 2 hits(t) / (cells of t + cells predicted as t).

    Fooled by: labels that are never true. A single cell with a label of another tissue adds a label with an
    F1 of 0 and lowers the mean as much as losing a whole type.

    Examples
    --------
    >>> round(f1_macro(["T", "T", "B"], ["T", "T", "NK"]), 4)
    0.3333
    """
    return float(counting.f1_macro_of(count(label, label_pred, rejected)))


@metric(
    metric_id="f1_weighted",
    name="F1 (weighted)",
    aspect="annotation",
    definition="F1 of each true label, weighted by its number of cells.",
    in_overall=False,
)
def f1_weighted(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Mean F1 over true labels, weighted by their cells, 0 to 1.

    Undefined if there are no cells.

    Notes
    -----
    Formula: sum over true labels t of (cells of t / all cells) x F1(t).

    Fooled by: the same as accuracy. Common types decide, and the loss of a rare type has little effect.

    Examples
    --------
    >>> round(f1_weighted(["T", "T", "T", "B"], ["T", "T", "T", "T"]), 4)
    0.6429
    """
    return float(counting.f1_weighted_of(count(label, label_pred, rejected)))


@metric(
    metric_id="mcc",
    name="Matthews correlation",
    aspect="annotation",
    definition="Correlation of truth and prediction over all labels (R_K); 0 is chance. Rejected is wrong.",
    minimum=-1.0,
    in_overall=False,
    doi="10.1016/j.compbiolchem.2004.09.006",
)
def mcc(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Multi-class Matthews correlation coefficient, -1 to 1.

    A method that predicts the same label for every cell scores 0. Undefined if all cells have the same true
    label.

    Notes
    -----
    Formula: (c n - t.p) / sqrt((n^2 - t.t) (n^2 - p.p)), c = correct cells of n, t and p = the cells per
    label in truth and prediction; rejection is a further label that is never true.

    Fooled by: comparison across data sets. The same share of errors gives another value if the types are more
    equally abundant.

    Examples
    --------
    >>> mcc(["T", "T", "B", "B"], ["B", "B", "T", "T"])
    -1.0
    """
    counts = count(label, label_pred, rejected)
    _need_two_labels(counts)
    return float(counting.mcc_of(counts))


def _need_two_labels(counts: Counts) -> None:
    present = counts.labels[counts.true > 0]
    if len(present) < 2:
        raise UndefinedError(f"needs at least two true labels; every cell is '{present[0]}'")


@metric(
    metric_id="cohen_kappa",
    name="Cohen's kappa",
    aspect="annotation",
    definition="Agreement with the truth beyond the agreement that label frequencies give by chance.",
    minimum=-1.0,
    in_overall=False,
    doi="10.1177/001316446002000104",
)
def cohen_kappa(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Agreement beyond chance, -1 to 1, 0 at chance.

    Undefined if all cells have the same true label.

    Notes
    -----
    Formula: (o - e) / (1 - e), o = accuracy, e = sum over labels of (share in the truth x share in the
    prediction); rejection is a further label that is never true.

    Fooled by: types of unequal abundance. If one type dominates, e is close to 1, and a high accuracy is
    compatible with a low kappa.

    Examples
    --------
    >>> cohen_kappa(["T", "T", "B", "B"], ["T", "T", "B", "T"])
    0.5
    """
    counts = count(label, label_pred, rejected)
    _need_two_labels(counts)
    return float(counting.cohen_kappa_of(counts))


@metric(
    metric_id="rare_recall",
    name="Recall of rare types",
    aspect="annotation",
    definition="Recall of each true label with less than 1 % of the scored cells, averaged over labels.",
    in_overall=False,
)
def rare_recall(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Mean recall over the rare labels of the truth, 0 to 1.

    Undefined if no label is rare: each has 1 % of the cells or more.

    Notes
    -----
    Formula: mean over true labels t with (cells of t / all cells) < 0.01 of (cells of t predicted as t /
    cells of t).

    Fooled by: predicting rare labels too often, which it does not punish: read it beside F1 (macro). It
    depends on few cells; consider its interval.

    Examples
    --------
    >>> truth = ["T"] * 199 + ["mast"]
    >>> rare_recall(truth, truth), rare_recall(truth, ["T"] * 200)
    (1.0, 0.0)
    """
    counts = count(label, label_pred, rejected)
    if not counts.rare.any():
        raise UndefinedError(f"no label is rare: each has {RARE_SHARE:.0%} of the cells or more")
    return float(counting.rare_recall_of(counts))


@metric(
    metric_id="accuracy_accepted",
    name="Accuracy of accepted cells",
    aspect="annotation",
    definition="Share of cells with a correct label among the cells that the method did not reject.",
    in_overall=False,
)
def accuracy_accepted(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Share of correct labels among cells that were not rejected, 0 to 1.

    Undefined if the method rejected every cell.

    Notes
    -----
    Formula: correct cells / cells not rejected.

    Fooled by: rejecting all but the easy cells. Interpret it only together with the coverage.

    Examples
    --------
    >>> accuracy_accepted(["T", "T", "B"], ["T", "T", "T"], [False, False, True])
    1.0
    """
    counts = count(label, label_pred, rejected)
    if not counts.predicted.any():
        raise UndefinedError(f"the method rejected all {counts.n_obs} cells", by_output=True)
    return float(counting.accuracy_accepted_of(counts))


@metric(
    metric_id="coverage",
    name="Coverage",
    aspect="annotation",
    definition="Share of cells that the method did not reject.",
    in_overall=False,
)
def coverage(label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Share of cells that the method does not reject, 0 to 1.

    Undefined if there are no cells.

    Notes
    -----
    Formula: cells not rejected / all cells.

    Fooled by: methods that cannot reject, which always score 1.

    Examples
    --------
    >>> coverage(["T", "T", "B", "B"], [False, False, False, True])
    0.75
    """
    return float(np.mean(named_cells(label_pred, rejected)[1]))
