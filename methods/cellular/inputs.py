"""Inputs of the networks from an AnnData: checked expression, aligned genes, integer codes of columns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.methods.cellular.centroids import Codes

if TYPE_CHECKING:
    from anndata import AnnData


def expression(adata: AnnData) -> Any:
    """Return ``X`` as csr or dense float32; copied only if its type differs or its rows are not sorted.

    Raises ``UserError`` if there are no cells or no ``X``, or if a value is NaN or infinite.
    """
    from scipy import sparse

    if adata.X is None or adata.n_obs == 0:
        raise UserError(
            "cellular: adata has no cells or no X; log-normalised expression is needed in adata.X."
        )
    X: Any = adata.X
    X = X.tocsr() if sparse.issparse(X) else np.asarray(X)
    X = X.astype(np.float32, copy=False)
    if sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()  # in place, hence the copy
    values = X.data if sparse.issparse(X) else X
    n_bad = int(values.size - np.isfinite(values).sum())
    if n_bad:
        raise UserError(
            f"cellular: X holds {n_bad} values that are NaN or infinite. Remove these cells or genes, "
            "or fill the values, before fitting."
        )
    return X


def codes_of(adata: AnnData, key: str, *, role: str) -> tuple[Codes, tuple[str, ...]]:
    """Return the integer codes of a column of ``obs`` and the sorted names that they stand for.

    Messages call the column by its ``role``: ``"label_key"`` or ``"batch_key"``.
    """
    if key not in adata.obs:
        raise UnknownNameError(f"column of adata.obs given as {role}:", key, map(str, adata.obs.columns))
    column = adata.obs[key]
    n_missing = int(column.isna().sum())
    if n_missing:
        raise UserError(
            f"cellular: {n_missing} of {adata.n_obs} cells have no value in obs[{key!r}] ({role}). "
            "Remove these cells or give them a value."
        )
    names, codes = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
    return codes.astype(np.int64), tuple(map(str, names))


def align_genes(adata: AnnData, genes: Sequence[str], *, min_share: float) -> Any:
    """Return the expression of the model's genes in a query, in the order of the model.

    Genes are matched by name. Genes that the query lacks are 0 in every cell; it must have ``min_share`` of
    them, else ``UserError`` is raised.
    """
    X = expression(adata)
    names = adata.var_names.astype(str)
    if len(names) == len(genes) and bool((names == np.asarray(genes)).all()):
        return X
    if not names.is_unique:
        raise UserError(
            "cellular: gene names of the query are not unique; call adata.var_names_make_unique()."
        )
    position = names.get_indexer(list(genes))
    present = position >= 0
    _report_share(present, genes, min_share=min_share)
    return X[:, position] if present.all() else _with_zero_genes(X, position, present)


def _report_share(present: NDArray[np.bool_], genes: Sequence[str], *, min_share: float) -> None:
    share = float(present.mean())
    missing = ", ".join([gene for gene, there in zip(genes, present, strict=True) if not there][:3])
    counted = f"{int(present.sum())} of the model's {len(genes)} genes ({share:.0%})"
    if share < min_share:
        raise UserError(
            f"cellular: the query has {counted}; at least {min_share:.0%} are needed (min_gene_share). "
            f"Missing, for example: {missing}. Use the same kind of gene names (symbols or Ensembl ids)."
        )
    if share < 1:
        warnings.warn(
            f"cellular: the query has {counted}; the others, for example {missing}, are set to 0.",
            UserWarning,
            stacklevel=3,
        )


def _with_zero_genes(X: Any, position: NDArray[np.int64], present: NDArray[np.bool_]) -> Any:
    """Select columns, with a column of zeros wherever ``present`` is False."""
    from scipy import sparse

    if not sparse.issparse(X):
        aligned = np.zeros((X.shape[0], len(position)), dtype=X.dtype)
        aligned[:, present] = X[:, position[present]]
        return aligned
    n_present = int(present.sum())
    # (n_present, n_model) selector, which puts each gene into its column.
    selector = sparse.csr_matrix(
        (np.ones(n_present, dtype=X.dtype), (np.arange(n_present), np.flatnonzero(present))),
        shape=(n_present, len(position)),
    )
    return (X[:, position[present]] @ selector).tocsr()
