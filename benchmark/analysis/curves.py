"""Curves behind single numbers, from kept outputs: ROC, precision-recall, risk-coverage and thresholds.

Curves of several runs are averaged at fixed places of the horizontal axis, as steps if the score is the area
under steps: the area under the averaged curve is then the mean of the areas (Fawcett 2006,
doi:10.1016/j.patrec.2005.10.010). Places are few, so that curves are small however many cells there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.metrics import flag_samples, lowest_likelihoods, rejection_curve

Floats = NDArray[np.float64]

#: Places at which curves are evaluated.
PLACES: Final = np.linspace(0, 1, 201)
#: The same for the ROC curve, dense where few known cells are called novel: there it rises.
ROC_PLACES: Final = PLACES**2
#: Thresholds on the lowest likelihood.
THRESHOLDS: Final = np.linspace(0.01, 1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A curve at fixed places: ``x`` and ``y`` of equal length; NaN in ``y`` where it is not defined."""

    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The lowest likelihood among the known and among the novel cells of one run, by its held-out label."""

    held_out: str
    known: float
    novel: float


def roc(novelty: ArrayLike, is_novel: ArrayLike) -> Curve:
    """Return the share of novel cells found against the share of known cells called novel.

    UserError if all cells are novel, or none is.
    """
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(_both(is_novel), np.asarray(novelty), drop_intermediate=False)
    return Curve(x=ROC_PLACES, y=np.interp(ROC_PLACES, false, true))


def precision_recall(novelty: ArrayLike, is_novel: ArrayLike) -> Curve:
    """Return the share of novel cells among those called novel, against the share of novel cells found.

    Steps: at each place the precision of the highest threshold that reaches it, as in average precision; NaN
    at 0. UserError if all cells are novel, or none is.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(_both(is_novel), np.asarray(novelty))
    curve = _steps(recall[::-1][1:], precision[::-1][1:])
    curve.y[0] = np.nan
    return curve


def risk_coverage(
    label: ArrayLike, label_pred: ArrayLike, confidence: ArrayLike, rejected: ArrayLike | None = None
) -> Curve:
    """Return the share of wrong labels among the most confident cells, against the share of all cells."""
    curve = rejection_curve(label, label_pred, confidence, rejected)
    return _steps(curve.coverage, 1 - curve.accuracy)


def _both(is_novel: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(is_novel, dtype=bool)
    if flags.all() or not flags.any():
        raise UserError("A curve needs novel and known cells; all are of one kind.")
    return flags


def _steps(x: ArrayLike, y: ArrayLike) -> Curve:
    """Keep steps at the fixed places: the value of the first point that reaches a place."""
    ends = np.asarray(x, dtype=np.float64)
    reached = np.searchsorted(ends, PLACES - 1e-12).clip(max=len(ends) - 1)
    return Curve(x=PLACES, y=np.asarray(y, dtype=np.float64)[reached])


def averaged(curves: Sequence[Curve]) -> Curve:
    """Average curves place by place."""
    return Curve(x=curves[0].x, y=np.mean([curve.y for curve in curves], axis=0))


def lowest(label_proba: ArrayLike, is_novel: ArrayLike, *, held_out: str) -> Sample:
    """Return the sample of a run, as the CELLULAR study judges it."""
    known, novel = lowest_likelihoods(label_proba, is_novel)
    return Sample(held_out=held_out, known=known, novel=novel)


def by_threshold(samples: Iterable[Sample]) -> tuple[Curve, Curve]:
    """Return precision and coverage of the samples called novel, for every threshold on the likelihood.

    Precision is NaN below the lowest likelihood of all, where no sample is called novel.
    """
    pairs = [(one.known, one.novel) for one in samples]
    known, novel = zip(*pairs, strict=True) if pairs else ((), ())
    precision, coverage = np.full(len(THRESHOLDS), np.nan), np.zeros(len(THRESHOLDS))
    for place, threshold in enumerate(THRESHOLDS):
        try:
            precision[place], coverage[place], _ = flag_samples(known, novel, threshold=float(threshold))
        except UndefinedError:
            continue  # nothing is called novel: no precision, and a coverage of 0
    return Curve(x=THRESHOLDS, y=precision), Curve(x=THRESHOLDS, y=coverage)
