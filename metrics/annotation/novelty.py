"""How well cells of types that were never seen in training are told from known ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation.counts import right_cells
from cellular_bench.metrics.inputs import Floats
from cellular_bench.metrics.spec import metric

#: Share of the novel cells that must be caught in :func:`novelty_fpr95`.
TARGET_RECALL = 0.95


def _flags(is_novel: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(is_novel)
    if flags.ndim != 1 or flags.dtype != bool:
        raise ValueError(f"is_novel has shape {flags.shape} of {flags.dtype}; expected one bool per cell")
    return flags


def _curve(novelty: ArrayLike, is_novel: ArrayLike) -> tuple[Floats, Floats]:
    """Return novel and known cells at or above each distinct score, from the highest score down."""
    flags = _flags(is_novel)
    scores = np.asarray(novelty, dtype=np.float64)
    if scores.shape != flags.shape:
        raise ValueError(f"novelty has shape {scores.shape}; expected {flags.shape}, one score per cell")
    if flags.all() or not flags.any():
        what = "every cell is" if flags.all() and len(flags) else "no cell is"
        raise UndefinedError(f"needs novel and known cells; {what} novel")
    if not np.isfinite(scores).all():
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        raise UndefinedError(f"novelty is NaN or infinite for {bad} of {len(scores)} cells", by_output=True)
    order = np.argsort(-scores, kind="stable")
    # Equal scores are one threshold: they are flagged together or not at all.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    novel = np.cumsum(flags[order])[last].astype(np.float64)
    return novel, last + 1 - novel


@metric(
    metric_id="novelty_auroc",
    name="AUROC",
    aspect="novelty",
    definition="Chance that a novel cell gets a higher novelty score than a known one, ties counted half.",
    doi="10.1148/radiology.143.1.7063747",
)
def novelty_auroc(novelty: ArrayLike, is_novel: ArrayLike) -> float:
    """Chance that a novel cell scores above a known one, 0 to 1; 0.5 is chance level.

    Parameters
    ----------
    novelty
        (n_obs,) scores, higher = less like anything seen in training.
    is_novel
        (n_obs,) True where the cell's type was not in the training data.

    Raises
    ------
    UndefinedError
        If all cells are novel, or none is, or a score is not finite.

    Notes
    -----
    Formula: (pairs of a novel and a known cell where the novel one scores higher + half the tied
    pairs) / all such pairs.

    Fooled by: what only ranks. The threshold that a user would need may lie anywhere, and with few
    novel cells a good rank can still mean mostly false alarms: see the average precision.

    Examples
    --------
    >>> novelty_auroc([0.9, 0.1, 0.5, 0.5], [True, False, True, False])
    0.875
    """
    novel, known = (np.concatenate([[0.0], counts]) for counts in _curve(novelty, is_novel))
    area = np.sum(np.diff(known) * (novel[1:] + novel[:-1]) / 2)
    return float(area / (novel[-1] * known[-1]))


@metric(
    metric_id="novelty_average_precision",
    name="Average precision",
    aspect="novelty",
    definition="Precision of the cells flagged as novel, averaged over novel cells as the threshold falls.",
)
def novelty_average_precision(novelty: ArrayLike, is_novel: ArrayLike) -> float:
    """Area under the precision-recall steps, 0 to 1; chance is the share of novel cells.

    Parameters and errors are those of :func:`novelty_auroc`.

    Notes
    -----
    Formula: sum over thresholds of (gain in recall x precision at the threshold), from the highest
    score down; cells of equal score enter together.

    Fooled by: comparison across data sets. Chance level is the share of novel cells, so that the
    same method scores higher where novel cells are many.

    Examples
    --------
    >>> round(novelty_average_precision([0.9, 0.8, 0.7], [True, False, True]), 4)
    0.8333
    """
    novel, known = _curve(novelty, is_novel)
    gained = np.diff(novel, prepend=0.0)
    return float(np.sum(gained * novel / (novel + known)) / novel[-1])


@metric(
    metric_id="novelty_fpr95",
    name="FPR at 95 % TPR",
    aspect="novelty",
    definition="Share of known cells flagged as novel where the threshold flags 95 % of the novel cells.",
    higher_is_better=False,
    in_overall=False,
)
def novelty_fpr95(novelty: ArrayLike, is_novel: ArrayLike) -> float:
    """Share of known cells raised as false alarms when 95 % of the novel ones are caught, 0 to 1.

    Lower is better. Parameters and errors are those of :func:`novelty_auroc`.

    Notes
    -----
    Formula: known cells scored at or above t / known cells, with t the highest threshold that flags
    at least 95 % of the novel cells.

    Fooled by: the hardest few novel cells, which alone set the threshold; with under 20 novel cells
    every one of them must be found.

    Examples
    --------
    >>> novelty_fpr95([0.9, 0.8, 0.7, 0.1], [True, False, True, False])
    0.5
    """
    novel, known = _curve(novelty, is_novel)
    # In whole cells, so that 19 of 20 is 95 % whatever the rounding of 0.95 * 20.
    wanted = np.ceil(TARGET_RECALL * novel[-1] - 1e-9)
    return float(known[np.argmax(novel >= wanted)] / known[-1])


@metric(
    metric_id="known_accuracy",
    name="Accuracy on known cells",
    aspect="novelty",
    definition="Share of the cells of known types given their true label. A rejected cell counts as wrong.",
    in_overall=False,
)
def known_accuracy(
    label: ArrayLike, label_pred: ArrayLike, is_novel: ArrayLike, rejected: ArrayLike | None = None
) -> float:
    """Share of cells of known types that were given their true label, 0 to 1.

    Parameters
    ----------
    label, label_pred, rejected
        As for :func:`cellular_bench.metrics.accuracy`.
    is_novel
        (n_obs,) True where the cell's type was not in the training data; such cells are left out.

    Raises
    ------
    UndefinedError
        If every cell is novel.

    Notes
    -----
    Formula: known cells given their true label / known cells.

    Fooled by: what fools accuracy: common types decide.

    Examples
    --------
    >>> known_accuracy(["T", "B", "new"], ["T", "T", "B"], [False, False, True])
    0.5
    """
    known = ~_flags(is_novel)
    if not known.any():
        raise UndefinedError("needs cells of known types; every cell is novel")
    return float(np.mean(right_cells(label, label_pred, rejected)[known]))


@metric(
    metric_id="novelty_oscr",
    name="Open-set classification rate",
    aspect="novelty",
    definition=(
        "Share of known cells named rightly and not flagged, averaged over the share of novel cells "
        "that pass unflagged (area under the OSCR curve)."
    ),
    in_overall=False,
    doi="10.48550/arXiv.1811.04110",
)
def novelty_oscr(
    label: ArrayLike,
    label_pred: ArrayLike,
    novelty: ArrayLike,
    is_novel: ArrayLike,
    rejected: ArrayLike | None = None,
) -> float:
    """How well known cells are named while novel ones are kept out, 0 to the accuracy on known cells.

    Parameters
    ----------
    label, label_pred, rejected
        As for :func:`cellular_bench.metrics.accuracy`; a rejected cell is never named rightly.
    novelty, is_novel
        As for :func:`novelty_auroc`.

    Raises
    ------
    UndefinedError
        If all cells are novel, or none is, or a score is not finite.

    Notes
    -----
    Formula: area under y against x over all thresholds t, with y = known cells named rightly and
    scored <= t / known cells, and x = novel cells scored <= t / novel cells; ties by trapezoids.

    Fooled by: what fools accuracy. A method that names known cells well and tells nothing of
    novelty has half its accuracy, more than a perfect detector that names cells badly.

    Examples
    --------
    >>> label, label_pred = ["T", "B", "new"], ["T", "T", "B"]
    >>> novelty_oscr(label, label_pred, [0.1, 0.2, 0.9], [False, False, True])
    0.5
    """
    flags = _flags(is_novel)
    right = right_cells(label, label_pred, rejected) & ~flags
    _curve(novelty, flags)  # refuses what has no curve
    order, last = _ascending(np.asarray(novelty, dtype=np.float64))
    named, passed = (
        np.append(0.0, np.cumsum(which[order])[last] / total)
        for which, total in ((right, np.count_nonzero(~flags)), (flags, np.count_nonzero(flags)))
    )
    return float(np.sum(np.diff(passed) * (named[1:] + named[:-1]) / 2))


def _ascending(scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return cells from the lowest score up, and the last place of each distinct score."""
    order = np.argsort(scores, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)


class KnownAccuracyCurve(NamedTuple):
    """What passes, and how well it is named, as the novelty that is let through rises.

    Attributes
    ----------
    threshold
        (n_points,) highest novelty that passes.
    known_accuracy
        (n_points,) share of the known cells that pass which have their true label.
    known_coverage, novel_passed
        (n_points,) share of the known cells, and of the novel ones, that pass.
    """

    threshold: Floats
    known_accuracy: Floats
    known_coverage: Floats
    novel_passed: Floats


def known_accuracy_curve(
    label: ArrayLike,
    label_pred: ArrayLike,
    novelty: ArrayLike,
    is_novel: ArrayLike,
    rejected: ArrayLike | None = None,
) -> KnownAccuracyCurve:
    """Return the accuracy on known cells at every threshold that lets one of them pass.

    Parameters and errors are those of :func:`novelty_oscr`.

    Examples
    --------
    >>> label, label_pred = ["T", "B", "new"], ["T", "T", "B"]
    >>> curve = known_accuracy_curve(label, label_pred, [0.1, 0.5, 0.3], [False, False, True])
    >>> [part.tolist() for part in curve]
    [[0.1, 0.3, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0], [0.0, 1.0, 1.0]]
    """
    flags = _flags(is_novel)
    right = right_cells(label, label_pred, rejected) & ~flags
    _curve(novelty, flags)  # refuses what has no curve
    scores = np.asarray(novelty, dtype=np.float64)
    order, last = _ascending(scores)
    named, known, novel = (np.cumsum(which[order])[last] for which in (right, ~flags, flags))
    there = known > 0
    return KnownAccuracyCurve(
        threshold=scores[order][last][there],
        known_accuracy=named[there] / known[there],
        known_coverage=known[there] / known[-1],
        novel_passed=novel[there] / novel[-1],
    )
