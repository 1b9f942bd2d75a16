"""Check sparse matrices of a file before anything is computed: compiled code believes their indices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData


def sparse_problems(adata: AnnData) -> list[str]:
    """Return a sentence about each sparse matrix with indices that cannot be; an empty list if there is none.

    ``X``, layers, ``raw``, and what belongs to cells and genes (``obsm``, ``varm``, ``obsp``, ``varp``).
    """
    return [f"{name} is damaged: {why}." for name, matrix in _matrices(adata) if (why := fault(matrix))]


def _matrices(adata: AnnData) -> Iterator[tuple[str, Any]]:
    yield "X", adata.X
    if adata.raw is not None:
        yield "raw", adata.raw.X
    for place in ("layers", "obsm", "varm", "obsp", "varp"):
        for key, matrix in getattr(adata, place).items():
            yield f"{place}['{key}']", matrix


def fault(matrix: Any) -> str:
    """Say what is wrong with the indices of a sparse matrix; empty if nothing is, or if it is not sparse."""
    if getattr(matrix, "format", None) not in ("csr", "csc") or isinstance(matrix, np.ndarray):
        return ""
    indices, indptr = np.asarray(matrix.indices), np.asarray(matrix.indptr)
    n_major, n_minor = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    if len(matrix.data) != len(indices) or len(indptr) != n_major + 1:
        return "its arrays of values and indices do not belong together"
    if indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        return f"its indices are {indices.dtype} and {indptr.dtype}, expected whole numbers"
    if indptr[0] != 0 or indptr[-1] > len(indices) or (np.diff(indptr) < 0).any():
        return "its index pointer does not rise from 0 to the number of values"
    if len(indices) and not 0 <= indices.min() <= indices.max() < n_minor:
        return f"its indices go from {indices.min()} to {indices.max()}, expected 0 to {n_minor - 1}"
    return ""
