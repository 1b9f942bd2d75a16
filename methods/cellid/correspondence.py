"""Multiple correspondence analysis, which places cells and genes in one space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import DataError, NotApplicableError
from cellular_bench.methods._components import fit_pca

#: Number of points whose distances to all genes are in memory at a time.
CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Cells and genes in one space: a cell lies close to the genes that are specific to it."""

    #: Each column has mean square 1.
    cells: NDArray[np.float64]
    #: The mean of the cells, weighted by expression.
    genes: NDArray[np.float64]
    #: Ascending positions of the genes in the analysis.
    kept: NDArray[np.int64]


def correspondence(X: Any, *, n_components: int, min_cells: int, seed: int, method_id: str) -> Coordinates:
    """Place cells and genes in one space by multiple correspondence analysis.

    Each gene is scaled to M between 0 and 1 and enters twice, as M and 1 - M. By definition, the analysis
    is a singular value decomposition of a matrix twice as wide as the data, without zeros. With r the
    column sums of M and n the number of cells, its components (except the first, which is constant) are
    also the left singular vectors of the centred matrix ``M * sqrt((1 / r + 1 / (n - r)) / n_genes)``,
    which keeps the zeros of the data. This function decomposes only the latter.

    Constant genes and genes expressed in fewer than ``min_cells`` cells are left out.

    References
    ----------
    Cortal et al. 2021, https://doi.org/10.1038/s41587-021-00896-6.
    """
    n_obs = X.shape[0]
    if n_obs <= n_components + 1:
        raise NotApplicableError(
            f"{method_id}: its correspondence analysis with {n_components} dimensions needs more than "
            f"{n_components + 1} cells at a time, got {n_obs}. Use more cells, or fewer n_components."
        )
    fuzzy, kept = _between_0_and_1(X, min_cells=min_cells, method_id=method_id)
    if kept.size <= n_components:
        raise NotApplicableError(
            f"{method_id}: {kept.size} genes vary and are expressed in {min_cells} cells or more; more than "
            f"{n_components} are needed. Use more genes, or fewer n_components."
        )
    total = np.asarray(fuzzy.sum(axis=0)).ravel()
    scaled = fuzzy.multiply(np.sqrt((1 / total + 1 / (n_obs - total)) / kept.size)).tocsr()
    scores = fit_pca(scaled, n_components=n_components, seed=seed).transform(scaled)
    cells = scores / np.sqrt(np.mean(scores**2, axis=0))
    return Coordinates(cells=cells, genes=(fuzzy.T @ cells) / total[:, None], kept=kept)


def _between_0_and_1(X: Any, *, min_cells: int, method_id: str) -> tuple[Any, NDArray[np.int64]]:
    """Scale each gene that varies to its range; return the sparse result and the positions of these genes."""
    from scipy.sparse import csc_matrix

    matrix = csc_matrix(X, dtype=np.float64)
    if matrix.nnz and matrix.data.min() < 0:
        raise DataError(
            f"{method_id}: the expression",
            [f"Its lowest value is {matrix.data.min():g}; expected log-normalised values of at least 0."],
        )
    lowest, highest = (np.asarray(end(axis=0).todense()).ravel() for end in (matrix.min, matrix.max))
    n_cells = np.asarray((matrix > 0).sum(axis=0)).ravel()
    kept = np.flatnonzero((highest > lowest) & (n_cells >= min_cells))
    fuzzy = matrix[:, kept]
    # A gene whose lowest value is above 0 has no implicit zeros, so implicit zeros stay 0.
    per_value = np.repeat(np.arange(kept.size), np.diff(fuzzy.indptr))
    fuzzy.data -= lowest[kept][per_value]
    fuzzy.data /= (highest - lowest)[kept][per_value]
    return fuzzy, kept


def nearest_genes(points: NDArray[np.float64], genes: NDArray[np.float64], *, n_genes: int) -> Any:
    """Return sparse indicators (n_points, n_kept) of the ``n_genes`` genes nearest to each point."""
    from scipy.sparse import csr_matrix

    length = (genes**2).sum(axis=1)
    nearest = np.empty((len(points), n_genes), dtype=np.int64)
    for start in range(0, len(points), CHUNK):
        some = points[start : start + CHUNK]
        # Squared distance without the squared length of the point, which does not change the order.
        distance = length - 2 * some @ genes.T
        nearest[start : start + CHUNK] = np.argpartition(distance, n_genes - 1, axis=1)[:, :n_genes]
    ends = np.arange(len(points) + 1) * n_genes
    ones = np.ones(nearest.size, dtype=np.float32)
    return csr_matrix((ones, np.sort(nearest, axis=1).ravel(), ends), shape=(len(points), len(genes)))
