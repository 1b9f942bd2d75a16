"""What several adapters need: matrices, labels, guards, and quiet, clean calls into libraries."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import DataError, NotApplicableError, UnknownNameError
from cellular_bench.core.keys import BATCH, COUNTS, LABEL, TARGET_SUM
from cellular_bench.core.types import Prediction

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from scipy.sparse import csr_matrix

Settings = TypeVar("Settings")

#: Cells that are made dense at a time.
BLOCK_CELLS = 20_000


def preset_with(presets: Mapping[str, Settings], preset: str, **changes: Any) -> Settings:
    """Return the settings of a preset with those changes that are not None.

    Parameters
    ----------
    presets
        Frozen dataclasses of one kind by name.
    preset
        Name of the preset.
    changes
        Fields and their values; None keeps the preset's.

    Raises
    ------
    UnknownNameError
        If there is no such preset.
    """
    if preset not in presets:
        raise UnknownNameError("preset", preset, presets)
    wanted = {name: value for name, value in changes.items() if value is not None}
    return replace(presets[preset], **wanted)  # type: ignore[type-var]


def per_million(lognorm: Any) -> csr_matrix:
    """Return counts per million from ``log1p`` of counts per 10,000: sparse float64.

    Unlike counts divided by their sum they keep the library size of all genes where a method sees only
    some. Data without counts that were normalised to another sum stay in proportion to it.

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


def dense(matrix: Any) -> NDArray[np.float32]:
    """Return a sparse or dense matrix as a new float32 array."""
    array = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    return np.array(array, dtype=np.float32)


def sparse_rows(matrix: Any) -> csr_matrix:
    """Return a sparse or dense matrix as sparse float64 rows, which linear solvers go through fastest."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix, dtype=np.float64)


def batches_of(adata: AnnData) -> NDArray[np.str_]:
    """Return the batch of every cell, (n_obs,); cells of which none is known are one batch without a name."""
    if BATCH not in adata.obs:
        return np.full(adata.n_obs, "", dtype=np.str_)
    return np.asarray(adata.obs[BATCH].astype(str), dtype=np.str_)


def labels_of(adata: AnnData) -> NDArray[np.str_]:
    """Return the label of every cell, (n_obs,)."""
    return np.asarray(adata.obs[LABEL].astype(str), dtype=np.str_)


def require_labels(labels: NDArray[np.str_], method_id: str, *, at_least: int = 2) -> None:
    """Raise where a classifier has too few labels to choose from.

    Raises
    ------
    NotApplicableError
        If the training cells have fewer than ``at_least`` different labels.
    """
    found = np.unique(labels)
    if found.size < at_least:
        raise NotApplicableError(
            f"{method_id}: the training cells have {found.size} label(s) ({', '.join(found)}), needed are "
            f"at least {at_least}. Use a data set or split with more labels."
        )


def require_batches(adata: AnnData, method_id: str) -> None:
    """Raise where there is only one batch, so that nothing can be corrected.

    Raises
    ------
    NotApplicableError
        If all the cells that the method sees come from one batch.
    """
    found = np.unique(batches_of(adata))
    if found.size < 2:
        raise NotApplicableError(
            f"{method_id}: all {adata.n_obs} cells that it sees come from one batch ({', '.join(found)}), "
            f"needed are at least 2. Use a split whose scored cells come from several batches."
        )


def require_counts(adata: AnnData, method_id: str) -> Any:
    """Return ``layers["counts"]``, or raise where the data have no counts.

    Raises
    ------
    NotApplicableError
        If the layer does not exist.
    """
    if COUNTS not in adata.layers:
        raise NotApplicableError(
            f'{method_id}: reads raw counts, but the data have no layer "{COUNTS}". Use data with counts.'
        )
    return adata.layers[COUNTS]


def require_same_genes(query: AnnData, genes: Sequence[str], method_id: str) -> None:
    """Raise where a query's genes are not those of the training cells, in the same order.

    Raises
    ------
    DataError
        If names or order differ: the columns would be mistaken for other genes.
    """
    names = list(query.var_names)
    if names != list(genes):
        shared = len(set(names) & set(genes))
        raise DataError(
            f"{method_id}: the query",
            [
                f"It has {len(names)} genes, {shared} of them among the {len(genes)} genes of the training "
                f"cells; wanted are the same genes in the same order. Cut and order them first."
            ],
        )


def fit_pca(matrix: Any, *, n_components: int, seed: int) -> Any:
    """Fit a principal component analysis, exactly rather than by random projection.

    Parameters
    ----------
    matrix
        (n_obs, n_vars) sparse or dense. Columns are centred, not scaled.
    n_components
        Wanted number of components; fewer where the data have no more.
    seed
        Seed of the solver's starting vector.

    Returns
    -------
    sklearn.decomposition.PCA
        Fitted. Its ``transform`` projects other cells.

    Raises
    ------
    NotApplicableError
        If there are fewer than two cells.
    """
    from sklearn.decomposition import PCA

    n_obs, n_vars = matrix.shape
    if n_obs < 2:
        raise NotApplicableError(f"Principal components need at least 2 cells, got {n_obs}.")
    kept = min(n_components, n_obs - 1, n_vars)
    # The iterative solver cannot return every component of a small matrix; the full one can.
    if min(n_obs, n_vars) <= 500:
        whole = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
        return PCA(kept, svd_solver="full").fit(whole.astype(np.float64))
    return PCA(kept, svd_solver="arpack", random_state=seed).fit(_in_double(matrix))


def _in_double(matrix: Any) -> Any:
    """Return a matrix in double precision; one that is sparse by rows shares its indices with the source."""
    if getattr(matrix, "format", None) != "csr":
        return matrix.astype(np.float64)
    from scipy.sparse import csr_matrix

    values = matrix.data.astype(np.float64)
    return csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)


def project(pca: Any, matrix: Any) -> NDArray[np.float32]:
    """Project cells on fitted components, (n_obs, n_components); some at a time are made dense."""
    scores = [
        np.asarray(
            pca.transform(dense(matrix[first : first + BLOCK_CELLS]).astype(np.float64)), dtype=np.float32
        )
        for first in range(0, matrix.shape[0], BLOCK_CELLS)
    ]
    return np.concatenate(scores)


def principal_components(matrix: Any, *, n_components: int, seed: int) -> NDArray[np.float32]:
    """Embed cells in their own principal components, (n_obs, n_components)."""
    return project(fit_pca(matrix, n_components=n_components, seed=seed), matrix)


def most_probable(
    probability: NDArray[np.floating[Any]], labels: Sequence[str], *, reject_below: float = 0.0
) -> Prediction:
    """Turn class probabilities into a prediction whose novelty is 1 - the highest probability.

    Parameters
    ----------
    probability
        (n_obs, n_labels) rows that sum to 1.
    labels
        Names of the columns.
    reject_below
        Cells whose highest probability is below it are rejected; 0 rejects none.
    """
    names = np.asarray(labels, dtype=np.str_)
    highest = probability.max(axis=1)
    return Prediction(
        label_pred=names[probability.argmax(axis=1)],
        label_proba=probability,
        labels=tuple(names.tolist()),
        novelty=1.0 - highest,
        rejected=highest < reject_below if reject_below > 0 else None,
    )


def available_device() -> torch.device:
    """Return the GPU where there is one, else the processor."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dense_rows(X: Any, rows: NDArray[np.int64], *, device: torch.device) -> torch.Tensor:
    """Return some rows of a sparse or dense matrix as a float32 tensor."""
    import torch

    part = X[rows]
    part = part.toarray() if hasattr(part, "toarray") else part
    return torch.as_tensor(np.asarray(part, dtype=np.float32), device=device)


def most_frequent(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number that is most frequent in each row; the first to appear among equals.

    Examples
    --------
    >>> most_frequent(np.array([[5, 2, 2], [3, 1, 2]])).tolist()
    [2, 3]
    """
    votes = (code[:, :, None] == code[:, None, :]).sum(axis=2)
    return np.asarray(np.take_along_axis(code, votes.argmax(axis=1)[:, None], axis=1)[:, 0])


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Put the global generators of Python and numpy back as they were, whatever a library seeds."""
    state = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - the very state that must be protected
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)  # noqa: NPY002 - as above
