"""The novelty test of the CELLULAR study: whether a sample holds a cell unlike every known type.

It classifies samples instead of cells: a sample is novel if its lowest likelihood is below a threshold.
Precision and coverage are therefore over samples, for example one per held-out type and fold.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation.calibration import confidences
from cellular_bench.metrics.inputs import Floats
from cellular_bench.metrics.spec import metric

#: The study's threshold on likelihood.
STUDY_THRESHOLD = 0.26


@metric(
    metric_id="lowest_confidence_known",
    name="Lowest confidence, known",
    aspect="novelty",
    definition="Highest probability of the least certain known cell (the study's samples).",
    in_overall=False,
    on_request=True,
)
def lowest_confidence_known(label_proba: ArrayLike, is_novel: ArrayLike) -> float:
    """Highest probability of the least certain known cell, 0 to 1.

    Undefined if there is no such cell, or no probability.

    Notes
    -----
    Formula: minimum over known cells of the maximum over labels of the probability.

    Fooled by: one unusual cell, which determines the value; the more cells, the lower.

    Examples
    --------
    >>> lowest_confidence_known([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]], [False, False, True])
    0.75
    """
    return _lowest_confidence(label_proba, ~np.asarray(is_novel, dtype=bool), "known")


@metric(
    metric_id="lowest_confidence_novel",
    name="Lowest confidence, novel",
    aspect="novelty",
    definition="Highest probability of the least certain novel cell (the study's samples).",
    higher_is_better=False,
    in_overall=False,
    on_request=True,
)
def lowest_confidence_novel(label_proba: ArrayLike, is_novel: ArrayLike) -> float:
    """Highest probability of the least certain novel cell, 0 to 1.

    Undefined as :func:`lowest_confidence_known`.

    Notes
    -----
    Formula: minimum over novel cells of the maximum over labels of the probability.

    Fooled by: one unusual cell, which determines the value; all others may have certain predictions.

    Examples
    --------
    >>> lowest_confidence_novel([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]], [False, False, True])
    0.5
    """
    return _lowest_confidence(label_proba, np.asarray(is_novel, dtype=bool), "novel")


def _lowest_confidence(label_proba: ArrayLike, cells: NDArray[np.bool_], kind: str) -> float:
    if not cells.any():
        raise UndefinedError(f"there is no {kind} cell")
    return float(confidences(label_proba, len(cells))[cells].min())


class NovelSamples(NamedTuple):
    """Precision and coverage of the flagged samples.

    Attributes
    ----------
    precision
        Share of the flagged samples that are novel.
    coverage
        Share of the novel samples that are flagged.
    n_flagged
        Number of flagged samples.
    """

    precision: float
    coverage: float
    n_flagged: int


def likelihood(highest: ArrayLike, n_labels: int) -> Floats:
    """Rescale the highest probability of cells: 0 for equal probabilities of all types, 1 for certainty.

    Undefined if there are fewer than two labels: every probability is 1.

    Parameters
    ----------
    highest
        (...,) highest probability of each cell.
    n_labels
        Number of types that the method knows, two or more.

    Examples
    --------
    >>> likelihood([0.25, 0.625, 1.0], 4).tolist()
    [0.0, 0.5, 1.0]
    """
    if n_labels < 2:
        raise UndefinedError(f"a likelihood needs two labels to choose from; there are {n_labels}")
    return np.asarray((np.asarray(highest, dtype=np.float64) - 1 / n_labels) / (1 - 1 / n_labels))


def lowest_likelihoods(label_proba: ArrayLike, is_novel: ArrayLike) -> tuple[float, float]:
    """Return the lowest likelihood of the known cells, and of the novel cells.

    Undefined if all cells are novel, no cell is novel, or there are fewer than two labels.

    Examples
    --------
    >>> lowest_likelihoods([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]], [False, False, True])
    (0.5, 0.0)
    """
    flags = np.asarray(is_novel, dtype=bool)
    if flags.all() or not flags.any():
        raise UndefinedError("needs novel and known cells; all are of one kind")
    values = likelihood(confidences(label_proba, len(flags)), np.shape(label_proba)[1])
    return float(values[~flags].min()), float(values[flags].min())


def flag_samples(known: ArrayLike, novel: ArrayLike, *, threshold: float = STUDY_THRESHOLD) -> NovelSamples:
    """Flag samples as novel by their lowest likelihood, as in the study.

    Undefined if there is no novel sample, or no sample is flagged: precision is 0 / 0.

    Parameters
    ----------
    known, novel
        Lowest likelihood of each sample without and with a novel type.
    threshold
        Samples with a lower likelihood are flagged.

    Examples
    --------
    >>> flag_samples([0.5, 0.2], [0.1, 0.25, 0.6, 0.7])
    NovelSamples(precision=0.6666666666666666, coverage=0.5, n_flagged=3)
    """
    wrong, right = (np.asarray(values, dtype=np.float64) < threshold for values in (known, novel))
    if not right.size:
        raise UndefinedError("there is no novel sample")
    n_flagged = int(wrong.sum() + right.sum())
    if not n_flagged:
        raise UndefinedError(f"no sample has a likelihood below {threshold:g}")
    return NovelSamples(float(right.sum() / n_flagged), float(right.mean()), n_flagged)
