"""Genes that are centred and scaled to unit variance with the statistics of reference cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Number of cells that are made dense in double precision at a time.
_BLOCK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Means and standard deviations of the genes of reference cells.

    Parameters
    ----------
    means, deviations
        Mean and standard deviation of each gene (n - 1 in the denominator), (n_vars,).
    clip
        Largest absolute value of a scaled gene; None does not clip.

    Examples
    --------
    >>> reference = np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
    >>> Scaling.fit(reference, clip=2.0).apply(np.array([[2.0, 5.0], [9.0, 1.0]])).tolist()
    [[1.0, 0.0], [2.0, 0.0]]
    """

    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    clip: float | None = None

    @classmethod
    def fit(cls, X: Any, *, clip: float | None = None) -> Self:
        """Measure the genes of a sparse or dense matrix, (n_obs, n_vars)."""
        n_obs = X.shape[0]
        means = _sums(X, lambda block: block) / n_obs
        squares = _sums(X, lambda block: (block - means) ** 2)
        # Rounding of the mean is not variance.
        squares[squares <= n_obs * (1e-7 * means) ** 2] = 0.0
        return cls(means, np.sqrt(squares / max(n_obs - 1, 1)), clip)

    def apply(self, X: Any) -> NDArray[np.float32]:
        """Centre and scale cells, (n_obs, n_vars) dense; genes without variation are 0 in every cell."""
        scaled = np.empty(X.shape, dtype=np.float32)
        factors = np.divide(1.0, self.deviations, where=self.deviations > 0, out=np.zeros_like(self.means))
        for first, block in _blocks(X):
            values = (block - self.means) * factors
            if self.clip is not None:
                np.clip(values, -self.clip, self.clip, out=values)
            scaled[first : first + len(block)] = values
        return scaled


def _blocks(X: Any) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the first row and the values of each block of cells, dense in double precision."""
    rows = X.tocsr() if hasattr(X, "tocsr") else X
    for first in range(0, X.shape[0], _BLOCK):
        block = rows[first : first + _BLOCK]
        yield first, np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float64)


def _sums(X: Any, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum a function of the values over the cells, gene by gene."""
    total = np.zeros(X.shape[1])
    for _, block in _blocks(X):
        total += function(block).sum(axis=0)
    return total
