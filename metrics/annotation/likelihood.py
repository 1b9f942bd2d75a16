"""The CELLULAR study's own test of novelty: whether any cell of a sample is unlike every known type.

It judges samples, not cells: a sample is called novel when its lowest likelihood lies below a
threshold. Precision and coverage are therefore over samples, such as one per held-out type and fold.
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
    definition="Highest probability of the known cell that is most in doubt (the study's samples).",
    in_overall=False,
    on_request=True,
)
def lowest_confidence_known(label_proba: ArrayLike, is_novel: ArrayLike) -> float:
    """Highest probability of the known cell that is most in doubt, 0 to 1.

    Parameters
    ----------
    label_proba
        (n_obs, n_labels) probabilities.
    is_novel
        (n_obs,) True for cells of a type that was not in the training data.

    Raises
    ------
    UndefinedError
        If there is no such cell, or no probability.

    Notes
    -----
    Formula: minimum over known cells of the maximum over labels of the probability.

    Fooled by: one odd cell, which alone decides; the more cells, the lower.

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
    definition="Highest probability of the novel cell that is most in doubt (the study's samples).",
    higher_is_better=False,
    in_overall=False,
    on_request=True,
)
def lowest_confidence_novel(label_proba: ArrayLike, is_novel: ArrayLike) -> float:
    """Highest probability of the novel cell that is most in doubt, 0 to 1.

    Parameters and errors are those of :func:`lowest_confidence_known`.

    Notes
    -----
    Formula: minimum over novel cells of the maximum over labels of the probability.

    Fooled by: one odd cell, which alone decides: all others may be named with certainty.

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
    """How well novel samples are told from known ones.

    Attributes
    ----------
    precision
        Share of the samples called novel that are.
    coverage
        Share of the novel samples that are called so.
    n_flagged
        Samples called novel.
    """

    precision: float
    coverage: float
    n_flagged: int


def likelihood(highest: ArrayLike, n_labels: int) -> Floats:
    """Rescale the highest probability of cells so that indifference between all types is 0, and 1 is 1.

    Parameters
    ----------
    highest
        (...,) highest probability of each cell.
    n_labels
        Types that the method chooses from, two or more.

    Raises
    ------
    UndefinedError
        If there are fewer than two labels: every probability is then 1.

    Examples
    --------
    >>> likelihood([0.25, 0.625, 1.0], 4).tolist()
    [0.0, 0.5, 1.0]
    """
    if n_labels < 2:
        raise UndefinedError(f"a likelihood needs two labels to choose from; there are {n_labels}")
    return np.asarray((np.asarray(highest, dtype=np.float64) - 1 / n_labels) / (1 - 1 / n_labels))


def lowest_likelihoods(label_proba: ArrayLike, is_novel: ArrayLike) -> tuple[float, float]:
    """Return the lowest likelihood among the known cells of a run, and among its novel ones.

    Parameters
    ----------
    label_proba
        (n_obs, n_labels) probabilities.
    is_novel
        (n_obs,) True for cells of a type that was not in the training data.

    Raises
    ------
    UndefinedError
        If all cells are novel, or none is, or there are fewer than two labels.

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
    """Call samples novel by their lowest likelihood, as the study does.

    Parameters
    ----------
    known, novel
        Lowest likelihood of each sample without and with a novel type.
    threshold
        A lower likelihood makes a sample novel.

    Raises
    ------
    UndefinedError
        If there is no novel sample, or none is called novel: precision is then 0 / 0.

    Examples
    --------
    >>> flag_samples([0.5, 0.2], [0.1, 0.25, 0.6, 0.7])
    NovelSamples(precision=0.6666666666666666, coverage=0.5, n_flagged=3)
    """
    wrong, right = (np.asarray(values, dtype=np.float64) < threshold for values in (known, novel))
    if not right.size:
        raise UndefinedError("there is no novel sample to find")
    n_flagged = int(wrong.sum() + right.sum())
    if not n_flagged:
        raise UndefinedError(f"no sample has a likelihood below {threshold:g}")
    return NovelSamples(float(right.sum() / n_flagged), float(right.mean()), n_flagged)
