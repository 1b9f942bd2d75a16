"""Canary embeddings: Harmony's embedding, damaged, and random directions.

Nobody should use them, so a metric that scores one above Harmony rewards something that it should not. They
are controls. ``perfect_labels`` is one more of them: islands of the true labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._inputs import labels_of
from cellular_bench.methods.harmony import Harmony

if TYPE_CHECKING:
    from anndata import AnnData

Embedding = NDArray[np.float64]

_DAMAGED = MethodSpec(
    method_id="damaged",
    name="Control: damaged Harmony",
    tasks=("integration",),
    labels="all",
    needs_batches=True,
    is_control=True,
    variant_of=Harmony.spec.method_id,
    requires=Harmony.spec.requires,
    # Rises with that of Harmony, whose embedding this is made of.
    version=Harmony.spec.version,
)


def undamaged(adata: AnnData, *, seed: int) -> Embedding:
    """Return Harmony's embedding with its defaults, (n_obs, n_components)."""
    return np.asarray(Harmony(seed=seed).fit_embed(adata), dtype=np.float64)


def mean_deviation(embedding: Embedding) -> float:
    """Return the root of the mean variance of the dimensions: the unit of the noise of canaries.

    Examples
    --------
    >>> mean_deviation(np.array([[1.0, 5.0], [3.0, 5.0]])) == 0.5**0.5
    True
    """
    return float(np.sqrt(embedding.var(axis=0).mean()))


def collapsed(embedding: Embedding, label: NDArray[np.str_], *, factor: float) -> Embedding:
    """Move each cell towards the mean of its type; ``factor`` is the share of the distance that is left.

    Examples
    --------
    >>> collapsed(np.array([[0.0], [2.0], [7.0]]), np.array(["a", "a", "b"]), factor=0.5).ravel().tolist()
    [0.5, 1.5, 7.0]
    """
    names, code = np.unique(label, return_inverse=True)
    means = np.stack([embedding[code == i].mean(axis=0) for i in range(len(names))])[code]
    moved: Embedding = means + factor * (embedding - means)
    return moved


def nearest_pairs(means: Embedding) -> list[tuple[int, int]]:
    """Pair rows by distance: the nearest two, then the nearest two of the others; an odd one stays alone.

    Examples
    --------
    >>> nearest_pairs(np.array([[0.0], [5.0], [1.0], [9.0], [40.0]]))
    [(0, 2), (1, 3)]
    """
    distances = np.sqrt(((means[:, None] - means[None]) ** 2).sum(axis=2))
    distances[np.tril_indices(len(means))] = np.inf
    pairs = []
    for _ in range(len(means) // 2):
        first, second = divmod(int(distances.argmin()), len(means))
        pairs.append((first, second))
        for taken in (first, second):
            distances[taken] = distances[:, taken] = np.inf
    return pairs


class Collapsed:
    """Harmony's embedding with each cell moved to the mean of its type, up to a tenth of the distance.

    Neighbours within a type stay the same, but types become far smaller than the distances between them.

    Parameters
    ----------
    factor
        Share of the distance to the mean that is left.
    seed
        Seed of Harmony.
    """

    spec = replace(
        _DAMAGED,
        method_id="collapsed",
        name="Control: collapsed types",
        canary="collapsed",
        description="Harmony's embedding, its cells moved towards the mean of their type.",
    )

    def __init__(self, *, factor: float = 0.1, seed: int = 0) -> None:
        self.factor = factor
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the damaged embedding, (n_obs, n_components)."""
        whole = undamaged(adata, seed=self.seed)
        return np.asarray(collapsed(whole, labels_of(adata), factor=self.factor), dtype=np.float32)


class CollapsedJitter:
    """Collapsed types with noise in all dimensions: neighbours within a type become random.

    Parameters
    ----------
    factor
        Share of the distance to the mean of its type that a cell keeps.
    jitter
        Standard deviation of the noise, in units of the mean deviation of Harmony's dimensions.
    seed
        Seed of Harmony and of the noise.
    """

    spec = replace(
        _DAMAGED,
        method_id="collapsed_jitter",
        name="Control: collapsed types with jitter",
        canary="collapsed + jitter",
        description="Harmony's embedding, its cells moved towards the mean of their type, plus slight noise.",
    )

    def __init__(self, *, factor: float = 0.1, jitter: float = 0.1, seed: int = 0) -> None:
        self.factor = factor
        self.jitter = jitter
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the damaged embedding, (n_obs, n_components)."""
        whole = undamaged(adata, seed=self.seed)
        moved = collapsed(whole, labels_of(adata), factor=self.factor)
        scale = self.jitter * mean_deviation(whole)
        noise = np.random.default_rng(self.seed).normal(scale=scale, size=whole.shape)
        return np.asarray(moved + noise, dtype=np.float32)


class ShuffledWithinType:
    """Rows of Harmony's embedding permuted among the cells of each type: types without structure inside.

    Parameters
    ----------
    seed
        Seed of Harmony and of the permutation.
    """

    spec = replace(
        _DAMAGED,
        method_id="shuffled_within_type",
        name="Control: shuffled within type",
        canary="shuffled in type",
        description="Harmony's embedding, its rows permuted among the cells of each type.",
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the permuted embedding, (n_obs, n_components)."""
        label = labels_of(adata)
        generator = np.random.default_rng(self.seed)
        source = np.arange(adata.n_obs)
        for name in np.unique(label):
            cells = np.flatnonzero(label == name)
            source[cells] = generator.permutation(cells)
        return np.asarray(undamaged(adata, seed=self.seed)[source], dtype=np.float32)


class NoiseDimensions:
    """Harmony's embedding with further dimensions of noise, as wide as its own dimensions on average.

    Parameters
    ----------
    n_dimensions
        Number of dimensions that are added.
    scale
        Standard deviation of the noise, in units of the mean deviation of Harmony's dimensions.
    seed
        Seed of Harmony and of the noise.
    """

    spec = replace(
        _DAMAGED,
        method_id="noise_dimensions",
        name="Control: noise dimensions",
        labels="none",
        canary="noise dimensions",
        description="Harmony's embedding and as many dimensions of noise.",
    )

    def __init__(self, *, n_dimensions: int = 50, scale: float = 1.0, seed: int = 0) -> None:
        self.n_dimensions = n_dimensions
        self.scale = scale
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return Harmony's dimensions, then those of noise, (n_obs, n_components + n_dimensions)."""
        whole = undamaged(adata, seed=self.seed)
        scale = self.scale * mean_deviation(whole)
        size = (adata.n_obs, self.n_dimensions)
        noise = np.random.default_rng(self.seed).normal(scale=scale, size=size)
        return np.asarray(np.hstack([whole, noise]), dtype=np.float32)


class TypesMerged:
    """Harmony's embedding with types merged in pairs: both types of a pair have the same mean.

    The nearest two types are a pair, then the nearest two of the others, and so on; with an odd number of
    types, the last stays where it is. Within a type, nothing changes.

    Parameters
    ----------
    seed
        Seed of Harmony.

    Raises
    ------
    NotApplicableError
        If all cells have one label.
    """

    spec = replace(
        _DAMAGED,
        method_id="types_merged",
        name="Control: types merged",
        canary="types merged",
        description="Harmony's embedding, its types moved onto each other in pairs.",
    )

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the damaged embedding, (n_obs, n_components)."""
        names, code = np.unique(labels_of(adata), return_inverse=True)
        if len(names) < 2:
            raise NotApplicableError(
                f"{self.spec.method_id}: all {adata.n_obs} cells have one label ({', '.join(names)}); two "
                "are needed to merge them. Use data with more labels."
            )
        whole = undamaged(adata, seed=self.seed)
        means = np.stack([whole[code == i].mean(axis=0) for i in range(len(names))])
        shift = np.zeros_like(means)
        for pair in map(list, nearest_pairs(means)):
            shift[pair] = means[pair].mean(axis=0) - means[pair]
        return np.asarray(whole + shift[code], dtype=np.float32)


class RandomProjection:
    """Expression projected on random directions: most of the structure is diluted, nothing is corrected.

    Parameters
    ----------
    n_components
        Number of directions.
    seed
        Seed of the directions.
    """

    spec = replace(
        _DAMAGED,
        method_id="random_projection",
        name="Control: random projection",
        labels="none",
        needs_batches=False,
        requires=("sklearn",),
        version=1,
        canary="random projection",
        description="Expression projected on random directions, without correction.",
    )

    def __init__(self, *, n_components: int = 50, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the projected expression, (n_obs, n_components)."""
        from sklearn.random_projection import GaussianRandomProjection

        projection = GaussianRandomProjection(self.n_components, random_state=self.seed)
        projected: Any = projection.fit_transform(adata.X)
        return np.asarray(projected, dtype=np.float32)
