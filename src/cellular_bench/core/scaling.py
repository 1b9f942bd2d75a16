"""Genes that are centred and scaled to unit variance with the statistics of reference cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

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
        for first, block in _blocks(X):
            scaled[first : first + len(block)] = self._clipped((block - self.means) * self._factors)
        return scaled

    def apply_sparse(self, X: Any) -> tuple[csr_matrix, NDArray[np.float64]]:
        """Return a sparse matrix (double precision) and a row to add to each of its rows.

        The sum is what :meth:`apply` returns. The row holds what a value of 0 becomes, so that the matrix is
        not 0 only where ``X`` is not.
        """
        from scipy.sparse import csr_matrix

        zeros = self._clipped(-self.means * self._factors)
        rows = csr_matrix(X, dtype=np.float64, copy=True)
        gene = rows.indices
        scaled = self._clipped((rows.data - self.means[gene]) * self._factors[gene])
        rows.data = scaled - zeros[gene]
        return rows, zeros

    @property
    def _factors(self) -> NDArray[np.float64]:
        return np.divide(1.0, self.deviations, where=self.deviations > 0, out=np.zeros_like(self.means))

    def _clipped(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if self.clip is None else np.clip(values, -self.clip, self.clip)


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
