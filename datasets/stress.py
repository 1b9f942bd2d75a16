"""Stress tests of a split: wrong labels, fewer cells, fewer genes, shallow counts, rare types.

A benchmark on clean data says little about noisy data. Each stress has one level, so that scores can be
plotted against it. Every draw is seeded, and cells that are affected at one level are affected at every
higher level: a curve falls because of the level, not because of other cells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.keys import COUNTS
from cellular_bench.core.types import STRESSES, Split, Stress, StressKind

if TYPE_CHECKING:
    from anndata import AnnData

Cells = NDArray[np.int64]

#: Number of training cells that every label keeps at least.
MIN_CELLS_KEPT: Final = 2


def stressed_splits(
    splits: Sequence[Split], label: ArrayLike, *, kind: StressKind, levels: Sequence[float], seed: int = 0
) -> tuple[Split, ...]:
    """Return each split at each level of a stress.

    Parameters
    ----------
    splits
        Splits without stress.
    label
        (n_obs,) label of each cell.
    kind
        Kind of stress.
    levels
        Shares from 0 to 1, see :data:`~cellular_bench.core.types.STRESSES`; at the level without effect, the
        split itself is returned.
    seed
        Seed of every draw.

    Raises
    ------
    UserError
        If the kind is unknown, or a level is not a share above 0 (from 0 to below 1 for wrong labels).

    Examples
    --------
    >>> from cellular_bench.datasets.splits import kfold
    >>> label = ["alpha"] * 20 + ["beta"] * 20
    >>> folds = kfold(label, n_splits=2)
    >>> [(s.split_id, len(s.train_obs)) for s in stressed_splits(
    ...     folds[:1], label, kind="fewer_cells", levels=[1, 0.5])]
    [('kfold-2-42.1', 20), ('kfold-2-42~fewer_cells-0.5.1', 10)]
    """
    if kind not in STRESSES:
        raise UnknownNameError("stress", kind, STRESSES)
    names = np.asarray(label).astype(str)
    return tuple(
        _stressed(split, names, Stress(kind=kind, level=level, seed=seed))
        for level in _levels(kind, levels)
        for split in splits
    )


def stressed_data(adata: AnnData, stress: Stress | None) -> AnnData:
    """Return data with fewer genes or shallower counts; the same data for the other kinds.

    Counts are thinned: each molecule is kept with the probability ``level``. A cell without any remaining
    molecule keeps one of its most abundant gene.

    Parameters
    ----------
    adata
        Validated cells. Not modified.
    stress
        Stress of the split, or None.

    Raises
    ------
    UserError
        If counts have to be thinned and there are none.
    """
    if stress is None:
        return adata
    if stress.kind == "fewer_genes":
        return adata[:, _kept_genes(adata.n_vars, stress)].copy()
    return _thinned(adata, stress) if stress.kind == "shallow" else adata


def stressed_labels(label: ArrayLike, stress: Stress | None) -> NDArray[np.str_]:
    """Return the labels of training cells, (n_obs,), some of them replaced by another label at random.

    Examples
    --------
    >>> noise = Stress(kind="label_noise", level=0.5, seed=0)
    >>> noisy = stressed_labels(["alpha", "beta"] * 50, noise)
    >>> int((noisy != ["alpha", "beta"] * 50).sum())
    50
    """
    names = np.asarray(label).astype(str)
    known = np.unique(names)
    if stress is None or stress.kind != "label_noise" or len(known) < 2:
        return names
    rng = np.random.default_rng(stress.seed)
    order = rng.permutation(len(names))
    shift = rng.integers(1, len(known), size=len(names))
    wrong = order[: round(stress.level * len(names))]
    codes = np.searchsorted(known, names)
    codes[wrong] = (codes[wrong] + shift[wrong]) % len(known)
    noisy: NDArray[np.str_] = known[codes]
    return noisy


def _levels(kind: StressKind, levels: Sequence[float]) -> list[float]:
    low, high = (0.0, 1.0) if kind == "label_noise" else (1e-9, 1.0 + 1e-9)
    if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
        raise UserError(
            f"Stress '{kind}' needs levels, a list such as [{STRESSES[kind].none}, 0.5]: {levels!r}."
        )
    for level in levels:
        if isinstance(level, bool) or not isinstance(level, int | float) or not low <= level < high:
            below = "0 to below 1" if kind == "label_noise" else "above 0 to 1"
            raise UserError(
                f"Level {level!r} of stress '{kind}' must be a share ({below}): {STRESSES[kind].unit}."
            )
    return [float(level) for level in dict.fromkeys(levels)]


def _stressed(split: Split, names: NDArray[np.str_], stress: Stress) -> Split:
    if stress.level == STRESSES[stress.kind].none:
        return split
    train = _kept_cells(split.train_obs, names[split.train_obs], stress)
    scheme = f"{split.scheme}~{stress.kind}-{stress.level:g}"
    return replace(
        split,
        split_id=scheme + split.split_id.removeprefix(split.scheme),
        scheme=scheme,
        train_obs=train,
        stress=stress,
        digest=stressed_digest(split.digest, stress.kind, stress.level, stress.seed),
    )


def stressed_digest(digest: str, kind: StressKind, level: float, seed: int) -> str:
    """Return the digest of a split with a stress, from that of the split without."""
    return hashlib.sha256(json.dumps([digest, kind, level, seed]).encode()).hexdigest()


def _kept_cells(train: Cells, label: NDArray[np.str_], stress: Stress) -> Cells:
    """Keep a share of the cells of each label, or of every second label."""
    if stress.kind not in ("fewer_cells", "rare_types"):
        return train
    known, n_cells = np.unique(label, return_counts=True)
    by_abundance = known[np.lexsort((known, -n_cells))]
    thinned = known if stress.kind == "fewer_cells" else by_abundance[::2]
    rng = np.random.default_rng(stress.seed)
    kept = [train[~np.isin(label, thinned)]]
    for name in thinned:
        cells = rng.permutation(train[label == name])
        kept.append(cells[: max(MIN_CELLS_KEPT, round(stress.level * len(cells)))])
    return np.sort(np.concatenate(kept))


def _kept_genes(n_vars: int, stress: Stress) -> NDArray[np.int64]:
    order = np.random.default_rng(stress.seed).permutation(n_vars)
    return np.sort(order[: max(1, round(stress.level * n_vars))])


def _thinned(adata: AnnData, stress: Stress) -> AnnData:
    from scipy import sparse, stats

    from cellular_bench.datasets.preprocess import normalise

    if COUNTS not in adata.layers:
        raise UserError("Stress 'shallow' thins raw counts; this data set has none.")
    counts: Any = sparse.csr_matrix(adata.layers[COUNTS], dtype=np.float64, copy=True)
    # Quantiles of the binomial distribution at one uniform draw per value decrease with the level.
    draws = np.random.default_rng(stress.seed).random(counts.nnz)
    thin = stats.binom.ppf(draws, counts.data, stress.level)
    counts.data = _never_empty(np.maximum(thin, 0.0), counts)  # the quantile at 0 is -1
    counts.eliminate_zeros()
    result = adata.copy()
    result.layers[COUNTS] = counts.astype(adata.layers[COUNTS].dtype)
    result.X = normalise(counts)
    return result


def _never_empty(thin: NDArray[np.float64], counts: Any) -> NDArray[np.float64]:
    totals = np.add.reduceat(np.append(thin, 0.0), counts.indptr[:-1])
    for row in np.flatnonzero((totals == 0) | (np.diff(counts.indptr) == 0)):
        start, stop = counts.indptr[row], counts.indptr[row + 1]
        if stop > start and thin[start:stop].sum() == 0:
            thin[start + np.argmax(counts.data[start:stop])] = 1.0
    return thin
