"""How well cell types are named.

A rejected cell ("I do not know") counts as wrong everywhere but in ``accuracy_accepted``: it lowers
the recall of its true label and is no prediction of any label.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.benchmark.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, strings
from cellular_bench.metrics.spec import metric

#: Label under which :func:`confusion` counts rejected cells.
REJECTED = ""


class LabelFigures(NamedTuple):
    """How well one label was recognised; a figure is None where it is 0 / 0."""

    label: str
    support: int
    n_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


class _Counts(NamedTuple):
    """Cells per label (union of truth and accepted predictions, sorted)."""

    labels: NDArray[Any]
    true: Ints
    predicted: Ints
    hits: Ints
    n_obs: int

    @property
    def f1(self) -> Floats:
        """2 hits / (support + predictions); the union of labels makes the denominator positive."""
        return 2 * self.hits / (self.true + self.predicted)


def _accepted(rejected: ArrayLike | None, n_obs: int) -> NDArray[np.bool_]:
    if rejected is None:
        return np.ones(n_obs, dtype=bool)
    flags = np.asarray(rejected)
    if flags.shape != (n_obs,) or flags.dtype != bool:
        raise ValueError(f"rejected has shape {flags.shape} of {flags.dtype}; expected ({n_obs},) of bool")
    return ~flags


def _names(values: ArrayLike, name: str, n_obs: int | None = None) -> NDArray[Any]:
    found = strings(values, name, n_obs=n_obs)
    if not len(found):
        raise UndefinedError("there are no cells to score")
    return found


def _count(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None) -> _Counts:
    true = _names(label, "label")
    n_obs = len(true)
    accepted = _accepted(rejected, n_obs)
    names, codes = np.unique(
        np.concatenate([true, _names(label_pred, "label_pred", n_obs)]), return_inverse=True
    )
    positions, guesses = codes[:n_obs], codes[n_obs:][accepted]
    hits = guesses[guesses == positions[accepted]]
    support, predicted, right = (
        np.bincount(found, minlength=len(names)) for found in (positions, guesses, hits)
    )
    used = support + predicted > 0  # a label that was only ever predicted for rejected cells is none
    return _Counts(names[used], support[used], predicted[used], right[used], n_obs)


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

    Examples
    --------
    >>> accuracy(["T", "T", "B", "B"], ["T", "B", "B", "B"])
    0.75
    >>> accuracy(["T", "T", "B", "B"], ["T", "B", "B", "B"], [False, False, False, True])
    0.5
    """
    counts = _count(label, label_pred, rejected)
    return float(counts.hits.sum() / counts.n_obs)


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

    Examples
    --------
    >>> balanced_accuracy(["T", "T", "T", "B"], ["T", "T", "T", "T"])
    0.5
    """
    counts = _count(label, label_pred, rejected)
    present = counts.true > 0
    return float(np.mean(counts.hits[present] / counts.true[present]))


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

    Examples
    --------
    >>> round(f1_macro(["T", "T", "B"], ["T", "T", "NK"]), 4)
    0.3333
    """
    return float(np.mean(_count(label, label_pred, rejected).f1))


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
    """
    counts = _count(label, label_pred, rejected)
    return float(np.average(counts.f1, weights=counts.true))


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

    Examples
    --------
    >>> mcc(["T", "T", "B", "B"], ["B", "B", "T", "T"])
    -1.0
    """
    counts = _count(label, label_pred, rejected)
    true, predicted = counts.true.astype(float), counts.predicted.astype(float)
    n_obs, n_rejected = float(counts.n_obs), counts.n_obs - predicted.sum()
    spread_true = n_obs**2 - true @ true
    spread_predicted = n_obs**2 - predicted @ predicted - n_rejected**2
    if spread_true == 0:
        raise UndefinedError(f"needs at least two true labels; every cell is '{counts.labels[true > 0][0]}'")
    if spread_predicted == 0:
        return 0.0
    covariance = counts.hits.sum() * n_obs - true @ predicted
    return float(covariance / np.sqrt(spread_true * spread_predicted))


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
    """
    counts = _count(label, label_pred, rejected)
    n_accepted = counts.predicted.sum()
    if n_accepted == 0:
        raise UndefinedError(f"the method rejected all {counts.n_obs} cells", by_output=True)
    return float(counts.hits.sum() / n_accepted)


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
    """
    n_obs = len(_names(label_pred, "label_pred"))
    return float(np.mean(_accepted(rejected, n_obs)))


def per_label(
    label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None
) -> list[LabelFigures]:
    """Return support, precision, recall and F1 of every label that is true or predicted, sorted.

    Parameters are those of :func:`accuracy`. A figure is None where it is 0 / 0: the precision of
    a label that was never predicted, the recall of one that never occurs.

    Examples
    --------
    >>> for row in per_label(["T", "T", "B"], ["T", "NK", "T"]):
    ...     print(*row)
    B 1 0 None 0.0 0.0
    NK 0 1 0.0 None 0.0
    T 2 2 0.5 0.5 0.5
    """
    counts = _count(label, label_pred, rejected)
    return [
        LabelFigures(
            label=str(name),
            support=int(true),
            n_predicted=int(predicted),
            precision=float(hits / predicted) if predicted else None,
            recall=float(hits / true) if true else None,
            f1=float(2 * hits / (true + predicted)),
        )
        for name, true, predicted, hits in zip(
            counts.labels, counts.true, counts.predicted, counts.hits, strict=True
        )
    ]


def confusion(
    label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None
) -> dict[str, dict[str, int]]:
    """Count cells by true and predicted label: ``{true: {predicted: cells}}``, without zeros.

    Rejected cells count under the empty label. Parameters are those of :func:`accuracy`.

    Examples
    --------
    >>> confusion(["T", "T", "B"], ["T", "B", "B"], [False, False, True])
    {'B': {'': 1}, 'T': {'B': 1, 'T': 1}}
    """
    true = _names(label, "label")
    accepted = _accepted(rejected, len(true))
    predicted = np.where(accepted, _names(label_pred, "label_pred", len(true)), REJECTED)
    table: dict[str, dict[str, int]] = {}
    pairs, cells = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    for (name, guess), count in zip(pairs.T, cells, strict=True):
        table.setdefault(str(name), {})[str(guess)] = int(count)
    return table
