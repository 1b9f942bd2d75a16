"""Scores of the separation of novel cells, whose type is not in the training data, from known ones.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation.counts import correct_cells
from cellular_bench.metrics.inputs import Floats
from cellular_bench.metrics.spec import metric

#: Share of the novel cells that must be flagged in :func:`novelty_fpr95`.
TARGET_RECALL = 0.95


def _flags(is_novel: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(is_novel)
    if flags.ndim != 1 or flags.dtype != bool:
        raise ValueError(f"is_novel has shape {flags.shape} of {flags.dtype}; expected one bool per cell")
    return flags


def _curve(novelty: ArrayLike, is_novel: ArrayLike) -> tuple[Floats, Floats]:
    """Return the numbers of novel and known cells at or above each distinct score, from the highest down."""
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
    # Equal scores are one threshold: their cells are flagged together.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    novel = np.cumsum(flags[order])[last].astype(np.float64)
    return novel, last + 1 - novel


@metric(
    metric_id="novelty_auroc",
    name="AUROC",
    aspect="novelty",
    definition="Probability that a novel cell has a higher novelty score than a known one; ties count half.",
    doi="10.1148/radiology.143.1.7063747",
)
def novelty_auroc(novelty: ArrayLike, is_novel: ArrayLike) -> float:
    """Probability that a novel cell has a higher score than a known one, 0 to 1; 0.5 is chance level.

    Undefined if all cells are novel, no cell is novel, or a score is not finite.

    Notes
    -----
    Formula: (pairs of a novel and a known cell in which the novel one has the higher score + half the tied
    pairs) / all such pairs.

    Fooled by: scores that only rank. The threshold that a user needs may lie anywhere, and with few novel
    cells most flagged cells can be false alarms despite a good rank: see the average precision.

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
    definition="Precision of the cells flagged as novel at each threshold, averaged over novel cells.",
)
def novelty_average_precision(novelty: ArrayLike, is_novel: ArrayLike) -> float:
    """Area under the precision-recall steps, 0 to 1; the chance level is the share of novel cells.

    Undefined as :func:`novelty_auroc`.

    Notes
    -----
    Formula: sum over thresholds of (increase of recall x precision at the threshold), from the highest score
    down; cells of equal score enter together.

    Fooled by: comparison across data sets. The chance level is the share of novel cells, so that the same
    method scores higher with more novel cells.

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
    definition="Share of known cells flagged as novel by the threshold that flags 95 % of the novel cells.",
    higher_is_better=False,
    in_overall=False,
)
def novelty_fpr95(novelty: ArrayLike, is_novel: ArrayLike) -> float:
    """Share of known cells flagged as novel when 95 % of the novel cells are flagged, 0 to 1.

    Lower is better. Undefined as :func:`novelty_auroc`.

    Notes
    -----
    Formula: known cells with a score of at least t / known cells, t = the highest threshold that flags at
    least 95 % of the novel cells.

    Fooled by: the few most difficult novel cells, which alone determine the threshold; with fewer than 20
    novel cells, all of them must be flagged.

    Examples
    --------
    >>> novelty_fpr95([0.9, 0.8, 0.7, 0.1], [True, False, True, False])
    0.5
    """
    novel, known = _curve(novelty, is_novel)
    # In whole cells, so that 19 of 20 is 95 % regardless of the rounding of 0.95 * 20.
    wanted = np.ceil(TARGET_RECALL * novel[-1] - 1e-9)
    return float(known[np.argmax(novel >= wanted)] / known[-1])


@metric(
    metric_id="known_accuracy",
    name="Accuracy on known cells",
    aspect="novelty",
    definition="Share of the cells of known types with a correct label. A rejected cell counts as wrong.",
    in_overall=False,
)
def known_accuracy(
    label: ArrayLike, label_pred: ArrayLike, is_novel: ArrayLike, rejected: ArrayLike | None = None
) -> float:
    """Share of the cells of known types with a correct label, 0 to 1.

    Novel cells are excluded. Undefined if every cell is novel.

    Notes
    -----
    Formula: known cells with a correct label / known cells.

    Fooled by: the same as accuracy: common types decide.

    Examples
    --------
    >>> known_accuracy(["T", "B", "new"], ["T", "T", "B"], [False, False, True])
    0.5
    """
    known = ~_flags(is_novel)
    if not known.any():
        raise UndefinedError("needs cells of known types; every cell is novel")
    return float(np.mean(correct_cells(label, label_pred, rejected)[known]))


@metric(
    metric_id="novelty_oscr",
    name="Open-set classification rate",
    aspect="novelty",
    definition=(
        "Share of known cells with a correct label that are not flagged, averaged over the share of novel "
        "cells that are not flagged (area under the OSCR curve)."
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
    """Correct labels of known cells at all thresholds on novelty, 0 to the accuracy on known cells.

    A rejected cell is never correct. Undefined if all cells are novel, no cell is novel, or a score is not
    finite.

    Notes
    -----
    Formula: area under y against x over all thresholds t, y = known cells with a correct label and a score <=
    t / known cells, x = novel cells with a score <= t / novel cells; ties by trapezoids.

    Fooled by: the same as accuracy. A method with correct labels for known cells and random novelty scores
    half its accuracy, more than a perfect detector with wrong labels.

    Examples
    --------
    >>> label, label_pred = ["T", "B", "new"], ["T", "T", "B"]
    >>> novelty_oscr(label, label_pred, [0.1, 0.2, 0.9], [False, False, True])
    0.5
    """
    flags = _flags(is_novel)
    right = correct_cells(label, label_pred, rejected) & ~flags
    _curve(novelty, flags)  # checks the arrays
    scores = np.asarray(novelty, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    named, passed = (
        np.append(0.0, np.cumsum(which[order])[last] / total)
        for which, total in ((right, np.count_nonzero(~flags)), (flags, np.count_nonzero(flags)))
    )
    return float(np.sum(np.diff(passed) * (named[1:] + named[:-1]) / 2))
