"""kBET: a test of the batches in the neighbourhood of every cell.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.inputs import Floats, Ints, encode
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


def accepted(neighbors: Ints, batches: Ints) -> NDArray[np.bool_]:
    """Return for which cells a chi-squared test accepts the batch frequencies of all cells, (n_obs,)."""
    from scipy.special import chdtrc

    sizes = np.bincount(batches)
    n_obs, k = neighbors.shape
    flat = batches[neighbors] + len(sizes) * np.arange(n_obs)[:, None]
    observed = np.bincount(flat.ravel(), minlength=n_obs * len(sizes)).reshape(n_obs, -1)
    expected = sizes * (k / n_obs)
    statistic = np.sum((observed - expected) ** 2 / expected, axis=1)
    found: NDArray[np.bool_] = chdtrc(len(sizes) - 1, statistic) >= ALPHA
    return found


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
    return float(np.mean(accepted(near.indices, codes)))


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
    label_tests: Floats | None = None,
    n_jobs: int = 1,
) -> float:
    """Share of cells whose neighbours within the label have the label's batch frequencies, 0 to 1.

    Labels with fewer than 10 cells, or in one batch, are not tested. A label whose graph consists of
    components too small to test (less than 75 % of its cells usable) scores 0. Undefined if no label can be
    tested, or there are fewer than 50 cells. ``cell_ranks`` are random ranks of the cells: the diffusion
    map of a label is computed in their order. ``label_tests`` are the results of :func:`label_acceptance`
    where they are known.

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
    if label_tests is None:
        label_tests = label_acceptance(neighbors, label, batch, cell_ranks=cell_ranks, n_jobs=n_jobs)
    codes = encode(label, "label", n_obs=len(neighbors.indices))[1]
    tested = np.flatnonzero(~np.isnan(label_tests))
    n_tested = np.bincount(codes[tested])
    n_accepted = np.bincount(codes[tested], label_tests[tested])
    is_tested = n_tested > 0
    return float(np.mean(n_accepted[is_tested] / n_tested[is_tested]))


def label_acceptance(
    neighbors: Neighbors,
    label: ArrayLike,
    batch: ArrayLike,
    *,
    cell_ranks: Ints | None = None,
    n_jobs: int = 1,
) -> Floats:
    """Return for each cell whether its neighbours within the label have the label's batch frequencies.

    Returns
    -------
    (n_obs,) 1 where the test of :func:`kbet_per_label` accepts, 0 where it rejects and for all cells of a
    label that is in too many pieces to test, NaN for cells that are not tested. The mean over the cells of
    each label, averaged over the labels, is the value of the metric.

    Raises
    ------
    UndefinedError
        As :func:`kbet_per_label`.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.random.default_rng(0).normal(size=(120, 2))
    >>> near, batch = nearest_neighbors(X, 50), ["x", "y"] * 60
    >>> found = label_acceptance(near, ["a"] * 120, batch)
    >>> float(found.mean()) == kbet_per_label(near, ["a"] * 120, batch)
    True
    """
    near, batch_codes, known = known_groups(neighbors, N_NEIGHBORS, batch, "batch")
    graph = connectivities(near, N_NEIGHBORS)
    names, codes = encode(label, "label", n_obs=len(neighbors.indices))
    content = graph_content(graph)
    order = np.argsort(random_ranks(content if cell_ranks is None else refined(content, cell_ranks[known])))
    found = np.full(len(neighbors.indices), np.nan)
    tasks, places, is_any = [], [], False
    for code in range(len(names)):
        cells = order[codes[known][order] == code]
        batches = batch_codes[cells]
        sizes = np.unique(batches, return_counts=True)[1]
        if len(cells) < MIN_CELLS or len(sizes) < 2:
            continue
        is_any = True
        k = int(np.clip(np.mean(sizes) // 4, FEWEST, MOST))
        within = graph[cells][:, cells]
        usable = _usable(within, k)
        if len(usable) < MIN_USABLE * len(cells):
            found[known[cells]] = 0.0
            continue
        if len(usable) < len(cells):
            within = within[usable][:, usable]
        places.append(known[cells[usable]])
        tasks.append((within, batches[usable], k, min(N_DIFFUSION_COMPONENTS, len(usable) - 1)))
    if not is_any:
        raise UndefinedError(f"no label has {MIN_CELLS} cells and two batches")
    for cells, tests in zip(places, parallel_map(_diffusion_tests, tasks, n_jobs=n_jobs), strict=True):
        found[cells] = tests
    return found


def _usable(graph: csr_matrix, k: int) -> Ints:
    """Return the cells of a connected graph, or those in components that are large enough."""
    from scipy.sparse.csgraph import connected_components

    n_components, component = connected_components(graph, directed=False)
    if n_components == 1:
        return np.arange(graph.shape[0])
    return np.flatnonzero(np.bincount(component)[component] >= MIN_COMPONENT * k)


def _diffusion_tests(task: tuple[csr_matrix, Ints, int, int]) -> NDArray[np.bool_]:
    """Return which of a label's cells are accepted, from its graph and batches."""
    graph, batches, k, n_components = task
    present, codes = np.unique(batches, return_inverse=True)
    if len(present) == 1:
        return np.zeros(len(codes), dtype=bool)
    # Cells are in a random order already; all at one place if the graph does not distinguish them.
    near = centred_neighbors(diffusion_map(graph, n_components), k + 1, np.arange(len(codes)))
    return accepted(near.indices, codes)
