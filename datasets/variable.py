"""Variable genes from means and variances alone, so that cells can come in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError, UserError

#: ``cell_ranger``: Zheng et al. 2017, https://doi.org/10.1038/ncomms14049.
#: ``seurat``: Satija et al. 2015, https://doi.org/10.1038/nbt.3192.
Flavor = Literal["cell_ranger", "seurat"]
#: Bins of mean expression of the flavour ``seurat``.
N_BINS = 20
#: What scanpy takes for the mean of a gene without expression.
TINY_MEAN = 1e-12
#: The median absolute deviation of normal numbers, in standard deviations.
MAD_OF_NORMAL = 0.6744897501960817

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Mean, variance (over n - 1) and cells with expression of each gene."""

    n_obs: int
    mean: Array
    variance: Array
    n_cells: NDArray[np.int64]


def moments(pieces: Iterable[Any], *, flavor: Flavor = "cell_ranger") -> Moments:
    """Work out the moments of every gene over cells that come in pieces.

    Parameters
    ----------
    pieces
        (n, n_vars) sparse or dense blocks of log-normalised values; each is seen once.
    flavor
        ``seurat`` works on the values before the logarithm, ``cell_ranger`` on those after it.

    Raises
    ------
    UserError
        If there are fewer than two cells, or the pieces differ in their genes.
    """
    from scipy import sparse

    _check_flavor(flavor)
    n_obs, mean, squares, n_cells = 0, np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
    for piece in pieces:
        block = sparse.csr_matrix(piece)
        if n_obs and block.shape[1] != len(mean):
            raise UserError(f"The pieces differ: {len(mean)} genes, then {block.shape[1]}.")
        values = block.data.astype(np.float64)
        values = np.expm1(values) if flavor == "seurat" else values
        part_mean, part_squares, part_cells = _of_block(block.indices, values, block.shape)
        if not n_obs:
            n_obs, mean, squares, n_cells = block.shape[0], part_mean, part_squares, part_cells
            continue
        # Chan's update: the sums of squares about two means, about their common mean.
        n, total = block.shape[0], n_obs + block.shape[0]
        delta = part_mean - mean
        squares = squares + part_squares + delta**2 * (n_obs * n / total)
        mean = mean + delta * (n / total)
        n_obs, n_cells = total, n_cells + part_cells
    if n_obs < 2:
        raise UserError(f"Variances need at least two cells, came: {n_obs}.")
    return Moments(n_obs=n_obs, mean=mean, variance=squares / (n_obs - 1), n_cells=n_cells)


def normalised_dispersion(found: Moments, *, flavor: Flavor = "cell_ranger") -> Array:
    """How far the dispersion (variance / mean) of each gene stands out among genes of similar mean.

    The values of scanpy's ``highly_variable_genes`` for the two flavours. NaN where a bin gives no scale.

    Raises
    ------
    UserError
        If so many genes share one mean that they cannot be binned by it (``cell_ranger``); genes
        without expression do that: leave them out.
    """
    _check_flavor(flavor)
    mean = np.where(found.mean == 0, TINY_MEAN, found.mean)
    dispersion = found.variance / mean
    if flavor == "seurat":
        with np.errstate(divide="ignore"):
            dispersion = np.where(dispersion == 0, np.nan, np.log(dispersion))
        return _by_mean_and_sd(dispersion, _equal_bins(np.log1p(mean)))
    return _by_median_and_mad(dispersion, _percentile_bins(mean))


def choose(found: Moments, *, n_top_genes: int, flavor: Flavor = "cell_ranger") -> NDArray[np.bool_]:
    """Mark the ``n_top_genes`` most variable of the genes that some cell expresses.

    Of genes that tie, those that come first; genes without a value last. All expressed genes, if there are
    not more.
    """
    if n_top_genes < 1:
        raise UserError(f"n_top_genes must be at least 1, came {n_top_genes}.")
    expressed = np.flatnonzero(found.n_cells > 0)
    kept = Moments(
        n_obs=found.n_obs,
        mean=found.mean[expressed],
        variance=found.variance[expressed],
        n_cells=found.n_cells[expressed],
    )
    chosen = np.zeros(len(found.mean), dtype=bool)
    if len(expressed) <= n_top_genes:
        chosen[expressed] = True
        return chosen
    order = np.argsort(-normalised_dispersion(kept, flavor=flavor), kind="stable")
    chosen[expressed[order[:n_top_genes]]] = True
    return chosen


def _of_block(
    genes: NDArray[Any], values: Array, shape: tuple[int, int]
) -> tuple[Array, Array, NDArray[np.int64]]:
    n_obs, n_vars = shape
    mean = np.bincount(genes, weights=values, minlength=n_vars) / n_obs
    n_cells = np.bincount(genes[values > 0], minlength=n_vars).astype(np.int64)
    n_stored = np.bincount(genes, minlength=n_vars)
    about = np.bincount(genes, weights=(values - mean[genes]) ** 2, minlength=n_vars)
    # The cells that are not stored are 0, at distance mean from the mean.
    return mean, about + (n_obs - n_stored) * mean**2, n_cells


def _equal_bins(mean: Array) -> NDArray[np.intp]:
    low, high = mean.min(), mean.max()
    if low == high:
        return np.zeros(len(mean), dtype=np.intp)
    edges = np.linspace(low, high, N_BINS + 1)
    # Bins are closed on the right; the lowest value belongs to the first.
    return np.clip(np.searchsorted(edges, mean, side="left") - 1, 0, N_BINS - 1)


def _percentile_bins(mean: Array) -> NDArray[np.intp]:
    edges = np.percentile(mean, np.arange(10, 105, 5))
    if len(np.unique(edges)) < len(edges):
        raise UserError(
            "So many genes share one mean that they cannot be binned by it. Leave out genes that hardly "
            "any cell expresses."
        )
    return np.searchsorted(edges, mean, side="left")


def _by_mean_and_sd(dispersion: Array, bins: NDArray[np.intp]) -> Array:
    result = np.full(len(dispersion), np.nan)
    for number in np.unique(bins):
        inside = np.flatnonzero(bins == number)
        values = dispersion[inside]
        known = values[~np.isnan(values)]
        if len(known) == 1:
            # A gene alone in its bin stands out by 1, as in scanpy: value / value.
            with np.errstate(invalid="ignore"):
                result[inside] = values / known[0]
        elif len(known):
            with np.errstate(divide="ignore", invalid="ignore"):
                result[inside] = (values - known.mean()) / known.std(ddof=1)
    return result


def _by_median_and_mad(dispersion: Array, bins: NDArray[np.intp]) -> Array:
    result = np.full(len(dispersion), np.nan)
    for number in np.unique(bins):
        inside = bins == number
        distance = dispersion[inside] - np.median(dispersion[inside])
        with np.errstate(divide="ignore", invalid="ignore"):
            result[inside] = distance / (np.median(np.abs(distance)) / MAD_OF_NORMAL)
    return result


def _check_flavor(flavor: str) -> None:
    if flavor not in get_args(Flavor):
        raise UnknownNameError("flavour of variable genes", flavor, get_args(Flavor))
