"""Silhouettes: how much nearer a cell lies to its own group than to the others.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, encode, raw_coordinates, several
from cellular_bench.metrics.numerics.distances import distance_sums
from cellular_bench.metrics.numerics.shared_distances import SharedDistances
from cellular_bench.metrics.spec import metric

ROUSSEEUW = "10.1016/0377-0427(87)90125-7"
SCIB = "10.1038/s41592-021-01336-8"


def silhouettes_by_label(
    X_emb: ArrayLike, label: ArrayLike, *, shared_distances: SharedDistances | None = None
) -> Floats:
    """Return the silhouette of every cell with respect to its label, (n_obs,), -1 to 1.

    The only cell of a label has the silhouette 0. Undefined if there is only one label, every cell has its
    own label, or the embedding is not usable.

    References
    ----------
    doi:10.1016/0377-0427(87)90125-7
    """
    X = coordinates(X_emb)
    names, codes = several(label, "label", n_obs=len(X))
    if len(names) == len(X):
        raise UndefinedError("every cell has its own label: there are no groups")
    sizes = np.bincount(codes)
    if shared_distances is None:
        sums = distance_sums(X, codes, np.zeros_like(codes)).to_labels
        return _against_nearest(sums, codes, sizes)
    cells = shared_distances.rows()
    return shared_distances.complete(_against_nearest(shared_distances.sums.to_labels, codes[cells], sizes))


def _against_nearest(sums: Floats, codes: Ints, sizes: Ints) -> Floats:
    """Compare each cell's mean distance to its own group with that to the nearest other group."""
    means = np.divide(sums, sizes, out=np.full_like(sums, np.inf), where=sizes > 0)
    means[np.arange(len(codes)), codes] = np.inf
    return _silhouettes(sums, codes, sizes, between=means.min(axis=1))


def _silhouettes(sums: Floats, codes: Ints, sizes: Ints, *, between: Floats) -> Floats:
    """Compare each cell's mean distance to its own group with its distance to others; 0 if both are 0."""
    others = sizes[codes] - 1
    own = sums[np.arange(len(codes)), codes]
    within = np.divide(own, others, out=np.zeros_like(own), where=others > 0)
    larger = np.maximum(within, between)
    values = np.divide(between - within, larger, out=np.zeros_like(own), where=larger > 0)
    values[others == 0] = 0.0
    return values


@metric(
    metric_id="silhouette_label",
    name="Silhouette (label)",
    aspect="bio_conservation",
    definition="Mean silhouette of cells by label, scaled from -1...1 to 0...1; 0.5 means labels overlap.",
    doi=ROUSSEEUW,
)
def silhouette_label(X_emb: ArrayLike, label: ArrayLike, *, label_silhouettes: Floats | None = None) -> float:
    """Separation of the labels, 0 to 1; 0.5 if they overlap.

    Undefined if there is only one label, every cell has its own label, or the embedding is not usable.

    Notes
    -----
    Formula: mean over cells of (s + 1) / 2, s = (b - a) / max(a, b), a = mean distance to the other cells of
    the label, b = least mean distance to the cells of another label.

    Fooled by: labels that are not round. A type along a trajectory, or in two pieces, scores low even if it
    is well preserved; a method that compresses each label into a ball scores high.

    Examples
    --------
    >>> round(silhouette_label([[0.0], [1.0], [9.0], [10.0]], ["a", "a", "b", "b"]), 4)
    0.9443
    """
    values = _given(label_silhouettes, X_emb, label)
    return float((values.mean() + 1) / 2)


def _given(values: Floats | None, X_emb: ArrayLike, label: ArrayLike) -> Floats:
    return silhouettes_by_label(X_emb, label) if values is None else values


def isolated(label: ArrayLike, batch: ArrayLike) -> tuple[Ints, Ints]:
    """Return the label codes of all cells, (n_obs,), and the codes that occur in the fewest batches.

    Undefined if every label occurs in every batch: none is isolated.
    """
    names, codes = several(label, "label")
    batches, batch_codes = encode(batch, "batch", n_obs=len(codes))
    present = np.zeros((len(names), len(batches)), dtype=bool)
    present[codes, batch_codes] = True
    spread = present.sum(axis=1)
    if spread.min() == len(batches):
        raise UndefinedError("no label is isolated: every label occurs in every batch")
    return codes, np.flatnonzero(spread == spread.min())


@metric(
    metric_id="isolated_labels",
    name="Isolated labels (silhouette)",
    aspect="bio_conservation",
    definition="Silhouette by label (silhouette_label), averaged over the labels in the fewest batches.",
    doi=SCIB,
)
def isolated_labels(
    X_emb: ArrayLike, label: ArrayLike, batch: ArrayLike, *, label_silhouettes: Floats | None = None
) -> float:
    """Separation of the labels that occur in the fewest batches from all others, 0 to 1.

    Undefined if every label occurs in every batch (scib returns NaN, scib-metrics treats every label as
    isolated), or :func:`silhouette_label` is undefined.

    Notes
    -----
    Formula: mean over the labels that occur in the fewest batches of the mean of silhouette_label over the
    label's cells.

    Fooled by: few isolated cells: one small label may decide the value. If all labels occur in all batches,
    there is no value.

    Examples
    --------
    >>> X = [[0.0], [1.0], [9.0], [10.0], [0.5], [0.6]]
    >>> label, batch = ["a", "a", "b", "b", "a", "a"], ["x", "x", "x", "x", "y", "y"]
    >>> round(isolated_labels(X, label, batch), 4)
    0.9441
    """
    codes, rare = isolated(label, batch)
    values = (_given(label_silhouettes, X_emb, label) + 1) / 2
    return float(np.mean([values[codes == code].mean() for code in rare]))


def _mixing(
    n_obs: int, label: ArrayLike, batch: ArrayLike, scores: Callable[[NDArray[np.bool_], Ints], Floats]
) -> float:
    """Average the scores of cells within each label, then over labels."""
    means = [float(np.mean(scores(*group))) for group in mixed_labels(n_obs, label, batch)]
    if not means:
        raise UndefinedError("no label has cells of two batches, at least two of them in the same batch")
    return float(np.mean(means))


def mixed_labels(n_obs: int, label: ArrayLike, batch: ArrayLike) -> Iterator[tuple[NDArray[np.bool_], Ints]]:
    """Yield the cells and batch codes of each label with several batches, one of them of two cells."""
    _, batches = several(batch, "batch", n_obs=n_obs)
    names, codes = encode(label, "label", n_obs=n_obs)
    for code in range(len(names)):
        cells = codes == code
        within = batches[cells]
        if 1 < np.count_nonzero(np.bincount(within)) < len(within):
            yield cells, within


@metric(
    metric_id="silhouette_batch",
    name="Silhouette (batch)",
    aspect="batch_correction",
    definition="1 - |silhouette by batch| among the cells of a label, averaged within, then over labels.",
    in_overall=False,  # BRAS replaces it: doi:10.1038/s41587-025-02743-4 shows when it misleads
    doi=SCIB,
)
def silhouette_batch(
    X_emb: ArrayLike, label: ArrayLike, batch: ArrayLike, *, shared_distances: SharedDistances | None = None
) -> float:
    """Overlap of the batches within each label, 0 to 1.

    Labels in one batch, or with one cell per batch, do not count. Undefined if no label counts, or the
    embedding is not usable.

    Notes
    -----
    Formula: mean over labels of the mean over the label's cells of 1 - abs(s), s = silhouette of the cell by
    batch among the cells of its label.

    Fooled by: pairs of batches: only the nearest other batch counts, so batches that overlap in pairs score
    as mixed (doi:10.1038/s41587-025-02743-4). BRAS replaces it in the overall score.

    Examples
    --------
    >>> X, label = [[0.0], [1.0], [0.0], [1.0]], ["a", "a", "a", "a"]
    >>> round(silhouette_batch(X, label, ["x", "x", "y", "y"]), 4)
    0.5
    """
    X = coordinates(X_emb)

    def scores(cells: NDArray[np.bool_], batches: Ints) -> Floats:
        if shared_distances is None:
            sums = distance_sums(X[cells], batches, np.zeros_like(batches)).to_labels
            return 1 - np.abs(_against_nearest(sums, batches, np.bincount(batches)))
        rows = shared_distances.rows()
        values, inside = np.zeros(len(rows)), cells[rows]
        own = batches[(np.cumsum(cells) - 1)[rows[inside]]]
        sums = shared_distances.sums.to_batches[inside]
        sizes = np.bincount(batches, minlength=sums.shape[1])
        values[inside] = 1 - np.abs(_against_nearest(sums, own, sizes))
        return shared_distances.complete(values)[cells]

    return _mixing(len(X), label, batch, scores)


@metric(
    metric_id="bras",
    name="BRAS",
    aspect="batch_correction",
    definition=(
        "As silhouette_batch, by cosine distance and against all other batches together, not the nearest."
    ),
    doi="10.1101/2025.01.21.634098",
)
def bras(X_emb: ArrayLike, label: ArrayLike, batch: ArrayLike) -> float:
    """Batch-removal-adapted silhouette: overlap of the batches within each label, 0 to 1.

    Distances are cosine distances, so the origin matters. A cell at the origin has no direction: its distance
    to all others is 1. Undefined as :func:`silhouette_batch`.

    Notes
    -----
    Formula: as silhouette_batch, with cosine distances and b = mean distance to the cells of all other
    batches of the label.

    Fooled by: an embedding without directions: shuffled cells are perfectly mixed. Read it only beside the
    bio-conservation metrics. Shifting the origin changes it.

    Examples
    --------
    >>> X, label = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], ["a"] * 4
    >>> bras(X, label, ["x", "x", "y", "y"])
    0.5
    """
    X = raw_coordinates(X_emb)
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    directions = np.divide(X, lengths, out=np.zeros_like(X), where=lengths > 0)

    def scores(cells: NDArray[np.bool_], batches: Ints) -> Floats:
        return 1 - np.abs(_against_others(directions[cells], batches))

    return _mixing(len(X), label, batch, scores)


def _against_others(directions: Floats, codes: Ints) -> Floats:
    """Return silhouettes by cosine distance; sums of cosines are products with sums, without pairs."""
    sizes = np.bincount(codes)
    towards = np.eye(len(sizes))[codes].T @ directions
    sums = sizes - directions @ towards.T
    cells = np.arange(len(codes))
    own = sums[cells, codes]
    others = (sums.sum(axis=1) - own) / (len(codes) - sizes[codes])
    # The distance of a cell to itself is 0, also if rounding or a missing direction gives another value.
    sums[cells, codes] = own - (1 - np.einsum("ij,ij->i", directions, directions))
    return _silhouettes(np.maximum(sums, 0.0), codes, sizes, between=np.maximum(others, 0.0))
