"""Scale rows so that their products are cosines or correlations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_rows(X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Scale each row to length 1: products of rows are cosines. A row of zeros stays zero.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    X = np.asarray(X, dtype=np.float64)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(np.divide(X, length, out=np.zeros_like(X), where=length > 0))


def standardised_rows(X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Centre each row and scale it to length 1: products of rows are Pearson correlations.

    A constant row becomes zero: its correlation with every row is 0.
    """
    return unit_rows(X - X.mean(axis=1, keepdims=True, dtype=np.float64))


def ranked_rows(X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Replace each row by its standardised ranks: products of rows are Spearman correlations.

    Tied values get the mean of their ranks.
    """
    from scipy.stats import rankdata

    return standardised_rows(rankdata(X, axis=1))
