"""Data too large to be held twice: cells in pieces, and principal components without a dense copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import DataError, UnknownNameError, UserError

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Cells of a piece, where the caller does not say.
CHUNK_OBS = 10_000
#: Values that are squared at a time.
BLOCK_VALUES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Principal components of cells.

    Attributes
    ----------
    scores
        (n_obs, n_comps) float32.
    loadings
        (n_vars, n_comps) directions of length 1; of each, the entry of largest size is positive.
    variance
        (n_comps,) variance (over n - 1) of the scores, descending.
    variance_ratio
        (n_comps,) share of the variance of all genes.
    mean
        (n_vars,) what is taken from each gene before it is projected.
    """

    scores: NDArray[np.float32]
    loadings: NDArray[np.float64]
    variance: NDArray[np.float64]
    variance_ratio: NDArray[np.float64]
    mean: NDArray[np.float64]


@contextmanager
def open_backed(path: Path) -> Iterator[AnnData]:
    """Open an ``.h5ad`` file without reading its values; it is closed at the end.

    Raises
    ------
    DataError
        If it cannot be opened.
    """
    import anndata

    try:
        adata = anndata.read_h5ad(path, backed="r")
    except Exception as error:
        # Whatever anndata raises on a damaged or foreign file is about the file.
        raise DataError(str(path), [f"It cannot be opened in pieces: {error}."]) from error
    try:
        yield adata
    finally:
        adata.file.close()


def chunks(path: Path, *, layer: str = "X", n_obs: int = CHUNK_OBS) -> Iterator[csr_matrix]:
    """Yield the values of an ``.h5ad`` file, some cells at a time, in their order.

    Parameters
    ----------
    layer
        ``"X"``, ``"raw"`` or a layer.
    n_obs
        Cells of a piece; only so many are in memory.

    Raises
    ------
    UserError
        If ``n_obs`` is below 1, or there is no such layer.
    """
    from scipy import sparse

    if n_obs < 1:
        raise UserError(f"A piece must have at least 1 cell, came n_obs={n_obs}.")
    with open_backed(path) as adata:
        values = _layer(adata, layer)
        for start in range(0, adata.n_obs, n_obs):
            yield sparse.csr_matrix(values[start : start + n_obs])


def pca(X: Any, *, n_comps: int = 50, seed: int = 0) -> Components:
    """Principal components of a sparse matrix that is never made dense.

    The mean of each gene is taken off within the products with vectors, so that the exact components
    (Lanczos, ARPACK) come out of a matrix that stays sparse.

    Parameters
    ----------
    X
        (n_obs, n_vars) sparse or dense.
    n_comps
        Below the smaller of the two numbers.
    seed
        Of the vector that the iteration starts from.

    Raises
    ------
    UserError
        If ``n_comps`` is out of range.
    """
    from scipy import sparse
    from scipy.sparse.linalg import LinearOperator, svds

    # Double precision once: a product of single and double would make such a copy every time.
    matrix = sparse.csr_matrix(X, dtype=np.float64)
    _check_n_comps(n_comps, matrix.shape)
    n_obs = matrix.shape[0]
    mean = np.asarray(matrix.sum(axis=0)).ravel() / n_obs
    operator = LinearOperator(
        matrix.shape,
        dtype=np.float64,
        matvec=lambda v: matrix @ v.ravel() - mean @ v.ravel(),
        rmatvec=lambda u: matrix.T @ u.ravel() - mean * u.sum(),
        matmat=lambda V: matrix @ V - (mean @ V)[None, :],
        rmatmat=lambda U: matrix.T @ U - np.outer(mean, U.sum(axis=0)),
    )
    start = np.random.default_rng(seed).normal(size=min(matrix.shape))
    left, singular, right = svds(operator, k=n_comps, v0=start, solver="arpack")
    order = np.argsort(-singular)
    loadings = _signed(right[order].T)
    signs = np.sign(np.einsum("ij,ij->j", loadings, right[order].T))
    scores = left[:, order] * (singular[order] * signs)
    total = _total_variance(matrix, mean)
    variance = singular[order] ** 2 / (n_obs - 1)
    return Components(
        scores=scores.astype(np.float32),
        loadings=loadings,
        variance=variance,
        variance_ratio=variance / total,
        mean=mean,
    )


def pca_of_chunks(pieces: Callable[[], Iterable[Any]], *, n_comps: int = 50) -> Components:
    """Principal components of cells that come in pieces, twice: exact, and in memory of genes squared.

    The first pass sums the products of genes, the second projects the cells. No more than one piece is held.

    Parameters
    ----------
    pieces
        Called twice; each time gives all (n, n_vars) pieces in the same order, for example
        ``lambda: chunks(path)``.
    """
    n_obs, mean, products = _products(pieces())
    _check_n_comps(n_comps, (n_obs, len(mean)))
    covariance = (products - n_obs * np.outer(mean, mean)) / (n_obs - 1)
    from scipy.linalg import eigh

    n_vars = len(mean)
    variance, vectors = eigh(covariance, subset_by_index=(n_vars - n_comps, n_vars - 1))
    loadings = _signed(vectors[:, ::-1])
    scores = np.empty((n_obs, n_comps), dtype=np.float32)
    done = 0
    for piece in pieces():
        scores[done : done + piece.shape[0]] = piece @ loadings - mean @ loadings
        done += piece.shape[0]
    # Rounding can leave a variance of 0 just below it.
    variance = np.maximum(variance[::-1], 0)
    return Components(
        scores=scores,
        loadings=loadings,
        variance=variance,
        variance_ratio=variance / np.trace(covariance),
        mean=mean,
    )


def _products(pieces: Iterable[Any]) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    from scipy import sparse

    n_obs, sums, products = 0, np.zeros(0), np.zeros((0, 0))
    for piece in pieces:
        block = sparse.csr_matrix(piece, dtype=np.float64)
        if not n_obs:
            sums, products = np.zeros(block.shape[1]), np.zeros((block.shape[1], block.shape[1]))
        sums += np.asarray(block.sum(axis=0)).ravel()
        products += (block.T @ block).toarray()
        n_obs += block.shape[0]
    if n_obs < 2:
        raise UserError(f"Principal components need at least two cells, came: {n_obs}.")
    return n_obs, sums / n_obs, products


def _layer(adata: AnnData, layer: str) -> Any:
    if layer == "X":
        return adata.X
    if layer == "raw" and adata.raw is not None:
        return adata.raw.X
    if layer in adata.layers:
        return adata.layers[layer]
    known = ["X", *adata.layers, *(["raw"] if adata.raw is not None else [])]
    raise UnknownNameError("layer", layer, known)


def _signed(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn each column so that its entry of largest size is positive: signs are arbitrary otherwise."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return np.asarray(vectors * np.where(largest < 0, -1.0, 1.0), dtype=np.float64)


def _total_variance(matrix: csr_matrix, mean: NDArray[np.float64]) -> float:
    n_obs = matrix.shape[0]
    # In double precision a block at a time: the values of a large matrix take gigabytes.
    squares = sum(
        float(np.square(matrix.data[start : start + BLOCK_VALUES], dtype=np.float64).sum())
        for start in range(0, matrix.nnz, BLOCK_VALUES)
    )
    return float((squares - n_obs * float(mean @ mean)) / (n_obs - 1))


def _check_n_comps(n_comps: int, shape: tuple[int, int]) -> None:
    if not 1 <= n_comps < min(shape):
        raise UserError(
            f"n_comps must lie between 1 and {min(shape) - 1}, below the numbers of cells and genes "
            f"({shape[0]} and {shape[1]}), came: {n_comps}."
        )
