"""Read matrices, batches and labels from the cells that a method is given, and check them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, DataError, NotApplicableError
from cellular_bench.core.keys import BATCH, COUNTS, LABEL, TARGET_SUM

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from scipy.sparse import csr_matrix


def dense(matrix: Any) -> NDArray[np.float32]:
    """Return a sparse or dense matrix as a new float32 array."""
    array = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    return np.array(array, dtype=np.float32)


def dense_rows(X: Any, rows: NDArray[np.int64], *, device: torch.device) -> torch.Tensor:
    """Return selected rows of a sparse or dense matrix as a float32 tensor."""
    import torch

    part = X[rows]
    part = part.toarray() if hasattr(part, "toarray") else part
    return torch.as_tensor(np.asarray(part, dtype=np.float32), device=device)


def sparse_rows(matrix: Any) -> csr_matrix:
    """Return a sparse or dense matrix as a float64 csr matrix, the fastest format for linear solvers."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix, dtype=np.float64)


def per_million(lognorm: Any) -> csr_matrix:
    """Return counts per million (csr, float64) from ``log1p`` of counts per 10,000.

    Dividing ``layers["counts"]`` by its sum would lose the library size if a method sees only some of the
    genes; this does not. Data that were normalised to another sum stay proportional to it.

    Examples
    --------
    >>> import numpy as np
    >>> per_million(np.log1p([[2.0, 0.0, 3.0]])).toarray().round().tolist()
    [[200.0, 0.0, 300.0]]
    """
    from scipy.sparse import csr_matrix

    linear = csr_matrix(lognorm, dtype=np.float64, copy=True)
    np.expm1(linear.data, out=linear.data)
    linear.data *= 1e6 / TARGET_SUM
    return linear


def batches_of(adata: AnnData) -> NDArray[np.str_]:
    """Return the batch of every cell, (n_obs,); without batches, all cells share the empty name."""
    if BATCH not in adata.obs:
        return np.full(adata.n_obs, "", dtype=np.str_)
    return np.asarray(adata.obs[BATCH].astype(str), dtype=np.str_)


def labels_of(adata: AnnData) -> NDArray[np.str_]:
    """Return the label of every cell, (n_obs,)."""
    return np.asarray(adata.obs[LABEL].astype(str), dtype=np.str_)


def require_labels(train: AnnData, method_id: str, *, at_least: int = 2) -> NDArray[np.str_]:
    """Return the labels of the training cells; raise ``NotApplicableError`` if too few of them differ."""
    labels = labels_of(train)
    names = np.unique(labels)
    if names.size < at_least:
        raise NotApplicableError(
            f"{method_id}: the training cells have {names.size} label(s) ({', '.join(names)}); at least "
            f"{at_least} are needed. Use a data set or split with more labels."
        )
    return labels


def require_batches(adata: AnnData, method_id: str) -> None:
    """Raise ``NotApplicableError`` if there is only one batch, so that there is nothing to correct."""
    names = np.unique(batches_of(adata))
    if names.size < 2:
        raise NotApplicableError(
            f"{method_id}: all {adata.n_obs} cells that it sees come from one batch ({', '.join(names)}); "
            f"at least 2 are needed. Use a split whose scored cells come from several batches."
        )


def require_counts(adata: AnnData, method_id: str) -> Any:
    """Return ``layers["counts"]``; raise ``NotApplicableError`` if the data have no counts."""
    if COUNTS not in adata.layers:
        raise NotApplicableError(
            f'{method_id}: reads raw counts, but the data have no layer "{COUNTS}". Use data with counts.'
        )
    return adata.layers[COUNTS]


def require_fitted(query: AnnData, genes: Sequence[str], method_id: str) -> None:
    """Raise if a method is not fitted (no ``genes`` yet), or if a query has other genes than in training.

    Their order counts as well, because columns would be taken for other genes.
    """
    if not genes:
        raise ContractError(f"{method_id}: embed or predict was called before fit. Call fit first.")
    names = list(query.var_names)
    if names != list(genes):
        shared = len(set(names) & set(genes))
        raise DataError(
            f"{method_id}: the query",
            [
                f"It has {len(names)} genes, {shared} of them among the {len(genes)} genes of the training "
                f"cells; expected the same genes in the same order. Subset and reorder them first."
            ],
        )
