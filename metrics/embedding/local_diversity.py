"""LISI: the effective number of batches or labels in the neighbourhood of a cell.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, encode, several
from cellular_bench.metrics.numerics.distances import Neighbors, centred_neighbors, known_groups
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content
from cellular_bench.metrics.spec import metric

N_NEIGHBORS = 90
PERPLEXITY = 30.0
TOLERANCE = 1e-5
MAX_TRIES = 50
ANDREATTA = "10.1038/s41467-024-45240-z"
KORSUNSKY = "10.1038/s41592-019-0619-0"


def perplexity_weights(neighbors: Neighbors) -> Floats:
    """Return (n_cells, 89) weights of the neighbours of cells that have 90, summing to 1, with perplexity 30.

    The kernel is ``exp(-beta * distance)``, with distances that are not squared. The cell itself has no
    weight. Beta of each cell is determined by Newton's method; neighbours that are all at the same distance
    have equal weights. Undefined if there are fewer than 90 cells.
    """
    from cellular_bench.metrics.numerics import kernels

    near = np.ascontiguousarray(neighbors.where_known(N_NEIGHBORS)[0].distances, dtype=np.float64)
    return kernels.search_perplexity(near, float(np.log(PERPLEXITY)), TOLERANCE, MAX_TRIES)


def _median_lisi(
    neighbors: Neighbors, values: ArrayLike, name: str, weights: Floats | None
) -> tuple[float, int]:
    """Return the median inverse Simpson index over cells, and the number of groups."""
    near, codes, _ = known_groups(neighbors, N_NEIGHBORS, values, name)
    known = perplexity_weights(near) if weights is None else weights
    return float(np.median(lisi(near, codes, known))), int(codes.max()) + 1


def shares_around(neighbors: Neighbors, codes: Ints, weights: Floats) -> Floats:
    """Return the share of each group in the weights of the neighbours of each cell, (n_obs, n_groups)."""
    n_obs, n_groups = len(codes), int(codes.max()) + 1
    around = codes[neighbors.indices[:, 1:N_NEIGHBORS]] + n_groups * np.arange(n_obs)[:, None]
    shares = np.bincount(around.ravel(), weights.ravel(), minlength=n_obs * n_groups)
    return np.asarray(shares, dtype=np.float64).reshape(n_obs, n_groups)


def lisi(neighbors: Neighbors, codes: Ints, weights: Floats) -> Floats:
    """Return the inverse Simpson index of the groups around each cell, (n_obs,)."""
    shares = shares_around(neighbors, codes, weights)
    diversity: Floats = 1 / np.einsum("ij,ij->i", shares, shares)
    return diversity


@metric(
    metric_id="ilisi",
    name="iLISI",
    aspect="batch_correction",
    definition=(
        "Median over cells of the effective number of batches among 90 neighbours (perplexity 30), "
        "scaled so that 0 is a single batch and 1 all of them equally."
    ),
    doi=KORSUNSKY,
    version=2,
)
def ilisi(neighbors: Neighbors, batch: ArrayLike, *, neighbor_weights: Floats | None = None) -> float:
    """Integration LISI: 0 if neighbours are of one batch, 1 if they are of all batches in equal shares.

    Undefined if there is only one batch, or there are fewer than 90 cells.

    Notes
    -----
    Formula: median over cells of (1 / sum over batches of p^2 - 1) / (batches - 1), p = the batch's share of
    the weights of 90 neighbours at perplexity 30.

    Fooled by: types that differ between batches: mixing cells that should not mix increases it. Shuffled
    cells score best.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> rng = np.random.default_rng(0)
    >>> mixed = nearest_neighbors(rng.normal(size=(200, 2)), 90)
    >>> ilisi(mixed, ["x", "y"] * 100) > 0.9
    True
    """
    value, n_batches = _median_lisi(neighbors, batch, "batch", neighbor_weights)
    return (value - 1) / (n_batches - 1)


@metric(
    metric_id="clisi",
    name="cLISI",
    aspect="bio_conservation",
    definition=(
        "Median over cells of the effective number of labels among 90 neighbours (perplexity 30), "
        "scaled so that 1 is a single label."
    ),
    doi=KORSUNSKY,
    version=2,
)
def clisi(neighbors: Neighbors, label: ArrayLike, *, neighbor_weights: Floats | None = None) -> float:
    """Cell-type LISI: 1 if neighbours share one label, 0 if they have all labels in equal shares.

    Undefined if there is only one label, or there are fewer than 90 cells.

    Notes
    -----
    Formula: 1 - median over cells of (1 / sum over labels of p^2 - 1) / (labels - 1), p = the label's share
    of the weights of 90 neighbours at perplexity 30.

    Fooled by: the median: up to half of the cells may lie among others without any effect. Most embeddings
    score above 0.95, so that differences are small.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(200.0)[:, None] + 1000.0 * (np.arange(200) >= 100)[:, None]
    >>> round(clisi(nearest_neighbors(X, 90), ["a"] * 100 + ["b"] * 100), 6)
    1.0
    """
    value, n_labels = _median_lisi(neighbors, label, "label", neighbor_weights)
    return (n_labels - value) / (n_labels - 1)


@metric(
    metric_id="cilisi",
    name="CiLISI",
    aspect="batch_correction",
    definition=(
        "iLISI among the cells of one label, scaled by the batches of the label, averaged over the cells of "
        "all labels with two batches and 90 cells."
    ),
    in_overall=False,
    on_request=True,
    doi=ANDREATTA,
    on_sample=True,
    version=2,
)
def cilisi(
    X_emb: ArrayLike,
    label: ArrayLike,
    batch: ArrayLike,
    *,
    cell_ranks: Ints | None = None,
    n_jobs: int = 1,
) -> float:
    """Integration LISI within cell types: 0 if neighbours are of one batch, 1 if of all in equal shares.

    Neighbours are searched among the cells of the label, so that types that occur only in some batches count
    neither for nor against a method. ``cell_ranks`` draw neighbours among cells at the same distance.
    Undefined if no label has two batches and 90 cells, or the embedding is not usable.

    Notes
    -----
    Formula: mean over the cells of the labels that count of (1 / sum over the label's batches of p^2 - 1) /
    (batches of the label - 1), p as in ilisi, neighbours among the cells of the label.

    Fooled by: labels of thousands of cells, which decide the value; and shuffled cells, which score best, as
    for all measures of mixing.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> cilisi(X, ["a"] * 200, ["x", "y"] * 100) > 0.9
    True
    """
    X = coordinates(X_emb)
    names, codes = encode(label, "label", n_obs=len(X))
    _, batches = several(batch, "batch", n_obs=len(X))
    ranks = random_ranks(row_content(X), codes, batches) if cell_ranks is None else cell_ranks
    values = []
    for code in range(len(names)):
        cells = np.flatnonzero(codes == code)
        present, own = np.unique(batches[cells], return_inverse=True)
        if len(present) < 2 or len(cells) < N_NEIGHBORS:
            continue
        within = np.argsort(np.argsort(ranks[cells]))
        near = centred_neighbors(X[cells], N_NEIGHBORS, within, n_jobs=n_jobs)
        values.append((lisi(near, own, perplexity_weights(near)) - 1) / (len(present) - 1))
    if not values:
        raise UndefinedError(f"no label has {N_NEIGHBORS} cells and two batches")
    return float(np.mean(np.concatenate(values)))
