"""Counts that were cut to some genes: find those of all genes, or say how much is missing.

Values are normalised by the counts of the whole cell. Counts of the variable genes alone give values that are
too high, by a factor that differs between cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import TARGET_SUM

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

#: Columns of ``obs``, in small letters, with the counts of a cell, as common programs call them.
TOTAL_COLUMNS = frozenset(
    {
        "total_counts",
        "ncount_rna",
        "n_counts",
        "ncounts",
        "numi",
        "n_umi",
        "n_umis",
        "total_umis",
        "umi_counts",
    }
)
#: Smallest factor that is reported. Filters of genes in few cells remove less.
MIN_FACTOR = 1.1
#: Largest difference of a count from a whole number, absolute and relative, by the rounding of float32.
WHOLE_TOLERANCE = (0.02, 5e-6)
#: Largest difference of values that are the same.
NEARLY = 1e-4


def columns_of(some: pd.Index, all_genes: pd.Index) -> NDArray[np.intp] | None:
    """Return where some genes are among all genes; None if one is not, or names are ambiguous."""
    if len(some) >= len(all_genes) or not (all_genes.is_unique and some.is_unique):
        return None
    columns = all_genes.get_indexer(some)
    return None if (columns < 0).any() else columns


def is_cut_from(some: csr_matrix, values: csr_matrix, columns: NDArray[np.intp] | None) -> bool:
    """Return whether values of some genes are those of all genes, cut to the columns."""
    return columns is not None and _nearly_equal(values[:, columns], some)


def recovered_counts(
    lognorm: csr_matrix, counts: csr_matrix, columns: NDArray[np.intp] | None
) -> csr_matrix | None:
    """Return the counts of all genes, from their log-normalised values and the counts of some.

    Normalising divides all counts of a cell by one number, which follows from the genes with counts.

    Parameters
    ----------
    lognorm
        (n_obs, n_all) log-normalised values.
    counts
        (n_obs, n_some) counts.
    columns
        (n_some,) their columns in ``lognorm``.

    Returns
    -------
    (n_obs, n_all) counts; None if they would not be whole numbers, or other ones than ``counts``.
    """
    from scipy import sparse

    if columns is None:
        return None
    values = lognorm.astype(np.float64).expm1().tocsr()
    known, same = _sums(counts), _sums(values[:, columns])
    if not ((known > 0) & (same > 0)).all():
        return None
    exact = values.data * np.repeat(known / same, np.diff(values.indptr))
    whole = np.round(exact)
    absolute, relative = WHOLE_TOLERANCE
    if (np.abs(exact - whole) > absolute + relative * whole).any() or (whole < 1).any():
        return None
    made = sparse.csr_matrix((whole.astype(np.float32), values.indices, values.indptr), shape=values.shape)
    return made if is_cut_from(counts, made, columns) else None


def factor_of_raw(
    values: csr_matrix, counts: csr_matrix, columns: NDArray[np.intp] | None, *, is_counts: bool
) -> float | None:
    """Return how many counts the median cell has for each count here, by values of all genes.

    Parameters
    ----------
    values
        (n_obs, n_all) counts or log-normalised values of all genes.
    counts
        (n_obs, n_some) counts.
    columns
        (n_some,) their columns in ``values``; None: unknown.
    is_counts
        What ``values`` are.

    Returns
    -------
    None if it does not follow from the values.
    """
    if is_counts:
        return _median_factor(_sums(values), _sums(counts))
    linear = values.expm1()
    return None if columns is None else _median_factor(_sums(linear), _sums(linear[:, columns]))


def factor_of_lognorm(lognorm: csr_matrix, counts: csr_matrix) -> float | None:
    """Return the factor by log-normalised values of the same genes, normalised before others were removed.

    If they were normalised to 10,000 counts, they give the counts of the whole cell, which then are whole
    numbers. If these are not whole, the values are not usable.
    """
    here, values = _sums(counts), _sums(lognorm.astype(np.float64).expm1())
    known = (here > 0) & (values > 0)
    total = np.divide(TARGET_SUM * here, values, out=np.full(len(here), np.nan), where=known)
    absolute, relative = WHOLE_TOLERANCE
    is_whole = np.abs(total - np.round(total))[known] <= absolute + relative * total[known]
    return _median_factor(total, here) if is_whole.all() else None


def factors_of_columns(obs: pd.DataFrame, counts: csr_matrix) -> dict[str, float | None]:
    """Return the factor by each column of ``obs`` that is known to hold the counts of the cells."""
    import pandas as pd

    here = _sums(counts)
    found: dict[str, float | None] = {}
    for name in obs.columns:
        if str(name).lower() in TOTAL_COLUMNS:
            total = pd.to_numeric(obs[name].astype(object), errors="coerce").to_numpy(float)
            found[f"obs['{name}']"] = _median_factor(total, here)
    return found


def _median_factor(total: NDArray[np.float64], here: NDArray[np.float64]) -> float | None:
    """Return the median of the factors; None if they are no totals, which are not below the sums here."""
    known = np.isfinite(total) & (here > 0)
    ratios = total[known] / here[known]
    is_total = len(ratios) > 0 and np.quantile(ratios, 0.01) > 1 - WHOLE_TOLERANCE[0]
    return float(np.median(ratios)) if is_total else None


def _sums(values: csr_matrix) -> NDArray[np.float64]:
    return np.asarray(values.sum(axis=1, dtype=np.float64)).ravel()


def _nearly_equal(one: csr_matrix, other: csr_matrix) -> bool:
    difference = abs(one - other)
    return not difference.nnz or bool(difference.data.max() <= NEARLY)
