"""Five scores of how different a cell is from the training cells; higher = more novel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError

Floats = NDArray[np.floating[Any]]
NoveltyKind = Literal["likelihood", "max_logit", "energy", "centroid", "knn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Logits and embedding of the query, embedding of the training cells, and mean of each type in it."""

    logits: Floats
    X_emb: Floats
    train_emb: Floats
    centroids: Floats


def novelty_score(evidence: Evidence, *, kind: str) -> NDArray[np.float64]:
    """Return one novelty score per query cell, (n_obs,); higher = less similar to the training cells.

    Parameters
    ----------
    evidence
        Classifier output and embeddings.
    kind
        ``"likelihood"``: 1 minus the highest class probability, rescaled so that equal probabilities of
        all types give 1 (the score of the study). ``"max_logit"``: minus the highest logit. ``"energy"``:
        minus the log of the summed exponentials of the logits (Liu et al. 2020, arXiv:2010.03759).
        ``"centroid"``: Euclidean distance to the nearest type centroid in the embedding. ``"knn"``: mean
        Euclidean distance to the 15 nearest training cells.
    """
    if kind not in SCORES:
        raise UnknownNameError("novelty score", kind, SCORES)
    return SCORES[kind](evidence)


def normalised_likelihood(logits: Floats) -> NDArray[np.float64]:
    """Return (p - 1/K) / (1 - 1/K) with p the highest of K probabilities: 0 if all are equal, 1 if p is 1.

    Examples
    --------
    >>> normalised_likelihood(np.log([[0.5, 0.5], [0.75, 0.25]])).round(6).tolist()
    [0.0, 0.5]
    """
    best = np.exp(log_softmax(logits)).max(axis=1)
    guess = 1 / logits.shape[1]
    likelihood: NDArray[np.float64] = np.clip((best - guess) / (1 - guess), 0, 1)
    return likelihood


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Return log probabilities (n_obs, n_labels) from logits; ``exp`` of each row sums to 1."""
    logits = logits.astype(np.float64)
    normalised: NDArray[np.float64] = logits - _log_sum_exp(logits)[:, None]
    return normalised


def _log_sum_exp(logits: Floats) -> NDArray[np.float64]:
    logits = logits.astype(np.float64)
    top = logits.max(axis=1)
    summed: NDArray[np.float64] = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return summed


def _centroid_distance(evidence: Evidence) -> NDArray[np.float64]:
    return _mean_distance(evidence.X_emb, evidence.centroids, n_neighbors=1)


def _knn_distance(evidence: Evidence) -> NDArray[np.float64]:
    return _mean_distance(evidence.X_emb, evidence.train_emb, n_neighbors=15)


def _mean_distance(query: Floats, reference: Floats, *, n_neighbors: int) -> NDArray[np.float64]:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(n_neighbors, len(reference))).fit(reference)
    means: NDArray[np.float64] = index.kneighbors(query)[0].mean(axis=1).astype(np.float64)
    return means


SCORES: Final[dict[str, Callable[[Evidence], NDArray[np.float64]]]] = {
    "likelihood": lambda evidence: 1 - normalised_likelihood(evidence.logits),
    "max_logit": lambda evidence: -evidence.logits.max(axis=1).astype(np.float64),
    "energy": lambda evidence: -_log_sum_exp(evidence.logits),
    "centroid": _centroid_distance,
    "knn": _knn_distance,
}
