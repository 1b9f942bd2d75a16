"""From an AnnData to what the networks read: checked values, aligned genes, coded columns."""

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
    """Return ``X`` as csr or dense float32, copied only where it has another type or unsorted rows.

    Raises
    ------
    UserError
        If there are no cells or no ``X``, or a value is missing or infinite.
    """
    from scipy import sparse

    if adata.X is None or adata.n_obs == 0:
        raise UserError(
            "cellular: adata has no cells or no X; log-normalised expression is wanted in adata.X."
        )
    X: Any = adata.X
    X = X.tocsr() if sparse.issparse(X) else np.asarray(X)
    X = X.astype(np.float32, copy=False)
    if sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()  # the caller's matrix stays as it is
    values = X.data if sparse.issparse(X) else X
    n_bad = int(values.size - np.isfinite(values).sum())
    if n_bad:
        raise UserError(
            f"cellular: X holds {n_bad} values that are NaN or infinite. Remove these cells or genes, "
            "or fill the values, before fitting."
        )
    return X


def codes_of(adata: AnnData, key: str, *, role: str) -> tuple[Codes, tuple[str, ...]]:
    """Return the integer codes of a column of ``obs`` and the sorted names they stand for.

    Parameters
    ----------
    adata
        The cells.
    key
        Column of ``adata.obs``.
    role
        ``"label_key"`` or ``"batch_key"``, for messages.

    Raises
    ------
    UserError
        If the column is absent, or a cell has no value in it.
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
    """Return the query's expression of the model's genes, in the model's order.

    Genes are matched by name. A gene that the query lacks is 0 in every cell.

    Parameters
    ----------
    adata
        The query.
    genes
        Genes of the model.
    min_share
        Least share of ``genes`` that the query must have, 0 to 1.

    Raises
    ------
    UserError
        If fewer genes are found, or gene names of the query are not unique.
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
    found = position >= 0
    _report_share(found, genes, min_share=min_share)
    return X[:, position] if found.all() else _with_zero_genes(X, position, found)


def _report_share(found: NDArray[np.bool_], genes: Sequence[str], *, min_share: float) -> None:
    share = float(found.mean())
    missing = ", ".join([gene for gene, there in zip(genes, found, strict=True) if not there][:3])
    counted = f"{int(found.sum())} of the model's {len(genes)} genes ({share:.0%})"
    if share < min_share:
        raise UserError(
            f"cellular: the query has {counted}; at least {min_share:.0%} are wanted (min_gene_share). "
            f"Missing, for example: {missing}. Are gene names of the same kind (symbols or Ensembl ids)?"
        )
    if share < 1:
        warnings.warn(
            f"cellular: the query has {counted}; the others, for example {missing}, are taken as 0.",
            UserWarning,
            stacklevel=3,
        )


def _with_zero_genes(X: Any, position: NDArray[np.int64], found: NDArray[np.bool_]) -> Any:
    """Take columns, with a column of zeros wherever ``found`` is False."""
    from scipy import sparse

    if not sparse.issparse(X):
        aligned = np.zeros((X.shape[0], len(position)), dtype=X.dtype)
        aligned[:, found] = X[:, position[found]]
        return aligned
    n_found = int(found.sum())
    # (n_found, n_model) selector: puts each gene found into its place.
    place = sparse.csr_matrix(
        (np.ones(n_found, dtype=X.dtype), (np.arange(n_found), np.flatnonzero(found))),
        shape=(n_found, len(position)),
    )
    return (X[:, position[found]] @ place).tocsr()
