"""Diffusion maps: coordinates of a graph whose distances are those of random walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.metrics.inputs import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Singles = NDArray[np.float32]
#: Up to this number of cells, a full eigendecomposition is faster than the iterative one.
DENSE_CELLS = 600
#: Additional vectors of the iteration, and the residual at which it ends, too small to change a neighbour.
SPARE_VECTORS = 40
RESIDUAL = 1e-5
#: The filter keeps about this multiple of the requested number of eigenvalues, so that a slightly wrong
#: estimate suppresses none of the requested ones.
MARGIN = 1.5
#: Iterations of the estimate.
STEPS = 60
#: Eigenvalues much closer to 0 than this are lost in single precision once the largest are amplified.
LEAST_BOUND = 0.25


def diffusion_map(graph: csr_matrix, n_components: int) -> Floats:
    """Embed a graph so that Euclidean distances are diffusion distances over all time scales.

    Parameters
    ----------
    graph
        (n_obs, n_obs) symmetric weights of a connected graph.
    n_components
        Number of components, below the number of cells.

    Returns
    -------
    (n_obs, n_components) coordinates.

    References
    ----------
    doi:10.1038/nmeth.3971
    """
    from scipy.sparse import diags

    density = diags(1 / np.asarray(graph.sum(axis=0), dtype=np.float64).ravel())
    kernel = density @ graph.astype(np.float64) @ density
    norm = diags(1 / np.sqrt(np.asarray(kernel.sum(axis=0)).ravel()))
    values, vectors = leading_eigenpairs((norm @ kernel @ norm).tocsr(), n_components)
    # Eigenvalues that are 1 in single precision are stationary, and not weighted.
    rounded = values.astype(np.float32)
    stationary = rounded == 1
    weights = np.where(stationary, 1, rounded / np.where(stationary, 1, 1 - rounded))
    return vectors * weights


def leading_eigenpairs(matrix: csr_matrix, k: int) -> tuple[Floats, Floats]:
    """Return the k eigenpairs of largest magnitude, negative ones included, of a symmetric matrix.

    Vectors of many cells are computed in single precision, which halves the memory traffic; each value is
    then the vector's Rayleigh quotient, whose error is the square of the vector's.
    """
    n_obs = matrix.shape[0]
    if n_obs <= DENSE_CELLS:
        values, vectors = np.linalg.eigh(matrix.toarray())
        chosen = np.argsort(-np.abs(values), kind="stable")[:k]
        return values[chosen], vectors[:, chosen]
    single = matrix.astype(np.float32)
    start = np.random.default_rng(0).standard_normal(n_obs).astype(np.float32)
    bound = magnitude_exceeded_by(single, start, MARGIN * k)
    if bound >= LEAST_BOUND:
        values, vectors = _with_values(matrix, _iterate(single, start, k, bound))
        if np.abs(values).min() > bound:  # else the filter suppressed some requested ones
            return values, vectors
    return _with_values(matrix, _iterate(single, start, k, None))


def _with_values(matrix: csr_matrix, vectors: Singles) -> tuple[Floats, Floats]:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=0)
    return np.einsum("ij,ij->j", exact, matrix @ exact), exact


def _iterate(matrix: csr_matrix, start: Singles, k: int, bound: float | None) -> Singles:
    """Return eigenvectors by Lanczos iteration, of a cubic polynomial of the matrix if there is a bound.

    The Chebyshev polynomial stays within -1...1 for eigenvalues within the bound and grows beyond it in both
    directions, which separates the requested ones. The iteration then needs a third of the steps, whose
    expensive part is orthogonalisation.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    n_obs = matrix.shape[0]
    operator = matrix
    if bound is not None:
        scaled = (matrix * np.float32(1 / bound)).tocsr()

        def cubic(x: Singles) -> Singles:  # T3(A) x = 4 A A A x - 3 A x
            once: Singles = scaled @ x
            thrice: Singles = scaled @ (scaled @ once)
            return 4 * thrice - 3 * once

        operator = LinearOperator(matrix.shape, matvec=cubic, dtype=np.float32)
    n_vectors = min(n_obs, k + SPARE_VECTORS)
    vectors: Singles = eigsh(operator, k=k, which="LM", v0=start, ncv=n_vectors, tol=RESIDUAL)[1]
    return vectors


def magnitude_exceeded_by(matrix: csr_matrix, start: Singles, n_wanted: float) -> float:
    """Estimate the magnitude that ``n_wanted`` eigenvalues exceed, from a few steps of Lanczos iteration.

    For a random start, the squares of the first entries of the small matrix's eigenvectors are the shares of
    the spectrum around its eigenvalues.

    References
    ----------
    doi:10.1137/16M1104974
    """
    from scipy.linalg import eigh_tridiagonal

    previous, current, beta = np.zeros_like(start), start / np.linalg.norm(start), 0.0
    diagonal, beside = [], []
    for _ in range(STEPS):
        following = matrix @ current - np.float32(beta) * previous
        diagonal.append(float(following @ current))
        following -= np.float32(diagonal[-1]) * current
        beta = float(np.linalg.norm(following))
        if beta < RESIDUAL:  # the start lies in the span of a few eigenvectors
            return 0.0
        beside.append(beta)
        previous, current = current, following / np.float32(beta)
    nodes, vectors = eigh_tridiagonal(diagonal, beside[:-1])
    order = np.argsort(-np.abs(nodes))
    above = len(start) * np.cumsum(vectors[0, order] ** 2)
    return float(np.abs(nodes[order])[min(np.searchsorted(above, n_wanted), STEPS - 1)])
