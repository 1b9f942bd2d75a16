"""How well cells of types that were never seen in training are told from known ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.benchmark.errors import UndefinedError
from cellular_bench.metrics.annotation import accuracy
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
    """
    known = ~_flags(is_novel)
    if not known.any():
        raise UndefinedError("needs cells of known types; every cell is novel")
    accepted = None if rejected is None else np.asarray(rejected)[known]
    return accuracy(np.asarray(label)[known], np.asarray(label_pred)[known], accepted)
