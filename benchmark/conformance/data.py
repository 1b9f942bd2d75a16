"""Small, easy data for the conformance checks, and comparisons of what methods make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import BATCH, COUNTS, LABEL, TARGET_SUM
from cellular_bench.core.layers import named_layers

if TYPE_CHECKING:
    from anndata import AnnData

LABELS = ("acinar", "beta", "delta")
SHARES = (0.4, 0.35, 0.25)
BATCHES = ("donor1", "donor2")
N_MARKERS = 15
#: Labels of that many nearest cells show what an embedding knows about a cell.
N_NEIGHBORS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Training cells and cells to be scored, both with all their labels."""

    train: AnnData
    query: AnnData

    def map(self, change: Callable[[AnnData], AnnData]) -> Example:
        """Return an example whose two parts went through a function, as copies."""
        return Example(train=change(self.train.copy()), query=change(self.query.copy()))


def simulate(*, n_train: int = 240, n_query: int = 120, n_genes: int = 80, seed: int = 0) -> Example:
    """Draw cells of three types, far apart, in two batches that differ a little.

    Counts are Poisson with log-normal library sizes. Cells come in random order of type and batch;
    their names are ascending numbers, so only the checks that rename or reorder cells are hard on
    a method that sorts by name.

    Returns
    -------
    Example
        In the data contract's form: ``X`` is ``log1p`` of counts per 10,000, counts in a layer.
    """
    generator = np.random.default_rng(seed)
    n_obs = n_train + n_query
    label = generator.choice(len(LABELS), size=n_obs, p=SHARES)
    batch = generator.integers(len(BATCHES), size=n_obs)
    mean = np.tile(generator.gamma(2.0, 1.0, size=n_genes), (len(LABELS), 1))
    for position in range(len(LABELS)):
        mean[position, position * N_MARKERS : (position + 1) * N_MARKERS] *= 6.0
    shift = np.exp(generator.normal(scale=0.3, size=(len(BATCHES), n_genes)))
    expected = mean[label] * shift[batch]
    expected *= generator.lognormal(7.5, 0.3, size=(n_obs, 1)) / expected.sum(axis=1, keepdims=True)
    adata = _annotated(generator.poisson(expected), label, batch, genes=generator.permutation(n_genes))
    return Example(train=adata[:n_train].copy(), query=adata[n_train:].copy())


def _annotated(
    counts: NDArray[np.int64], label: NDArray[np.int64], batch: NDArray[np.int64], *, genes: NDArray[np.int64]
) -> AnnData:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    names = [f"{1000 + position}" for position in range(len(counts))]
    obs = pd.DataFrame(
        {
            BATCH: pd.Categorical(np.asarray(BATCHES)[batch]),
            LABEL: pd.Categorical(np.asarray(LABELS)[label]),
        },
        index=names,
    )
    lognorm = np.log1p(counts / counts.sum(axis=1, keepdims=True) * TARGET_SUM)
    return AnnData(
        csr_matrix(lognorm.astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=[f"GENE{number}" for number in genes]),
        layers={COUNTS: csr_matrix(counts.astype(np.float32))},
    )


def misnamed(adata: AnnData) -> AnnData:
    """Name each cell after the type of another: no number, and sorted differently than the cells come."""
    label = np.asarray(adata.obs[LABEL], dtype=np.str_)
    other = np.asarray(LABELS)[(np.searchsorted(LABELS, label) + 1) % len(LABELS)]
    names = adata.obs_names[::-1]
    adata.obs_names = [f"{name}_AAACC-{number}" for name, number in zip(other, names, strict=True)]
    return adata


def reordered(adata: AnnData, *, prefix: str, order: NDArray[np.int64]) -> AnnData:
    """Return cells in another order, with neutral names such as ``q0000017`` that ascend in it."""
    moved = adata[order].copy()
    moved.obs_names = [f"{prefix}{position:07}" for position in range(moved.n_obs)]
    return moved


def exchanged(example: Example) -> Example:
    """Return the query, with wrong labels, as training cells, and the training cells as query."""
    import pandas as pd

    train = example.query.copy()
    codes = np.searchsorted(LABELS, np.asarray(train.obs[LABEL], dtype=np.str_))
    train.obs[LABEL] = pd.Categorical(np.asarray(LABELS)[(codes + 1) % len(LABELS)])
    return Example(train=train, query=example.train.copy())


def one_batch(adata: AnnData) -> AnnData:
    """Put all cells into one batch."""
    import pandas as pd

    adata.obs[BATCH] = pd.Categorical([BATCHES[0]] * adata.n_obs)
    return adata


def with_rare_label(example: Example) -> Example:
    """Leave one training cell of the last label."""
    label = np.asarray(example.train.obs[LABEL])
    rare = np.flatnonzero(label == LABELS[-1])[1:]
    kept = np.setdiff1d(np.arange(label.size), rare)
    return Example(train=example.train[kept].copy(), query=example.query)


def difference(before: AnnData, after: AnnData) -> str | None:
    """Name the first part of a data set that is not as it was, or None."""
    for part in ("obs_names", "var_names"):
        if list(getattr(before, part)) != list(getattr(after, part)):
            return part
    for part in ("obs", "var"):
        if not getattr(before, part).equals(getattr(after, part)):
            return part
    for part in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        if set(getattr(before, part)) != set(getattr(after, part)):
            return part
    if not _same_matrix(before.X, after.X):
        return "X"
    layers = named_layers(after)
    changed = [name for name, layer in named_layers(before).items() if not _same_matrix(layer, layers[name])]
    return f'layers["{changed[0]}"]' if changed else None


def _same_matrix(before: Any, after: Any) -> bool:
    if type(before) is not type(after) or before.dtype != after.dtype or before.shape != after.shape:
        return False
    return bool(np.array_equal(before.toarray(), after.toarray()))


def pairwise_distances(X_emb: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return Euclidean distances between rows, (n_obs, n_obs)."""
    X = X_emb.astype(np.float64)
    square = (X**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(square[:, None] + square[None, :] - 2.0 * X @ X.T, 0.0)))


def distance_agreement(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> float:
    """Correlate the distances between cells in two embeddings: 1 = same shape, near 0 = other cells.

    Rotations, reflections and scale do not matter, nor much numerical noise.
    """
    above = np.triu_indices(len(first), k=1)
    distances = [pairwise_distances(X_emb)[above] for X_emb in (first, second)]
    if min(np.ptp(values) for values in distances) == 0.0:
        return 0.0
    return float(np.corrcoef(distances[0], distances[1])[0, 1])


def neighbor_accuracy(X_emb: NDArray[np.floating[Any]], label: Sequence[str] | NDArray[np.str_]) -> float:
    """Share of cells with the label that most of their nearest other cells have, 0 to 1."""
    distances = pairwise_distances(X_emb)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :N_NEIGHBORS]
    votes = np.zeros(distances.shape)
    np.put_along_axis(votes, nearest, 1.0, axis=1)
    return link_accuracy(votes, label)


def link_accuracy(links: Any, label: Sequence[str] | NDArray[np.str_]) -> float:
    """Share of cells with the label that has most weight among the other cells they are linked to, 0 to 1."""
    names, code = np.unique(np.asarray(label, dtype=np.str_), return_inverse=True)
    own = links.diagonal()[:, None] * np.eye(names.size)[code]
    votes = np.asarray(links @ np.eye(names.size)[code]) - own
    return float(np.mean(votes.argmax(axis=1) == code))
