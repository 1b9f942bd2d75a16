"""kBET: a test of the batches in the neighbourhood of every cell.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.inputs import Ints, encode
from cellular_bench.metrics.numerics.diffusion import diffusion_map
from cellular_bench.metrics.numerics.distances import Neighbors, centred_neighbors, known_groups
from cellular_bench.metrics.numerics.parallel import parallel_map
from cellular_bench.metrics.numerics.ranks import graph_content, random_ranks, refined
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Neighbours per cell, itself included.
N_NEIGHBORS = 50
ALPHA = 0.05
BUTTNER = "10.1038/s41592-018-0254-1"
#: Labels with fewer cells are not tested.
MIN_CELLS = 10
#: Least and most neighbours (k0) for the test within a label, the cell itself not counted.
FEWEST, MOST = 10, 70
#: Components smaller than this multiple of k0 are excluded; if too small a share of cells is left, the label
#: scores 0.
MIN_COMPONENT = 3
MIN_USABLE = 0.75
N_DIFFUSION_COMPONENTS = 100


def _acceptance(neighbors: Ints, batches: Ints) -> float:
    """Return the share of cells for which a chi-squared test accepts the batch frequencies of all cells."""
    from scipy.special import chdtrc

    sizes = np.bincount(batches)
    n_obs, k = neighbors.shape
    flat = batches[neighbors] + len(sizes) * np.arange(n_obs)[:, None]
    observed = np.bincount(flat.ravel(), minlength=n_obs * len(sizes)).reshape(n_obs, -1)
    expected = sizes * (k / n_obs)
    statistic = np.sum((observed - expected) ** 2 / expected, axis=1)
    return float(np.mean(chdtrc(len(sizes) - 1, statistic) >= ALPHA))


@metric(
    metric_id="kbet",
    name="kBET",
    aspect="batch_correction",
    definition=(
        "Share of cells for which a chi-squared test at 0.05 on 50 neighbours does not reject the batch "
        "frequencies of the whole data set; types that differ between batches lower it."
    ),
    in_overall=False,
    doi=BUTTNER,
    version=2,
)
def kbet(neighbors: Neighbors, batch: ArrayLike) -> float:
    """Share of cells whose neighbours have the batch frequencies of the whole data set, 0 to 1.

    Undefined if there is only one batch, or there are fewer than 50 cells.

    Notes
    -----
    Formula: share of cells for which a chi-squared test at 0.05 accepts that the batches of 50 neighbours are
    drawn from the batches of all cells.

    Fooled by: types that differ between batches: then even perfect integration is rejected. Shuffled cells
    score best.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(200.0)[:, None] + 1000.0 * (np.arange(200) >= 100)[:, None]
    >>> kbet(nearest_neighbors(X, 50), ["x"] * 100 + ["y"] * 100)
    0.0
    """
    near, codes, _ = known_groups(neighbors, N_NEIGHBORS, batch, "batch")
    return _acceptance(near.indices, codes)


@metric(
    metric_id="kbet_per_label",
    name="kBET per label",
    aspect="batch_correction",
    definition=(
        "kBET among the cells of one label, by diffusion distance in the label's part of the "
        "50-neighbour graph, averaged over labels."
    ),
    doi="10.1038/s41592-021-01336-8",
    on_sample=True,
    version=2,
)
def kbet_per_label(
    neighbors: Neighbors,
    label: ArrayLike,
    batch: ArrayLike,
    *,
    cell_ranks: Ints | None = None,
    n_jobs: int = 1,
) -> float:
    """Share of cells whose neighbours within the label have the label's batch frequencies, 0 to 1.

    Labels with fewer than 10 cells, or in one batch, are not tested. A label whose graph consists of
    components too small to test (less than 75 % of its cells usable) scores 0. Undefined if no label can be
    tested, or there are fewer than 50 cells. ``cell_ranks`` are random ranks of the cells: the diffusion
    map of a label is computed in their order.

    Notes
    -----
    Formula: mean over labels of the kBET acceptance among the label's cells, neighbours by diffusion
    distance; 0 for a label with less than 75 % of its cells connected.

    Fooled by: labels in pieces, which score 0 by rule however well each piece is mixed; and small labels, for
    which the test has no power and accepts.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.random.default_rng(0).normal(size=(120, 2))
    >>> mixed = kbet_per_label(nearest_neighbors(X, 50), ["a"] * 120, ["x", "y"] * 60)
    >>> 0.5 < mixed <= 1.0
    True
    """
    near, batch_codes, known = known_groups(neighbors, N_NEIGHBORS, batch, "batch")
    graph = connectivities(near, N_NEIGHBORS)
    names, codes = encode(label, "label", n_obs=len(neighbors.indices))
    content = graph_content(graph)
    order = np.argsort(random_ranks(content if cell_ranks is None else refined(content, cell_ranks[known])))
    tested, n_failed = [], 0
    for code in range(len(names)):
        cells = order[codes[known][order] == code]
        batches = batch_codes[cells]
        sizes = np.unique(batches, return_counts=True)[1]
        if len(cells) < MIN_CELLS or len(sizes) < 2:
            continue
        k = int(np.clip(np.mean(sizes) // 4, FEWEST, MOST))
        within = graph[cells][:, cells]
        usable = _usable(within, k)
        if len(usable) < MIN_USABLE * len(cells):
            n_failed += 1
            continue
        if len(usable) < len(cells):
            within = within[usable][:, usable]
        tested.append((within, batches[usable], k, min(N_DIFFUSION_COMPONENTS, len(usable) - 1)))
    if not tested and not n_failed:
        raise UndefinedError(f"no label has {MIN_CELLS} cells and two batches")
    scores = parallel_map(_diffusion_acceptance, tested, n_jobs=n_jobs)
    return float(np.sum(scores) / (len(scores) + n_failed))


def _usable(graph: csr_matrix, k: int) -> Ints:
    """Return the cells of a connected graph, or those in components that are large enough."""
    from scipy.sparse.csgraph import connected_components

    n_components, component = connected_components(graph, directed=False)
    if n_components == 1:
        return np.arange(graph.shape[0])
    return np.flatnonzero(np.bincount(component)[component] >= MIN_COMPONENT * k)


def _diffusion_acceptance(task: tuple[csr_matrix, Ints, int, int]) -> float:
    """Return the share of a label's cells that are accepted, from its graph and batches."""
    graph, batches, k, n_components = task
    present, codes = np.unique(batches, return_inverse=True)
    if len(present) == 1:
        return 0.0
    # Cells are in a random order already; all at one place if the graph does not distinguish them.
    near = centred_neighbors(diffusion_map(graph, n_components), k + 1, np.arange(len(codes)))
    return _acceptance(near.indices, codes)
