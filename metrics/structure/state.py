"""What differs within types: states of the cells, their neighbours and how far they spread.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.labels import NO_LABELS
from cellular_bench.metrics.inputs import Floats, Ints, coordinates
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content
from cellular_bench.metrics.spec import metric
from cellular_bench.metrics.structure.reference import (
    MIN_GROUP_CELLS,
    N_NEIGHBOURS,
    Groups,
    StructureReference,
    explained_by,
    nearest,
    within_share,
)


def state_per_cell(X_emb: ArrayLike, structure: StructureReference, cell_ranks: Ints | None = None) -> Floats:
    """Return how well each cell's state follows from its neighbours in an embedding, (n_obs,).

    The mean over a batch and label is its part of :func:`state_kept`: 1 if neighbours are as alike as those
    by the signal components, 0 if they are random; one cell may have any value up to 1 or somewhat above. NaN
    for cells that do not count: of a small group or one without structure, or not drawn.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> rng = np.random.default_rng(0)
    >>> state = np.tile(np.linspace(-1, 1, 100), 2)
    >>> X, batch = np.exp(np.outer(state, rng.normal(size=40))), np.repeat(["a", "b"], 100)
    >>> reference = structure_reference(
    ...     X, batch, ["T"] * 200, highly_variable=np.ones(40, bool), depth=rng.normal(size=200)
    ... )
    >>> bool(state_per_cell(np.outer(state, [1.0, 1.0]), reference).mean() > 0.9)
    True
    """
    groups = _label_groups(structure)
    return _on_all(structure, groups.cells, _by_cell(X_emb, structure, groups, cell_ranks))


def neighbours_per_cell(
    X_emb: ArrayLike, structure: StructureReference, cell_ranks: Ints | None = None
) -> Floats:
    """Return how many of each cell's neighbours within its batch an embedding keeps, beyond chance, (n_obs,).

    1 if all are kept, 0 as many as among random cells. NaN in batches with fewer than 30 cells, and for cells
    that were not drawn.
    """
    X, ranks = _used(X_emb, structure, cell_ranks)
    kept = np.full(len(X), np.nan)
    for code in np.unique(structure.batch):
        part = np.flatnonzero(structure.batch == code)
        if len(part) < MIN_GROUP_CELLS:
            continue
        after = part[nearest(X[part], N_NEIGHBOURS, ranks[part])]
        shared = _n_shared(structure.neighbours[part], after) / N_NEIGHBOURS
        chance = N_NEIGHBOURS / (len(part) - 1)
        kept[part] = (shared - chance) / (1 - chance)
    return _on_all(structure, np.arange(len(X)), kept)


@metric(
    metric_id="state_kept",
    name="State kept",
    aspect="structure",
    definition=(
        "How well the state of a cell within its type and batch follows from its neighbours: 1 as by the "
        "signal components of the type, 0 as from random cells; averaged over labels."
    ),
)
def state_kept(X_emb: ArrayLike, structure: StructureReference, cell_ranks: Ints | None = None) -> float:
    """Conservation of what differs within types, 1 for all and 0 for nothing of it.

    Noise can take it below 0, and an embedding that is smoother than the reference a little above 1; where
    aspects are averaged, it is clipped to 0 to 1. Types differ by components of more variance than chance
    gives, after the depth of cells is taken out; see :func:`structure_reference`. Undefined without labels,
    or if no label has 30 cells in a batch and such a component.

    Notes
    -----
    Formula: mean over labels of the mean over batches, weighted by cells, of (R2(X) - z) / (R2(Y) - z);
    Y = scores on the signal components, R2(X) = 1 - sum |Y - mean of Y over the k nearest cells of the group
    in X|^2 / sum |Y|^2, k = max(3, min(15, (n - 1) // 4)), z = 1 - (1 + 1 / k) n / (n - 1), what random
    neighbours give.

    Fooled by: collapse of types by a factor, which leaves neighbours as they are: see ``spread_kept``. Only
    what stands out in the highly variable genes is a state, and only within batches. Effects of a batch that
    differ within a type count as states.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> rng = np.random.default_rng(0)
    >>> state = np.tile(np.linspace(-1, 1, 100), 2)
    >>> X, batch = np.exp(np.outer(state, rng.normal(size=40))), np.repeat(["a", "b"], 100)
    >>> reference = structure_reference(
    ...     X, batch, ["T"] * 200, highly_variable=np.ones(40, bool), depth=rng.normal(size=200)
    ... )
    >>> state_kept(np.outer(state, [1.0, 1.0]), reference) > 0.9
    True
    >>> abs(state_kept(rng.normal(size=(200, 2)), reference)) < 0.2
    True
    """
    return _state(X_emb, structure, _label_groups(structure), cell_ranks)


@metric(
    metric_id="spread_kept",
    name="Spread kept",
    aspect="structure",
    definition=(
        "Share of the variance within batches that lies within types, relative to the same share before "
        "integration; more counts as 1."
    ),
)
def spread_kept(X_emb: ArrayLike, structure: StructureReference) -> float:
    """Conservation of how far cells of a type spread, relative to all cells of a batch, 0 to 1.

    Undefined without labels, if types do not spread before integration, or if all cells of each batch are at
    one place.

    Notes
    -----
    Formula: min(1, s(X) / s(P)), s = sum of squares around the mean of each batch and label / sum of squares
    around the mean of each batch, P = 30 principal components of each batch.

    Fooled by: noise within types, which spreads them like states do. An embedding of few components loses
    spread that is mostly noise: two of fifty principal components score a third.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> rng = np.random.default_rng(0)
    >>> label = np.tile(["A", "B"], 60)
    >>> X = rng.normal(size=(120, 30)) + 3.0 * np.outer(label == "A", np.arange(30) < 5)
    >>> reference = structure_reference(
    ...     X, ["a"] * 120, label, highly_variable=np.ones(30, bool), depth=np.zeros(120)
    ... )
    >>> spread_kept(X, reference) > 0.95
    True
    >>> spread_kept(X + 9 * np.outer(label == "A", np.ones(30)), reference) < 0.2
    True
    """
    X = structure.used(coordinates(X_emb))
    if structure.label is None or structure.within_share is None:
        raise UndefinedError(NO_LABELS)
    if not structure.within_share > 0:
        raise UndefinedError("cells of one label do not differ within batches before integration")
    parts = [np.flatnonzero(structure.batch == code) for code in np.unique(structure.batch)]
    share = within_share([X[part] for part in parts], [structure.label[part] for part in parts])
    if np.isnan(share):
        raise UndefinedError("in each batch, all cells have the same coordinates", by_output=True)
    return min(1.0, share / structure.within_share)


@metric(
    metric_id="neighbours_kept",
    name="Neighbours kept",
    aspect="structure",
    definition="Share of the 15 nearest cells within the batch that stay so, beyond chance.",
    in_overall=False,
)
def neighbours_kept(
    X_emb: ArrayLike,
    structure: StructureReference,
    cell_ranks: Ints | None = None,
    *,
    kept_neighbours: Floats | None = None,
) -> float:
    """Conservation of neighbours within batches, 1 for all and 0 for as many as random cells share.

    Needs no labels. Undefined if no batch has 30 cells. ``kept_neighbours`` is the result of
    :func:`neighbours_per_cell` where it is known.

    Notes
    -----
    Formula: mean over cells of (o - c) / (1 - c), o = share of the 15 nearest cells of the batch by its 30
    principal components that are among the 15 nearest in the embedding, c = 15 / (cells of the batch - 1).

    Fooled by: types as islands, which keep the neighbours apart that are of other types: they score 0.11, and
    more in small batches. An embedding with as many principal components as the reference scores best: what
    is kept is mostly noise.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> X = np.random.default_rng(0).normal(size=(120, 30))
    >>> reference = structure_reference(
    ...     X, ["a", "b"] * 60, highly_variable=np.ones(30, bool), depth=np.zeros(120)
    ... )
    >>> neighbours_kept(X, reference) > 0.95
    True
    """
    kept = neighbours_per_cell(X_emb, structure, cell_ranks) if kept_neighbours is None else kept_neighbours
    if np.isnan(kept).all():
        raise UndefinedError(f"no batch has {MIN_GROUP_CELLS} cells")
    return float(np.nanmean(kept))


@metric(
    metric_id="state_kept_clusters",
    name="State kept (clusters)",
    aspect="structure",
    definition="State kept with clusters of each batch in place of labels.",
    in_overall=False,
)
def state_kept_clusters(
    X_emb: ArrayLike, structure: StructureReference, cell_ranks: Ints | None = None
) -> float:
    """Conservation of what differs within clusters of each batch, 1 for all and 0 for nothing of it.

    Needs no labels. Undefined if no cluster has 30 cells and a component that carries structure.

    Notes
    -----
    Formula: mean over clusters of :func:`state_kept`'s value of a group; clusters by k-means on 30 principal
    components of each batch, one per 100 cells, 2 to 20.

    Fooled by: the same as ``state_kept``; and where a cluster holds several types, or a part of one, what
    differs between them counts: types as islands score 0.06 to 0.14.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> rng = np.random.default_rng(0)
    >>> state = np.tile(np.linspace(-1, 1, 100), 2)
    >>> X, batch = np.exp(np.outer(state, rng.normal(size=40))), np.repeat(["a", "b"], 100)
    >>> reference = structure_reference(X, batch, highly_variable=np.ones(40, bool), depth=np.zeros(200))
    >>> state_kept_clusters(np.outer(state, [1.0, 1.0]), reference) > 0.9
    True
    """
    return _state(X_emb, structure, structure.cluster_groups, cell_ranks)


def _label_groups(structure: StructureReference) -> Groups:
    if structure.label_groups is None:
        raise UndefinedError(NO_LABELS)
    return structure.label_groups


def _state(X_emb: ArrayLike, structure: StructureReference, groups: Groups, cell_ranks: Ints | None) -> float:
    if not groups.n_signal.any():
        raise UndefinedError(
            f"no group of {MIN_GROUP_CELLS} cells of one batch differs by more than chance within itself"
        )
    values = _by_cell(X_emb, structure, groups, cell_ranks)
    sums: dict[int, list[float]] = {}
    for group in groups:
        so_far = sums.setdefault(group.label, [0.0, 0.0])
        so_far[0] += float(values[group.place].sum())
        so_far[1] += len(group.cells)
    return float(np.mean([total / n_cells for total, n_cells in sums.values()]))


def _by_cell(
    X_emb: ArrayLike, structure: StructureReference, groups: Groups, cell_ranks: Ints | None
) -> Floats:
    """Return the value of each cell of the groups, (n,) in the order of ``groups.cells``; NaN without one."""
    X, ranks = _used(X_emb, structure, cell_ranks)
    values = np.full(len(groups.cells), np.nan)
    for group in groups:
        n, k = len(group.cells), group.n_neighbours
        by_chance = 1 - (1 + 1 / k) * n / (n - 1)
        found = explained_by(nearest(X[group.cells], k, ranks[group.cells]), group.scores)
        values[group.place] = (found - by_chance) / (group.explained - by_chance)
    return values


def _used(X_emb: ArrayLike, structure: StructureReference, cell_ranks: Ints | None) -> tuple[Floats, Ints]:
    """Return the coordinates that are compared, and random ranks of their cells."""
    X = structure.used(coordinates(X_emb))
    if cell_ranks is None:
        return X, random_ranks(row_content(X))
    return X, cell_ranks if structure.cells is None else np.asarray(cell_ranks)[structure.cells]


def _n_shared(one: Ints, other: Ints) -> Floats:
    """Return how many numbers of a row are in the same row of another array; in a row, each comes once."""
    both = np.sort(np.hstack([one, other]), axis=1)
    shared: Floats = np.count_nonzero(both[:, 1:] == both[:, :-1], axis=1).astype(np.float64)
    return shared


def _on_all(structure: StructureReference, cells: Ints, values: Floats) -> Floats:
    """Return values of cells of the reference as those of all cells, NaN elsewhere."""
    found = np.full(structure.n_obs, np.nan)
    found[cells if structure.cells is None else structure.cells[cells]] = values
    return found
