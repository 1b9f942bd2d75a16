"""Subsampling of cells in the proportions of labels and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.keys import BATCH, LABEL

if TYPE_CHECKING:
    from anndata import AnnData


def subsample(adata: AnnData, n: int, seed: int, *, keys: tuple[str, ...] = (LABEL, BATCH)) -> AnnData:
    """Draw ``n`` cells in the proportions of all combinations of label and batch.

    Parameters
    ----------
    adata
        Cells. Not modified.
    n
        Number of cells; all of them if there are not more.
    seed
        Seed of the generator.
    keys
        Columns of ``obs`` whose combinations are the strata.

    Returns
    -------
    A copy of the drawn cells, in their order in ``adata``.

    Raises
    ------
    UserError
        If ``n`` is not a whole number of at least 1, ``seed`` is negative, or a column is missing.
    """
    for key in keys:
        if key not in adata.obs:
            raise UnknownNameError("column of obs", key, map(str, adata.obs.columns))
    chosen = positions([adata.obs[key].astype(str).to_numpy() for key in keys], adata.n_obs, n=n, seed=seed)
    return adata[chosen].copy()


def positions(strata: list[ArrayLike], n_obs: int, *, n: int, seed: int) -> NDArray[np.int64]:
    """Return the ascending positions of the cells that :func:`subsample` draws.

    Every stratum gets its share of ``n``, rounded by largest remainder, and at least one cell if ``n`` is at
    least the number of strata.

    Parameters
    ----------
    strata
        Columns of (n_obs,) values, whose combinations are the strata.
    n_obs
        Number of cells.
    n, seed
        As for :func:`subsample`.

    Examples
    --------
    >>> positions([["a"] * 6 + ["b"] * 3 + ["c"]], 10, n=5, seed=0).tolist()[-1]
    9
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise UserError(f"subsample: {name} must be a whole number of at least {least}, got: {value!r}.")
    if n >= n_obs:
        return np.arange(n_obs, dtype=np.int64)
    stratum = _codes(strata, n_obs)
    sizes = np.bincount(stratum)
    wanted = _apportion(sizes, n)
    rng = np.random.default_rng(seed)
    # One draw orders all cells; the first ones of each stratum are selected.
    order = rng.permutation(n_obs)
    order = order[np.argsort(stratum[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.arange(n_obs) - np.repeat(starts, sizes)
    return np.sort(order[rank < np.repeat(wanted, sizes)]).astype(np.int64)


def _codes(strata: list[ArrayLike], n_obs: int) -> NDArray[np.intp]:
    codes = np.zeros(n_obs, dtype=np.intp)
    for column in strata:
        names, part = np.unique(np.asarray(column).astype(str), return_inverse=True)
        codes = codes * len(names) + part
    stratum: NDArray[np.intp] = np.unique(codes, return_inverse=True)[1]
    return stratum


def _apportion(sizes: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    exact = n * sizes / sizes.sum()
    least = 1 if n >= len(sizes) else 0
    # Rounding up shares below one cell can exceed n: the largest strata give cells back.
    whole: NDArray[np.intp] = np.maximum(np.floor(exact + 1e-9).astype(np.intp), least)
    while whole.sum() > n:
        whole[np.argmax(np.where(whole > least, whole - exact, -np.inf))] -= 1
    rest = np.argsort(whole - exact, kind="stable")[: n - whole.sum()]
    whole[rest] += 1
    return whole
