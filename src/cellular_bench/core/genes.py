"""Variable genes: those whose dispersion stands out among genes of similar mean expression.

Flavors: ``cell_ranger`` and ``seurat`` compare dispersions of log-normalised expression within bins of the
mean. ``seurat_v3`` compares variances of counts with those that a smooth curve of the mean predicts.
``batch_aware`` is ``cell_ranger`` in each batch by itself: genes are sorted by the number of batches in which
they are selected, then by their mean dispersion.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import Flavor, GeneSelection, Preprocessing

#: Cells whose values are summed at a time.
BLOCK_CELLS = 20_000
#: Bins of equal width of the flavor ``seurat``.
N_BINS = 20
#: Percentiles of the means between which the flavor ``cell_ranger`` bins.
PERCENTILES = np.arange(10, 105, 5)
#: Stands for a mean of 0, which nothing can be divided by.
TINY_MEAN = 1e-12
#: Different means of genes that a curve through them needs.
LEAST_MEANS = 20
#: Median absolute deviation of the normal distribution, in standard deviations.
NORMAL_MAD = 0.6744897501960817

Floats = NDArray[np.float64]


def variable_genes(
    X: Any,
    selection: GeneSelection | None = None,
    *,
    counts: Any = None,
    batch: NDArray[np.str_] | None = None,
) -> NDArray[np.bool_]:
    """Select the genes whose dispersion stands out among genes of similar mean.

    The selection of ``scanpy.pp.highly_variable_genes`` on the expressed genes (scanpy fails if no cell
    expresses a gene), except for ties: exactly the requested number is selected. If so many genes share one
    mean that they cannot be binned, or every bin holds equal dispersions, they are compared without bins.

    Parameters
    ----------
    X
        (n_obs, n_vars) log-normalised expression of the training cells, sparse or dense. Not modified.
    selection
        Flavor and number of genes; by default 2,000 genes by ``cell_ranger``, as in the CELLULAR study.
    counts
        (n_obs, n_vars) counts, which ``seurat_v3`` reads.
    batch
        (n_obs,) batches, which ``batch_aware`` reads.

    Returns
    -------
    (n_vars,) True for ``min(n_top_genes, number of expressed genes)`` genes; of tied genes, the first.

    Raises
    ------
    UserError
        If the flavor is unknown or lacks what it reads, ``n_top_genes`` is below 1, no gene is expressed,
        or too few genes are for a curve.

    References
    ----------
    ``cell_ranger``: Zheng et al. 2017, https://doi.org/10.1038/ncomms14049.
    ``seurat``: Satija et al. 2015, https://doi.org/10.1038/nbt.3192.
    ``seurat_v3``: Stuart et al. 2019, https://doi.org/10.1016/j.cell.2019.05.031.
    ``batch_aware``: as Luecken et al. 2022, https://doi.org/10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> X = np.log1p([[0, 1, 9, 5], [0, 2, 0, 5], [0, 1, 9, 6], [0, 2, 0, 6]])
    >>> variable_genes(X, GeneSelection(n_top_genes=1)).tolist()
    [False, False, True, False]
    """
    chosen = selection or GeneSelection()
    _check(chosen)
    expressed = expressed_genes(X)
    if not expressed.any():
        raise UserError("No gene is expressed in the training cells.")
    if expressed.sum() <= chosen.n_top_genes:
        return expressed
    # A gene without a value (NaN) sorts last; a stable sort keeps tied genes in their order.
    if chosen.flavor == "batch_aware":
        order = _by_batches(X[:, expressed], batch, chosen.n_top_genes)
    elif chosen.flavor == "seurat_v3":
        order = np.argsort(-_standardised_variance(counts, expressed), kind="stable")
    else:
        order = np.argsort(-_spread(X[:, expressed], chosen.flavor), kind="stable")
    mask = np.zeros(len(expressed), dtype=bool)
    mask[np.flatnonzero(expressed)[order[: chosen.n_top_genes]]] = True
    return mask


def selection_at(default: GeneSelection, setting: Preprocessing) -> GeneSelection:
    """Return how variable genes are chosen at a setting of the preprocessing."""
    n_genes = setting.genes if isinstance(setting.genes, int) else default.n_top_genes
    return GeneSelection(flavor=setting.flavor or default.flavor, n_top_genes=n_genes)


def expressed_genes(X: Any) -> NDArray[np.bool_]:
    """Mark the genes with a value above 0 in at least one cell, (n_vars,)."""
    return np.asarray((X > 0).sum(axis=0)).ravel() > 0


def moments(X: Any, *, linear: bool = False) -> tuple[Floats, Floats]:
    """Return mean and variance (over n - 1) of each gene, both (n_vars,).

    Parameters
    ----------
    X
        (n_obs, n_vars) log-normalised expression, sparse or dense.
    linear
        True: of the values before the logarithm.

    Notes
    -----
    Values are squared in the precision of ``X`` and summed in double precision, in the order of the cells,
    as scanpy does: the results are scanpy's to the last bit.
    """
    n_obs = X.shape[0]
    sums = np.zeros((2, X.shape[1]))
    for start in range(0, n_obs, BLOCK_CELLS):
        sums += _sums(X[start : start + BLOCK_CELLS], linear=linear)
    mean, mean_of_squares = sums / n_obs
    variance = np.maximum(mean_of_squares - mean**2, 0)
    return mean, variance * (n_obs / max(n_obs - 1, 1))


def normalised_dispersion(mean: Floats, variance: Floats, *, flavor: Flavor = "cell_ranger") -> Floats:
    """Return the dispersion (variance / mean) of each gene on the scale of the genes of similar mean.

    ``cell_ranger``: distance from the median of a bin in median absolute deviations; bins lie between
    percentiles of the mean. ``seurat``: distance of the logarithm from the mean of a bin in standard
    deviations, and 1 for a gene that is alone in its bin; 20 bins of the logarithm of the mean, equally wide.

    Returns
    -------
    (n_vars,) NaN if the other genes of a bin give no scale.
    """
    mean = np.where(mean == 0, TINY_MEAN, mean)
    dispersion = variance / mean
    with np.errstate(divide="ignore", invalid="ignore"):
        if flavor == "cell_ranger":
            bins = np.searchsorted(np.percentile(mean, PERCENTILES), mean, side="left")
            return _by_bin(dispersion, bins, _in_deviations_from_median)
        logarithm = np.log(np.where(dispersion == 0, np.nan, dispersion))
        return _by_bin(logarithm, _equal_bins(np.log1p(mean)), _in_deviations_from_mean)


def _check(selection: GeneSelection) -> None:
    if selection.flavor not in get_args(Flavor):
        raise UnknownNameError("flavor of variable genes", selection.flavor, get_args(Flavor))
    if selection.n_top_genes < 1:
        raise UserError(f"n_top_genes must be at least 1, got {selection.n_top_genes}.")


def _spread(X: Any, flavor: Flavor) -> Floats:
    mean, variance = moments(X, linear=flavor == "seurat")
    edges = np.percentile(mean, PERCENTILES)
    if flavor == "seurat" or len(np.unique(edges)) == len(edges):
        normalised = normalised_dispersion(mean, variance, flavor=flavor)
        if not np.isnan(normalised).all():
            return normalised
    return variance / mean


def _standardised_variance(counts: Any, expressed: NDArray[np.bool_]) -> Floats:
    """Return the variance of the counts of each expressed gene on the scale that its mean predicts."""
    if counts is None:
        raise UserError("Variable genes of the flavor seurat_v3 need raw counts; these data have none.")
    import anndata
    import scanpy as sc

    shown = counts[:, expressed].astype(np.float64)
    mean, variance = moments(shown)
    n_means = len(np.unique(mean[variance > 0]))
    if n_means < LEAST_MEANS:  # loess would end the process
        raise UserError(
            f"Variable genes of the flavor seurat_v3 need genes of {LEAST_MEANS} different means that vary, "
            f"got {n_means}."
        )
    cells = anndata.AnnData(shown)
    try:
        table = sc.pp.highly_variable_genes(cells, flavor="seurat_v3", n_top_genes=1, inplace=False)
    except ValueError as error:  # of the curve through few genes, or genes of few different means
        raise UserError(f"Variable genes of the flavor seurat_v3 cannot be found: {error}") from error
    return np.asarray(table["variances_norm"], dtype=np.float64)


def _by_batches(X: Any, batch: NDArray[np.str_] | None, n_top_genes: int) -> NDArray[np.intp]:
    """Order genes by the number of batches that select them, then by their mean dispersion there."""
    if batch is None:
        raise UserError("Variable genes of the flavor batch_aware need batches.")
    names = np.unique(batch)
    dispersion = np.zeros((len(names), X.shape[1]))
    n_selected = np.zeros(X.shape[1], dtype=np.int64)
    for row, name in zip(dispersion, names, strict=True):
        part = X[batch == name]
        expressed = expressed_genes(part)  # others have the dispersion 0 there
        if expressed.any():
            row[expressed] = spread = _spread(part[:, expressed], "cell_ranger")
            known = np.sort(spread[~np.isnan(spread)])[::-1]
            if len(known):
                n_selected[expressed] += spread >= known[min(n_top_genes, len(known)) - 1]
    n_known = (~np.isnan(dispersion)).sum(axis=0)
    mean = np.where(n_known > 0, np.nansum(dispersion, axis=0) / np.maximum(n_known, 1), np.nan)
    return np.lexsort((-mean, -n_selected))


def _sums(X: Any, *, linear: bool) -> Floats:
    """Return the sums of the values and of their squares, (2, n_vars)."""
    from scipy import sparse

    if not sparse.issparse(X):
        values = np.expm1(X) if linear else np.asarray(X)
        return np.stack([part.sum(axis=0, dtype=np.float64) for part in (values, values * values)])
    matrix = sparse.csr_matrix(X)
    values = np.expm1(matrix.data) if linear else matrix.data
    return np.stack(
        [np.bincount(matrix.indices, part, minlength=X.shape[1]) for part in (values, values * values)]
    )


def _equal_bins(values: Floats) -> NDArray[np.intp]:
    # Bins are closed on the right; the lowest value belongs to the first.
    edges = np.linspace(values.min(), values.max(), N_BINS + 1)
    return np.maximum(np.searchsorted(edges, values, side="left") - 1, 0)


def _by_bin(values: Floats, bins: NDArray[np.intp], scaled: Any) -> Floats:
    result = np.empty(len(values))
    for number in np.unique(bins):
        result[bins == number] = scaled(values[bins == number])
    return result


def _in_deviations_from_median(values: Floats) -> Floats:
    distance = values - np.median(values)
    return np.asarray(distance / np.median(np.abs(distance) / NORMAL_MAD))


def _in_deviations_from_mean(values: Floats) -> Floats:
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return values / values  # 1, or NaN without a dispersion
    return np.asarray((values - known.mean()) / known.std(ddof=1))
