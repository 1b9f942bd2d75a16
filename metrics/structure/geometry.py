"""Arrangement of the types in an embedding.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.labels import NO_LABELS
from cellular_bench.metrics.inputs import Ints, coordinates
from cellular_bench.metrics.spec import metric
from cellular_bench.metrics.structure.reference import (
    MIN_BATCH_CELLS,
    MIN_TYPE_CELLS,
    StructureReference,
    relative_distances,
    trimmed_means,
)

SCGRAPH = "10.1101/2024.04.02.587824"
#: Least other types that a type is compared with, and least types for a comparison with chance.
MIN_PARTNERS, MIN_TYPES = 3, 6
#: Permutations of the cells that show what chance gives.
N_PERMUTATIONS = 10
#: Chance above this is reported.
NOTABLE_CHANCE = 0.2


class TypeAgreement(NamedTuple):
    """How well distances between types agree with the consensus of batches.

    Attributes
    ----------
    correlation
        Weighted correlation of the embedding.
    by_chance
        Mean of the same for permuted cells, at least 0; NaN with fewer than six types.
    """

    correlation: float
    by_chance: float


def type_agreement(X_emb: ArrayLike, structure: StructureReference) -> TypeAgreement:
    """Compare distances between types in an embedding with those within batches.

    Undefined as :func:`scgraph`.
    """
    X = structure.used(coordinates(X_emb))
    if structure.label is None or structure.types is None or structure.consensus is None:
        raise UndefinedError(NO_LABELS)
    partners = (structure.consensus > 0).sum(axis=0)
    if not (partners >= MIN_PARTNERS).any():
        raise UndefinedError(
            f"needs a type that shares batches with {MIN_PARTNERS} others; there are {len(structure.types)} "
            f"types with {MIN_TYPE_CELLS} cells in batches of {MIN_BATCH_CELLS}"
        )
    correlation = _correlation(X, structure.label, structure)
    if np.isnan(correlation):
        raise UndefinedError("the types have no distances that differ in the embedding", by_output=True)
    if len(structure.types) < MIN_TYPES:
        return TypeAgreement(correlation, np.nan)
    # Chance needs no double precision; powers of two change no distance relative to others.
    unit = 2.0 ** np.ceil(np.log2(np.abs(X).max()))
    single = (X / unit).astype(np.float32)
    permuted = [
        _correlation(single, _permuted(structure.label, number), structure)
        for number in range(N_PERMUTATIONS)
    ]
    known = [value for value in permuted if not np.isnan(value)]
    return TypeAgreement(correlation, max(0.0, float(np.mean(known))) if known else 0.0)


def _permuted(label: Ints, seed: int) -> Ints:
    """Return the labels of cells for which a permutation of the cells has the given ones."""
    permuted = np.empty_like(label)
    permuted[np.random.default_rng(seed).permutation(len(label))] = label
    return permuted


def _correlation(X: NDArray[np.floating[Any]], label: Ints, structure: StructureReference) -> float:
    """Return the mean over types of the weighted correlation of distances; NaN if no type has one.

    Parameters
    ----------
    X
        (n_used, n_dims) coordinates.
    label
        (n_used,) codes of labels.
    """
    assert structure.types is not None, "checked by the caller"
    assert structure.consensus is not None, "checked by the caller"
    found = relative_distances(trimmed_means(X, label, structure.types))
    correlations = []
    for expected, seen in zip(structure.consensus.T, found.T, strict=True):
        rows = (expected > 0) & ~np.isnan(seen)
        if np.count_nonzero(rows) < MIN_PARTNERS:
            continue
        weights = 1 / expected[rows]
        weights /= weights.sum()
        one, other = (values[rows] - weights @ values[rows] for values in (expected, seen))
        spread = np.sqrt((weights @ one**2) * (weights @ other**2))
        if spread > 0:
            correlations.append(float(weights @ (one * other)) / spread)
    return float(np.mean(correlations)) if correlations else np.nan


@metric(
    metric_id="scgraph",
    name="scGraph",
    aspect="structure",
    definition=(
        "Correlation of the distances between types with their consensus within batches, near types "
        "weighted most, averaged over types."
    ),
    minimum=-1.0,
    in_overall=False,
    doi=SCGRAPH,
)
def scgraph(
    X_emb: ArrayLike, structure: StructureReference, type_agreement: TypeAgreement | None = None
) -> float:
    """Agreement of distances between types with those within batches, -1 to 1 (``Corr-Weighted`` of scGraph).

    Types with fewer than 10 cells are left out, and those without a cell in a batch of 100. Undefined without
    labels, if no type shares such batches with three others, or if the types do not differ in the embedding.

    Notes
    -----
    Formula: mean over types t of the weighted Pearson correlation, over the other types u, of c(u, t) and
    e(u, t) with weights 1 / c(u, t); e = distance between trimmed means (5 % cut at both ends) in the
    embedding / the largest to t; c = mean over batches of the same in 10 principal components of the batch's
    1,000 most variable genes, again / the largest.

    Fooled by: few types; with three, every embedding scores 1, and with five, noise can score 0.8. Rare types
    have noisy means, far from all others in any embedding, so that permuted cells score up to 0.4:
    ``type_geometry`` is corrected for both. Islands score anything around 0, by the noise in them. Doing
    nothing scores high, and what happens within types is not seen.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat(["A", "B", "C", "D"], 60)
    >>> X = rng.poisson(np.repeat(rng.gamma(1, 2, (4, 50)), 60, axis=0))
    >>> log, depth = np.log1p(X), np.log(X.sum(axis=1))
    >>> batch = np.tile(["a", "b"], 120)
    >>> reference = structure_reference(log, batch, label, highly_variable=np.ones(50, bool), depth=depth)
    >>> scgraph(log, reference) > 0.95
    True
    """
    return _agreement(X_emb, structure, type_agreement).correlation


@metric(
    metric_id="type_geometry",
    name="Type geometry",
    aspect="structure",
    definition="scGraph above what permuted cells score: 1 as within batches, 0 by chance.",
    doi=SCGRAPH,
)
def type_geometry(
    X_emb: ArrayLike, structure: StructureReference, type_agreement: TypeAgreement | None = None
) -> float:
    """Agreement of distances between types with those within batches beyond chance, 0 to 1.

    Undefined as :func:`scgraph`, or with fewer than six types, where chance decides.

    Notes
    -----
    Formula: max(0, (r - r0) / (1 - r0)), r = scgraph, r0 = max(0, mean of scgraph for 10 permutations of the
    cells).

    Fooled by: doing nothing, which scores high. Ten permutations leave some chance: an embedding that is
    permuted itself can score up to 0.3 where types are rare; an evaluation says where r0 is above 0.2. What
    happens within types is not seen.

    Examples
    --------
    >>> from cellular_bench.metrics import structure_reference
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat(list("ABCDEF"), 60)
    >>> X = rng.poisson(np.repeat(rng.gamma(1, 2, (6, 50)), 60, axis=0))
    >>> log, depth = np.log1p(X), np.log(X.sum(axis=1))
    >>> batch = np.tile(["a", "b"], 180)
    >>> reference = structure_reference(log, batch, label, highly_variable=np.ones(50, bool), depth=depth)
    >>> type_geometry(log, reference) > 0.9
    True
    """
    found = _agreement(X_emb, structure, type_agreement)
    if np.isnan(found.by_chance):
        n_types = 0 if structure.types is None else len(structure.types)
        raise UndefinedError(f"needs {MIN_TYPES} types; there are {n_types}, and with few, chance decides")
    return max(0.0, (found.correlation - found.by_chance) / (1 - found.by_chance))


def _agreement(X_emb: ArrayLike, structure: StructureReference, known: TypeAgreement | None) -> TypeAgreement:
    return type_agreement(X_emb, structure) if known is None else known
