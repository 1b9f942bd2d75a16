"""Accuracy of the most confident cells: the value of rejecting uncertain ones.

Cells are accepted from the most confident down; cells of equal confidence are accepted together. Cells that
the method itself rejects are last, and count as wrong.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation.calibration import confidences
from cellular_bench.metrics.annotation.counts import correct_cells, named_cells, names_of
from cellular_bench.metrics.inputs import Floats
from cellular_bench.metrics.spec import metric

GEIFMAN = "10.48550/arXiv.1805.08206"


class RejectionCurve(NamedTuple):
    """Accuracy against coverage, from the highest threshold down.

    Attributes
    ----------
    threshold
        (n_points,) lowest accepted confidence; minus infinity if the cells that the method rejects are
        accepted, too.
    coverage
        (n_points,) share of the cells that are accepted; the last is 1.
    accuracy
        (n_points,) share of the accepted cells with a correct label.
    """

    threshold: Floats
    coverage: Floats
    accuracy: Floats


def rejection_curve(
    label: ArrayLike, label_pred: ArrayLike, confidence: ArrayLike, rejected: ArrayLike | None = None
) -> RejectionCurve:
    """Return accuracy against coverage as less and less confident cells are accepted.

    ``confidence`` is (n_obs,) any score that is higher for more certain cells, such as the highest
    probability. Undefined if there are no cells, or a confidence is not finite.

    Examples
    --------
    >>> curve = rejection_curve(["T", "T", "B"], ["T", "B", "B"], [0.9, 0.4, 0.6])
    >>> curve.coverage.round(3).tolist(), curve.accuracy.round(3).tolist()
    ([0.333, 0.667, 1.0], [1.0, 1.0, 0.667])
    """
    threshold, accepted, right = _steps(label, label_pred, confidence, rejected)
    return RejectionCurve(threshold, accepted / accepted[-1], right / accepted)


def _steps(
    label: ArrayLike, label_pred: ArrayLike, confidence: ArrayLike, rejected: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """Return distinct confidences from the highest down, and the accepted and correct cells at each."""
    right = correct_cells(label, label_pred, rejected)
    scores = np.asarray(confidence, dtype=np.float64)
    if scores.shape != right.shape:
        raise ValueError(f"confidence has shape {scores.shape}; expected {right.shape}, one per cell")
    if not np.isfinite(scores).all():
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        raise UndefinedError(
            f"confidence is NaN or infinite for {bad} of {len(scores)} cells", by_output=True
        )
    scores = np.where(named_cells(label_pred, rejected, len(right))[1], scores, -np.inf)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    return ranked[last], last + 1.0, np.cumsum(right[order])[last].astype(np.float64)


def _of_probabilities(
    label: ArrayLike, label_pred: ArrayLike, label_proba: ArrayLike, rejected: ArrayLike | None
) -> tuple[Floats, Floats]:
    confidence = confidences(label_proba, len(names_of(label, "label")))
    return _steps(label, label_pred, confidence, rejected)[1:]


@metric(
    metric_id="rejection_area",
    name="Accuracy under rejection",
    aspect="annotation",
    definition="Accuracy of the most confident cells, averaged over all numbers of cells (1 - AURC).",
    in_overall=False,
    doi=GEIFMAN,
)
def rejection_area(
    label: ArrayLike, label_pred: ArrayLike, label_proba: ArrayLike, rejected: ArrayLike | None = None
) -> float:
    """Area under accuracy against coverage, 0 to 1.

    The confidence of a cell is its highest probability. Undefined if there are no cells, or a probability is
    not finite.

    Notes
    -----
    Formula: mean over k = 1 ... n of (correct cells among the k most confident / k). Tied cells enter in
    random order: the value is the expectation.

    Fooled by: accuracy itself. A method without errors scores 1 regardless of its confidence; compare methods
    of similar accuracy.

    Examples
    --------
    >>> proba = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]
    >>> round(rejection_area(["T", "B", "B"], ["T", "T", "B"], proba), 4)
    0.8889
    """
    accepted, right = _of_probabilities(label, label_pred, label_proba, rejected)
    kept = np.arange(1, int(accepted[-1]) + 1)
    # Between two thresholds the expected number of correct cells grows linearly with the accepted cells.
    expected = np.interp(kept, np.append(0.0, accepted), np.append(0.0, right))
    return float(np.mean(expected / kept))


@metric(
    metric_id="coverage_at_accuracy_95",
    name="Coverage at 95 % accuracy",
    aspect="annotation",
    definition="Largest share of cells that a threshold on confidence accepts with 95 % of them correct.",
    in_overall=False,
    doi="10.48550/arXiv.1705.08500",
)
def coverage_at_accuracy_95(
    label: ArrayLike, label_pred: ArrayLike, label_proba: ArrayLike, rejected: ArrayLike | None = None
) -> float:
    """Share of cells that can be accepted with an accuracy of 95 %, 0 to 1.

    0 if no threshold reaches it. Undefined as :func:`rejection_area`.

    Notes
    -----
    Formula: max over thresholds t of (cells with confidence >= t / n) for which at least 95 % of these cells
    are correct; 0 if there is none.

    Fooled by: hindsight. The threshold is chosen on the scored cells; on new cells the accuracy at this
    coverage will be slightly lower.

    Examples
    --------
    >>> proba = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]]
    >>> coverage_at_accuracy_95(["T", "B", "B", "B"], ["T", "T", "B", "B"], proba)
    0.75
    """
    return _coverage_at(0.95, *_of_probabilities(label, label_pred, label_proba, rejected))


@metric(
    metric_id="coverage_at_accuracy_99",
    name="Coverage at 99 % accuracy",
    aspect="annotation",
    definition="Largest share of cells that a threshold on confidence accepts with 99 % of them correct.",
    in_overall=False,
    doi="10.48550/arXiv.1705.08500",
)
def coverage_at_accuracy_99(
    label: ArrayLike, label_pred: ArrayLike, label_proba: ArrayLike, rejected: ArrayLike | None = None
) -> float:
    """Share of cells that can be accepted with an accuracy of 99 %, 0 to 1.

    0 if no threshold reaches it. Undefined as :func:`rejection_area`.

    Notes
    -----
    Formula: as coverage_at_accuracy_95, with 99 %.

    Fooled by: hindsight, as coverage_at_accuracy_95; and one error among the most confident cells, after
    which a hundred correct ones are needed.

    Examples
    --------
    >>> proba = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]]
    >>> coverage_at_accuracy_99(["T", "T", "B", "T"], ["T", "T", "B", "B"], proba)
    0.0
    """
    return _coverage_at(0.99, *_of_probabilities(label, label_pred, label_proba, rejected))


def _coverage_at(accuracy: float, accepted: Floats, right: Floats) -> float:
    # In whole cells, so that 19 of 20 is 95 % regardless of the rounding of 0.95 * 20.
    good = right >= accuracy * accepted - 1e-9
    return float(np.max(np.where(good, accepted, 0.0)) / accepted[-1])
