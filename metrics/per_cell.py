"""Values of single cells: how well batches are mixed around each, and what is kept of its surroundings.

They say which types and batches a score is low for. Some are the parts of a metric, of which an aggregate is
the metric; others are comparable between types of different sizes and batches, which these parts are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.embedding import batch_tests, local_diversity
from cellular_bench.metrics.embedding.local_diversity import lisi, perplexity_weights, shares_around
from cellular_bench.metrics.inputs import Floats, Ints, encode
from cellular_bench.metrics.numerics.distances import Neighbors, known_groups
from cellular_bench.metrics.spec import CellQuantity, CellValues
from cellular_bench.metrics.structure.reference import StructureReference
from cellular_bench.metrics.structure.state import neighbours_per_cell, state_per_cell

#: Cells of a type in each of two batches, without which its mixing is not measured.
MIN_CELLS: Final = 10
#: Smallest excess of the expected number of batches over one that a cell's mixing is measured by.
_LEAST_EXCESS: Final = 1e-9


def ilisi_per_cell(
    neighbors: Neighbors, batch: ArrayLike, *, neighbor_weights: Floats | None = None
) -> CellValues:
    """Return how many batches are around each cell: 0 for a single one, 1 for all in equal shares.

    The median over cells is :func:`~cellular_bench.metrics.ilisi`. Arguments and errors are the same.

    Examples
    --------
    >>> from cellular_bench.metrics import ilisi, nearest_neighbors
    >>> near = nearest_neighbors(np.random.default_rng(0).normal(size=(200, 2)), 90)
    >>> values = ilisi_per_cell(near, ["x", "y"] * 100).values
    >>> bool(np.isclose(np.median(values), ilisi(near, ["x", "y"] * 100)))
    True
    """
    diversity, n_batches = _diversity(neighbors, batch, "batch", neighbor_weights)
    return CellValues((diversity - 1) / (n_batches - 1))


def clisi_per_cell(
    neighbors: Neighbors, label: ArrayLike, *, neighbor_weights: Floats | None = None
) -> CellValues:
    """Return how pure the surroundings of each cell are: 1 for a single label, 0 for all in equal shares.

    The median over cells is :func:`~cellular_bench.metrics.clisi`. Arguments and errors are the same. It is
    also 1 among cells of one other label; see :func:`label_purity_per_cell`.
    """
    diversity, n_labels = _diversity(neighbors, label, "label", neighbor_weights)
    return CellValues((n_labels - diversity) / (n_labels - 1))


def _diversity(
    neighbors: Neighbors, groups: ArrayLike, name: str, weights: Floats | None
) -> tuple[Floats, int]:
    """Return the effective number of groups around each cell, and their number."""
    near, codes, cells = known_groups(neighbors, local_diversity.N_NEIGHBORS, groups, name)
    known = perplexity_weights(near) if weights is None else weights
    found = np.full(len(neighbors.indices), np.nan)
    found[cells] = lisi(near, codes, known)
    return found, int(codes.max()) + 1


def kbet_per_cell(neighbors: Neighbors, batch: ArrayLike) -> CellValues:
    """Return 1 where a cell's neighbours have the batch frequencies of the whole data set, else 0.

    The mean over cells is :func:`~cellular_bench.metrics.kbet`. Arguments and errors are the same.
    """
    near, codes, cells = known_groups(neighbors, batch_tests.N_NEIGHBORS, batch, "batch")
    found = np.full(len(neighbors.indices), np.nan)
    found[cells] = batch_tests.accepted(near.indices, codes)
    return CellValues(found)


def kbet_per_label_per_cell(
    neighbors: Neighbors,
    label: ArrayLike,
    batch: ArrayLike,
    *,
    cell_ranks: Ints | None = None,
    label_tests: Floats | None = None,
    n_jobs: int = 1,
) -> CellValues:
    """Return 1 where a cell's neighbours of its type have the type's batch frequencies, else 0.

    The mean over the cells of a type, averaged over the types, is
    :func:`~cellular_bench.metrics.kbet_per_label`. Arguments and errors are the same. Types in one batch have
    no value.
    """
    if label_tests is None:
        label_tests = batch_tests.label_acceptance(
            neighbors, label, batch, cell_ranks=cell_ranks, n_jobs=n_jobs
        )
    return CellValues(label_tests)


def batch_mixing_per_cell(
    neighbors: Neighbors,
    label: ArrayLike,
    batch: ArrayLike,
    *,
    neighbor_weights: Floats | None = None,
) -> CellValues:
    """Return how mixed batches are around each cell, relative to what the types there permit.

    0 where all neighbours are of one batch; about 1 where they are of the batches that cells of their types
    have by chance, also if the batches are of unequal sizes or have other shares of the types. Above 1 the
    batches are in more equal shares than that.

    Parameters
    ----------
    neighbors
        At least 90 nearest cells of each, itself included.
    label, batch
        (n_obs,) types and batches.
    neighbor_weights
        (n_known, 89) weights of the neighbours, see :func:`.perplexity_weights`; None: computed.

    Returns
    -------
    (n_obs,) (L - 1) / (E - 1): L is the effective number of batches (LISI) around a cell, and E that of
    neighbours of the same types whose batches are drawn at random among the cells of their types. NaN for a
    type that does not have 10 cells in each of two batches. The weights are E - 1, so that the mean of a
    group is the quotient of two sums: a cell around which hardly any mixing is possible counts little.

    Raises
    ------
    UndefinedError
        If there is one batch, no type has 10 cells in two batches, or neighbours are too few.

    Examples
    --------
    Two types far apart, the second only in batch z; the first is mixed:

    >>> from cellular_bench.metrics import nearest_neighbors
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) + 100.0 * (np.arange(300) >= 200)[:, None]
    >>> label, batch = ["a"] * 200 + ["b"] * 100, ["x", "y"] * 100 + ["z"] * 100
    >>> found = batch_mixing_per_cell(nearest_neighbors(X, 90), label, batch)
    >>> {name: round(value, 1) for name, value in by_group(found, label).items()}
    {'a': 1.0}
    """
    near, batches, cells = known_groups(neighbors, local_diversity.N_NEIGHBORS, batch, "batch")
    labels = encode(label, "label", n_obs=len(neighbors.indices))[1][cells]
    weights = perplexity_weights(near) if neighbor_weights is None else neighbor_weights
    counts = np.zeros((int(labels.max()) + 1, int(batches.max()) + 1))
    np.add.at(counts, (labels, batches), 1)
    measured = ((counts >= MIN_CELLS).sum(axis=1) >= 2)[labels]
    if not measured.any():
        raise UndefinedError(f"no label has {MIN_CELLS} cells in each of two batches")
    # A label that no cell with neighbours has would be divided by 0; its row is not used.
    frequencies = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    spread = 1 - np.einsum("ij,ij->i", frequencies, frequencies)
    mean = shares_around(near, labels, weights) @ frequencies
    around = near.indices[:, 1 : local_diversity.N_NEIGHBORS]
    by_chance = np.einsum("ij,ij->i", mean, mean) + np.einsum(
        "ij,ij,ij->i", weights, weights, spread[labels[around]]
    )
    excess = 1 / by_chance - 1
    measured &= excess > _LEAST_EXCESS
    values, weight_of = np.full(len(neighbors.indices), np.nan), np.zeros(len(neighbors.indices))
    values[cells[measured]] = (lisi(near, batches, weights)[measured] - 1) / excess[measured]
    weight_of[cells[measured]] = excess[measured]
    return CellValues(values, weight_of)


def label_purity_per_cell(
    neighbors: Neighbors, label: ArrayLike, *, neighbor_weights: Floats | None = None
) -> CellValues:
    """Return which share of the neighbours of each cell is of its type, of the most that there can be.

    Parameters
    ----------
    neighbors
        At least 90 nearest cells of each, itself included.
    label
        (n_obs,) types.
    neighbor_weights
        (n_known, 89) weights of the neighbours, see :func:`.perplexity_weights`; None: computed.

    Returns
    -------
    (n_obs,) sum of the weights of the neighbours of the cell's type, divided by the weights of as many
    nearest neighbours as the type has other cells: 1 if no other type is nearer, however rare the type.
    NaN for the only cell of a type.

    Raises
    ------
    UndefinedError
        If there is one type, or neighbours are too few.

    Examples
    --------
    >>> from cellular_bench.metrics import nearest_neighbors
    >>> X = np.arange(200.0)[:, None] + 1000.0 * (np.arange(200) >= 190)[:, None]
    >>> found = label_purity_per_cell(nearest_neighbors(X, 90), ["a"] * 190 + ["rare"] * 10)
    >>> {name: round(value, 6) for name, value in by_group(found, ["a"] * 190 + ["rare"] * 10).items()}
    {'a': 1.0, 'rare': 1.0}
    """
    near, codes, cells = known_groups(neighbors, local_diversity.N_NEIGHBORS, label, "label")
    weights = perplexity_weights(near) if neighbor_weights is None else neighbor_weights
    around = near.indices[:, 1 : local_diversity.N_NEIGHBORS]
    own = np.einsum("ij,ij->i", weights, codes[around] == codes[:, None])
    n_others = np.minimum(np.bincount(codes)[codes] - 1, weights.shape[1])
    # Neighbours come nearest first, so that the first weights are the largest ones.
    most = np.take_along_axis(np.cumsum(weights, axis=1), np.maximum(n_others - 1, 0)[:, None], axis=1)[:, 0]
    found = np.full(len(neighbors.indices), np.nan)
    has_others = (n_others > 0) & (most > 0)
    found[cells[has_others]] = own[has_others] / most[has_others]
    return CellValues(found)


def state_kept_per_cell(
    X_emb: ArrayLike, structure: StructureReference, cell_ranks: Ints | None = None
) -> CellValues:
    """Return how well the state of each cell within its type and batch follows from its neighbours.

    The mean over the cells of a type, averaged over the types, is :func:`~cellular_bench.metrics.state_kept`.
    See :func:`.state_per_cell`; cells of small groups, or of groups without structure, have no value.
    """
    return CellValues(state_per_cell(X_emb, structure, cell_ranks))


def neighbours_kept_per_cell(
    X_emb: ArrayLike,
    structure: StructureReference,
    cell_ranks: Ints | None = None,
    *,
    kept_neighbours: Floats | None = None,
) -> CellValues:
    """Return how many of the neighbours of each cell within its batch an embedding keeps, beyond chance.

    The mean over cells is :func:`~cellular_bench.metrics.neighbours_kept`. See :func:`.neighbours_per_cell`.
    """
    if kept_neighbours is None:
        kept_neighbours = neighbours_per_cell(X_emb, structure, cell_ranks)
    return CellValues(kept_neighbours)


#: Every quantity by its name, which is that of the metric whose parts the values are, if there is one.
CELL_QUANTITIES: Final[Mapping[str, CellQuantity]] = {
    "batch_mixing": CellQuantity(
        title="Mixing",
        definition="batches around the cells (LISI): 0 a single one, 1 as by chance within labels",
        function=batch_mixing_per_cell,
    ),
    "label_purity": CellQuantity(
        title="Purity",
        definition="share of neighbours that have the cell's own label, of the most that there can be",
        function=label_purity_per_cell,
    ),
    "ilisi": CellQuantity(
        title="iLISI",
        definition="batches around the cells (LISI): 0 a single one, 1 all of them equally",
        function=ilisi_per_cell,
    ),
    "clisi": CellQuantity(
        title="cLISI",
        definition="labels around the cells (LISI): 1 a single one, 0 all of them equally",
        function=clisi_per_cell,
    ),
    "kbet": CellQuantity(
        title="kBET",
        definition="share of cells whose 50 neighbours have the batch frequencies of the data set",
        function=kbet_per_cell,
    ),
    "kbet_per_label": CellQuantity(
        title="kBET per label",
        definition="share of cells whose neighbours of their label have the batch frequencies of the label",
        function=kbet_per_label_per_cell,
        on_sample=True,
    ),
    "state_kept": CellQuantity(
        title="State kept",
        definition="how well a cell's state within its label and batch follows from its neighbours: 1 as "
        "before integration, 0 as from random cells",
        function=state_kept_per_cell,
    ),
    "neighbours_kept": CellQuantity(
        title="Neighbours kept",
        definition="share of the 15 nearest cells within the batch that stay so, beyond chance",
        function=neighbours_kept_per_cell,
    ),
}


def by_group(found: CellValues, groups: ArrayLike) -> dict[str, float]:
    """Return the mean over the cells of each group that have a value; groups without one are left out.

    Parameters
    ----------
    found
        Values of cells.
    groups
        (n_obs,) labels or batches.

    Examples
    --------
    >>> by_group(CellValues(np.array([0.0, 1.0, np.nan])), ["a", "a", "b"])
    {'a': 0.5}
    """
    names, codes = encode(groups, "groups", n_obs=len(found.values))
    weights = np.ones(len(codes)) if found.weights is None else found.weights
    counted = np.isfinite(found.values) & (weights > 0)
    total = np.bincount(codes[counted], weights[counted], minlength=len(names))
    sums = np.bincount(codes[counted], (weights * found.values)[counted], minlength=len(names))
    return {str(names[code]): float(sums[code] / total[code]) for code in np.flatnonzero(total > 0)}
