"""Diffusion maps: a graph as coordinates in which distances are those of random walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.metrics.inputs import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Singles = NDArray[np.float32]
#: Up to so many cells a full eigendecomposition is quicker than the iterative one.
DENSE_CELLS = 600
#: Vectors of the iteration beyond those wanted, and the residual at which it ends: it moves no neighbour.
SPARE_VECTORS = 40
RESIDUAL = 1e-5
#: The filter keeps about so many times as many eigenvalues as are wanted, so that an estimate that is a
#: little off lets none of the wanted ones fall into what it suppresses.
MARGIN = 1.5
#: Steps of the estimate.
STEPS = 60
#: Eigenvalues much closer to 0 than this would drown in single precision once the largest are amplified.
LEAST_BOUND = 0.25


def diffusion_map(graph: csr_matrix, n_components: int) -> Floats:
    """Embed a graph so that Euclidean distances are diffusion distances over all time scales.

    References
    ----------
    doi:10.1038/nmeth.3971
    """
    from scipy.sparse import diags

    density = diags(1 / np.asarray(graph.sum(axis=0), dtype=np.float64).ravel())
    kernel = density @ graph.astype(np.float64) @ density
    norm = diags(1 / np.sqrt(np.asarray(kernel.sum(axis=0)).ravel()))
    values, vectors = leading_eigenpairs((norm @ kernel @ norm).tocsr(), n_components)
    # Single precision decides which eigenvalues count as 1: the stationary ones, not weighted.
    rounded = values.astype(np.float32)
    stationary = rounded == 1
    weights = np.where(stationary, 1, rounded / np.where(stationary, 1, 1 - rounded))
    return vectors * weights


def leading_eigenpairs(matrix: csr_matrix, k: int) -> tuple[Floats, Floats]:
    """Return the k eigenpairs of largest magnitude, negative ones included, of a symmetric matrix.

    Vectors of many cells are found in single precision, half as many bytes to move; each value is then
    the vector's Rayleigh quotient, whose error is the square of the vector's.
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
        if np.abs(values).min() > bound:  # else the filter suppressed some of those that are wanted
            return values, vectors
    return _with_values(matrix, _iterate(single, start, k, None))


def _with_values(matrix: csr_matrix, vectors: Singles) -> tuple[Floats, Floats]:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=0)
    return np.einsum("ij,ij->j", exact, matrix @ exact), exact


def _iterate(matrix: csr_matrix, start: Singles, k: int, bound: float | None) -> Singles:
    """Find eigenvectors by Lanczos iteration, of a cubic polynomial of the matrix where there is a bound.

    The polynomial of Chebyshev stays within -1...1 for eigenvalues within the bound and grows beyond in
    both directions, so that the wanted ones stand apart. A third of the steps are then needed, of which
    keeping vectors orthogonal is the dear part.
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
    """Estimate which magnitude about so many eigenvalues exceed, from a few steps of Lanczos iteration.

    The squares of the first entries of the small matrix's eigenvectors are the shares of the spectrum
    around its eigenvalues, for a start in a random direction.

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
