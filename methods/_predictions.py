"""Turn probabilities, likelihoods and neighbours into labels and novelty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError
from cellular_bench.core.types import Prediction

if TYPE_CHECKING:
    from cellular_bench.core.outputs import Outputs


def most_probable(
    probability: NDArray[np.floating[Any]], labels: Sequence[str], *, reject_below: float = 0.0
) -> Prediction:
    """Turn probabilities (n_obs, n_labels) into a prediction with novelty 1 - the highest probability.

    Cells whose highest probability is below ``reject_below`` are rejected; 0 rejects none.
    """
    names = np.asarray(labels, dtype=np.str_)
    highest = probability.max(axis=1)
    return Prediction(
        label_pred=names[probability.argmax(axis=1)],
        label_proba=probability,
        labels=tuple(names.tolist()),
        novelty=1.0 - highest,
        rejected=highest < reject_below if reject_below > 0 else None,
    )


def returned_prediction(outputs: Outputs) -> Prediction:
    """Turn what a program in another environment returned into a prediction by :func:`most_probable`.

    Its novelty and its rejected cells have precedence where it returned them.

    Raises
    ------
    ContractError
        If it returned no probabilities.
    """
    if outputs.label_proba is None or outputs.labels is None:
        raise ContractError("The program returned no 'label_proba' with 'labels'. Return both.")
    prediction = most_probable(outputs.label_proba, outputs.labels.tolist())
    more = {name: getattr(outputs, name) for name in ("novelty", "rejected")}
    return replace(prediction, **{name: value for name, value in more.items() if value is not None})


def most_probable_by_logits(
    logits: NDArray[np.float32], labels: Sequence[str], *, reject_below: float
) -> Prediction:
    """Turn the output of a network into a prediction by :func:`most_probable`, in double precision."""
    from scipy.special import softmax

    probability = softmax(logits.astype(np.float64), axis=1)
    return most_probable(probability, labels, reject_below=reject_below)


def log_error_probability(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 - highest probability) of each cell, (n_obs,), without loss of digits.

    With thousands of counts per cell nearly all probabilities round to 0 or 1; their logarithms still
    order the cells. Likelihoods (n_obs, n_labels) need be known up to a constant per cell only.

    Examples
    --------
    >>> np.exp(log_error_probability(np.log([[0.7, 0.2, 0.1]]))).round(6).tolist()
    [0.3]
    """
    from scipy.special import logsumexp

    others = np.sort(log_likelihood, axis=1)[:, :-1]
    return np.asarray(logsumexp(others, axis=1) - logsumexp(log_likelihood, axis=1))


def most_frequent(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the most frequent value of each row; among equally frequent ones, the first in the row.

    Examples
    --------
    >>> most_frequent(np.array([[5, 2, 2], [3, 1, 2]])).tolist()
    [2, 3]
    """
    votes = (code[:, :, None] == code[:, None, :]).sum(axis=2)
    return np.asarray(np.take_along_axis(code, votes.argmax(axis=1)[:, None], axis=1)[:, 0])


def nearest_voters(X: Any, labels: NDArray[np.str_], *, n_neighbors: int) -> Any:
    """Return a fitted k-nearest-neighbours classifier; k is at most the number of cells."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=min(n_neighbors, labels.size)).fit(X, labels)
