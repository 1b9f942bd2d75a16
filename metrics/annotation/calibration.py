"""Scores of class probabilities.

Probabilities of rejected cells count, too: rejection is a decision based on them. A true label that the
method does not know has probability 0.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation.counts import names_of
from cellular_bench.metrics.inputs import Floats, Ints, strings_or_missing
from cellular_bench.metrics.spec import metric

#: Probabilities below this count as this in the log-loss: the spacing of float32 below 1.
FLOOR = 2.0**-23
N_BINS = 15
TOP_K = 3
#: Largest accepted difference of the sum of a cell's probabilities from 1.
TOLERANCE = 1e-3


class CalibrationCurve(NamedTuple):
    """Confidence and accuracy of the cells in each bin of confidence that is not empty.

    Attributes
    ----------
    confidence, accuracy
        (n_filled,) means over the cells of a bin.
    n_obs
        (n_filled,) cells in a bin.
    """

    confidence: Floats
    accuracy: Floats
    n_obs: Ints


class _Stated(NamedTuple):
    """Probabilities, and the probability of each cell's true label; 0 for an unknown label."""

    proba: Floats
    of_truth: Floats
    n_true: int


def _stated(label: ArrayLike, label_proba: ArrayLike, labels: ArrayLike) -> _Stated:
    true = names_of(label, "label")
    known = strings_or_missing(labels, "labels")
    proba = np.asarray(label_proba, dtype=np.float64)
    if proba.shape != (len(true), len(known)):
        raise ValueError(
            f"label_proba has shape {proba.shape}; expected ({len(true)}, {len(known)}), "
            "one row per cell and one column per name in labels"
        )
    if len(np.unique(known)) != len(known):
        raise ValueError("labels contains a name twice; each column of label_proba needs its own")
    _check(proba)
    order = np.argsort(known)
    columns = order[np.clip(np.searchsorted(known, true, sorter=order), 0, len(known) - 1)]
    of_truth = np.where(known[columns] == true, proba[np.arange(len(true)), columns], 0.0)
    return _Stated(proba, of_truth, len(np.unique(true)))


def _check(proba: Floats) -> None:
    if not proba.shape[1]:
        raise UndefinedError("label_proba has no column: the method returns no probability", by_output=True)
    sums = proba.sum(axis=1)
    bad = ~(np.isfinite(sums) & (np.abs(sums - 1) <= TOLERANCE) & (proba >= -TOLERANCE).all(axis=1))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise UndefinedError(
            f"label_proba holds no probabilities for {int(bad.sum())} of {len(proba)} cells: they must not "
            f"be negative and must sum to 1; those of cell {first} sum to {sums[first]:.4g}",
            by_output=True,
        )


@metric(
    metric_id="log_loss",
    name="Log-loss",
    aspect="annotation",
    definition="Mean of -log(probability of the true label), in nats, at most 15.94 for a cell.",
    maximum=float(-np.log(FLOOR)),
    higher_is_better=False,
    in_overall=False,
    doi="10.1198/016214506000001437",
)
def log_loss(label: ArrayLike, label_proba: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative logarithm of the probability of the true label, 0 to 15.94 nats; lower is better.

    A true label that is not among ``labels`` has probability 0. Undefined if there are no cells, or a row is
    not a distribution.

    Notes
    -----
    Formula: mean over cells of -log(max(p(true label), 2^-23)).

    Fooled by: a few cells. One confident error can outweigh a hundred good predictions, and cells of a type
    that is not in the training data all cost the maximum.

    Examples
    --------
    >>> round(log_loss(["T", "B"], [[0.5, 0.5], [0.0, 1.0]], ["T", "B"]), 4)
    0.3466
    """
    of_truth = _stated(label, label_proba, labels).of_truth
    return float(-np.mean(np.log(np.clip(of_truth, FLOOR, 1.0))))


@metric(
    metric_id="brier",
    name="Brier score",
    aspect="annotation",
    definition="Mean squared distance of the probabilities from 1 for the true label and 0 for others.",
    maximum=2.0,
    higher_is_better=False,
    in_overall=False,
    doi="10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
)
def brier(label: ArrayLike, label_proba: ArrayLike, labels: ArrayLike) -> float:
    """Multi-class Brier score, 0 to 2; lower is better. Undefined as :func:`log_loss`.

    Notes
    -----
    Formula: mean over cells of the sum over labels of (p(label) - [label is true])^2.

    Fooled by: easy cells. It rewards accuracy and calibration together, so that an accurate method with
    poorly calibrated probabilities can score better than a well calibrated one.

    Examples
    --------
    >>> brier(["T", "B"], [[0.5, 0.5], [0.0, 1.0]], ["T", "B"])
    0.25
    """
    stated = _stated(label, label_proba, labels)
    # (p - 1)^2 = p^2 - 2 p + 1 for the true label, known to the method or not.
    squares = np.einsum("ij,ij->i", stated.proba, stated.proba)
    return float(np.clip(np.mean(squares - 2 * stated.of_truth + 1), 0.0, 2.0))


@metric(
    metric_id="expected_calibration_error",
    name="Calibration error (ECE)",
    aspect="annotation",
    definition=(
        "Difference between accuracy and confidence in 15 bins of equal width, weighted by their cells."
    ),
    higher_is_better=False,
    in_overall=False,
    doi="10.48550/arXiv.1706.04599",
)
def expected_calibration_error(label: ArrayLike, label_proba: ArrayLike, labels: ArrayLike) -> float:
    """Difference between confidence and accuracy, 0 to 1; lower is better.

    Confidence is the highest probability of a cell, accuracy the share of cells for which that label is the
    true one. If several labels share the highest probability, the cell counts in proportion.
    Undefined as :func:`log_loss`.

    Notes
    -----
    Formula: sum over bins ((b - 1) / 15, b / 15] of (cells in the bin / all cells) x |mean accuracy - mean
    confidence|.

    Fooled by: the same probabilities for every cell. The frequencies of the types, predicted for each cell,
    are perfectly calibrated and useless. It depends on the bins: few cells in a bin bias it upwards.

    Examples
    --------
    >>> expected_calibration_error(["T", "B"], [[0.75, 0.25], [0.75, 0.25]], ["T", "B"])
    0.25
    """
    curve = calibration_curve(label, label_proba, labels)
    gaps = np.abs(curve.accuracy - curve.confidence)
    return float(curve.n_obs @ gaps / curve.n_obs.sum())


def calibration_curve(
    label: ArrayLike, label_proba: ArrayLike, labels: ArrayLike, *, n_bins: int = N_BINS
) -> CalibrationCurve:
    """Return accuracy and confidence by bin, for a reliability diagram; undefined as :func:`log_loss`.

    Examples
    --------
    >>> curve = calibration_curve(["T", "B"], [[0.75, 0.25], [0.0, 1.0]], ["T", "B"])
    >>> curve.confidence.tolist(), curve.accuracy.tolist(), curve.n_obs.tolist()
    ([0.75, 1.0], [1.0, 1.0], [1, 1])
    """
    stated = _stated(label, label_proba, labels)
    confidence = stated.proba.max(axis=1)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], confidence, side="left")
    cells, right, sums = (
        np.bincount(bins, weights=weights, minlength=n_bins)
        for weights in (np.ones(len(bins)), _chance_of_top(stated, 1), confidence)
    )
    filled = cells > 0
    n_obs = cells[filled]
    return CalibrationCurve(sums[filled] / n_obs, right[filled] / n_obs, n_obs.astype(np.int64))


@metric(
    metric_id="top3_accuracy",
    name="Top-3 accuracy",
    aspect="annotation",
    definition="Share of cells whose true label is among the three labels with the highest probabilities.",
    in_overall=False,
)
def top3_accuracy(label: ArrayLike, label_proba: ArrayLike, labels: ArrayLike) -> float:
    """Share of cells whose true label is among the three most probable, 0 to 1.

    Labels that tie for the third place count in proportion, so that the order of columns does not matter. A
    label with probability 0 is never among the three. Undefined if there are three labels or fewer, or for
    the reasons of :func:`log_loss`.

    Notes
    -----
    Formula: mean over cells of [rank of p(true label) <= 3], ties in proportion.

    Fooled by: few labels. With four labels, three are chosen: the chance level is 0.75.

    Examples
    --------
    >>> top3_accuracy(["a", "d"], [[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]], ["a", "b", "c", "d"])
    0.5
    """
    stated = _stated(label, label_proba, labels)
    n_labels = stated.proba.shape[1]
    if n_labels <= TOP_K:
        raise UndefinedError(
            f"needs more than {TOP_K} labels to choose from; the method knows {n_labels}",
            by_output=stated.n_true > TOP_K,
        )
    return float(np.mean(_chance_of_top(stated, TOP_K)))


def _chance_of_top(stated: _Stated, k: int) -> Floats:
    """Return the probability that each cell's true label is in the top k if ties are broken at random."""
    of_truth = stated.of_truth[:, None]
    above = (stated.proba > of_truth).sum(axis=1)
    tied = np.maximum((stated.proba == of_truth).sum(axis=1), 1)
    return np.where(stated.of_truth > 0, np.clip((k - above) / tied, 0.0, 1.0), 0.0)


def confidences(label_proba: ArrayLike, n_obs: int) -> NDArray[np.float64]:
    """Return the highest probability of each cell, (n_obs,).

    Raises
    ------
    ValueError
        If there is not one row per cell.
    UndefinedError
        If there is no column, or a probability is not finite.
    """
    proba = np.asarray(label_proba, dtype=np.float64)
    if proba.ndim != 2 or len(proba) != n_obs:
        raise ValueError(f"label_proba has shape {proba.shape}; expected ({n_obs}, n_labels)")
    if not proba.shape[1]:
        raise UndefinedError("label_proba has no column: the method returns no probability", by_output=True)
    if not np.isfinite(proba).all():
        raise UndefinedError("label_proba is NaN or infinite for some cells", by_output=True)
    return np.asarray(proba.max(axis=1))
