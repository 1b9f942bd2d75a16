"""How well cell types are named.

A rejected cell ("I do not know") counts as wrong everywhere but in ``accuracy_accepted``: it lowers
the recall of its true label and is no prediction of any label. A label that no training cell had is
a true label like any other: methods cannot name it, and its cells count as wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation import counts as counting
from cellular_bench.metrics.annotation.counts import RARE_SHARE, Counts, accepted_cells, count, names_of
from cellular_bench.metrics.spec import metric


@metric(
    metric_id="accuracy",
    name="Accuracy",
    aspect="annotation",
    definition="Share of cells given their true label. A rejected cell counts as wrong.",
)
def accuracy(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Share of cells that were given their true label, 0 to 1.

    Parameters
    ----------
    label
        (n_obs,) true labels.
    label_pred
        (n_obs,) predicted labels.
    rejected
        (n_obs,) True where the method declines to name the cell; such a cell counts as wrong.

    Raises
    ------
    UndefinedError
        If there are no cells.

    Notes
    -----
    Formula: right cells / all cells.

    Fooled by: unequal numbers of cells. Where 90 % of the cells are of one type, naming every
    cell so reaches 0.9; compare with the majority-label control.

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
    """Mean recall over the labels that occur in the truth, 0 to 1; parameters as :func:`accuracy`.

    Raises
    ------
    UndefinedError
        If there are no cells.

    Notes
    -----
    Formula: mean over true labels t of (cells of t named t / cells of t).

    Fooled by: labels of a handful of cells, one of which moves the score as much as thousands of
    others; and by giving a rare name too often, which costs no recall of that name.

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
    definition="F1 of each label that is true or predicted somewhere, averaged over labels.",
)
def f1_macro(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Mean F1 over the union of true and predicted labels, 0 to 1; parameters as :func:`accuracy`.

    Rejection is no label of its own.

    Raises
    ------
    UndefinedError
        If there are no cells.

    Notes
    -----
    Formula: mean over labels t, true or predicted, of 2 hits(t) / (cells of t + cells named t).

    Fooled by: names that are never true. A single cell given a name of another tissue adds a label
    with an F1 of 0 and lowers the mean as a whole lost type would.

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
    """Mean F1 over true labels, weighted by their cells, 0 to 1; parameters as :func:`accuracy`.

    Raises
    ------
    UndefinedError
        If there are no cells.

    Notes
    -----
    Formula: sum over true labels t of (cells of t / all cells) x F1(t).

    Fooled by: what fools accuracy. Common types decide, and a lost rare type hardly shows.

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
    """Multi-class Matthews correlation coefficient, -1 to 1; parameters as :func:`accuracy`.

    A method that gives every cell the same label scores 0: it carries no information.

    Raises
    ------
    UndefinedError
        If all cells have the same true label.

    Notes
    -----
    Formula: (c n - t.p) / sqrt((n^2 - t.t) (n^2 - p.p)), with c right cells of n, and t and p the
    cells per label in truth and prediction; rejection is a further label that is never true.

    Fooled by: comparison across data sets. The same share of errors gives another value where the
    types are more evenly spread.

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
    definition="Agreement with the truth beyond what the frequencies of the names give by chance.",
    minimum=-1.0,
    in_overall=False,
    doi="10.1177/001316446002000104",
)
def cohen_kappa(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Agreement beyond chance, -1 to 1, 0 at chance; parameters as :func:`accuracy`.

    Raises
    ------
    UndefinedError
        If all cells have the same true label.

    Notes
    -----
    Formula: (o - e) / (1 - e), with o the accuracy and e the sum over labels of (share in the truth
    x share in the prediction); rejection is a further label that is never true.

    Fooled by: uneven types. Where one type dominates, e is close to 1, and a high accuracy can go
    with a low kappa.

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
    """Mean recall over the rare labels of the truth, 0 to 1; parameters as :func:`accuracy`.

    Raises
    ------
    UndefinedError
        If no label is rare: each has 1 % of the cells or more.

    Notes
    -----
    Formula: mean over true labels t with (cells of t / all cells) < 0.01 of
    (cells of t named t / cells of t).

    Fooled by: giving rare names freely, which this does not punish: read it beside F1 (macro). It
    rests on few cells; look at its interval.

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
    definition="Share of cells given their true label among the cells that the method did not reject.",
    in_overall=False,
)
def accuracy_accepted(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> float:
    """Share of right labels among cells that were not rejected, 0 to 1; parameters as :func:`accuracy`.

    Raises
    ------
    UndefinedError
        If the method rejected every cell.

    Notes
    -----
    Formula: right cells / cells not rejected.

    Fooled by: rejecting all but the easy cells. Means nothing without the coverage beside it.

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
    """Share of cells that the method names at all, 0 to 1; parameters as :func:`accuracy`.

    Raises
    ------
    UndefinedError
        If there are no cells.

    Notes
    -----
    Formula: cells not rejected / all cells.

    Fooled by: methods that cannot reject, which have 1 whatever they are worth.

    Examples
    --------
    >>> coverage(["T", "T", "B", "B"], [False, False, False, True])
    0.75
    """
    n_obs = len(names_of(label_pred, "label_pred"))
    return float(np.mean(accepted_cells(rejected, n_obs)))
