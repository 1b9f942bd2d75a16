"""fastMNN: correction of one batch after the other by mutual nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._inputs import batches_of, require_batches

if TYPE_CHECKING:
    from anndata import AnnData

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class FastMNN:
    """fastMNN, reimplemented from its description: batches are merged by pairs of mutual nearest neighbours.

    Cells are scaled to unit length and projected onto principal components in which all batches have equal
    weight. Then one batch after the other is merged into the previous ones. Pairs of cells that are among
    each other's nearest neighbours give correction vectors, and every cell of the new batch moves by a
    weighted mean of the corrections of the paired cells nearest to it. Variation along the mean correction
    is removed from both sides first, because it would lead to wrong neighbours.

    Batches are merged in order of decreasing size. The original uses the order given by the user, and
    recommends this one.

    Parameters
    ----------
    n_components
        Number of dimensions of the embedding; fewer if the data have fewer.
    k
        Number of nearest neighbours for pairs, and of paired cells for the correction of a cell.
    bandwidth
        Width of the weights, in units of the distance to the middle one of these ``k`` cells.
    seed
        Not used; there is no randomness.

    Raises
    ------
    NotApplicableError
        If all cells come from one batch, or if a cell expresses none of the genes.
    """

    spec = MethodSpec(
        method_id="fastmnn",
        name="fastMNN",
        tasks=("integration",),
        description="Batches are merged one by one, corrected by pairs of mutual nearest neighbours.",
        scaling="given",
        needs_batches=True,
        is_reimplementation=True,
        doi="10.1038/nbt.4091",
        url="https://bioconductor.org/packages/batchelor",
        license="BSD-3-Clause",
        requires=("sklearn",),
    )

    def __init__(self, *, n_components: int = 50, k: int = 20, bandwidth: float = 3.0, seed: int = 0) -> None:
        self.n_components = n_components
        self.k = k
        self.bandwidth = bandwidth
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the corrected components, (n_obs, n_components)."""
        require_batches(adata, self.spec.method_id)
        batch = batches_of(adata)
        scores = balanced_components(unit_length(adata.X), batch, n_components=self.n_components)
        names, sizes = np.unique(batch, return_counts=True)
        merged = np.flatnonzero(batch == names[sizes.argmax()])
        removed: list[Floats] = []
        for name in names[np.argsort(-sizes, kind="stable")][1:]:
            cells = np.flatnonzero(batch == name)
            current = scores[cells]
            for direction in removed:
                current = without_variation(current, direction)
            reference, current, direction = merge(scores[merged], current, k=self.k, bandwidth=self.bandwidth)
            scores[merged], scores[cells] = reference, current
            removed.append(direction)
            merged = np.concatenate([merged, cells])
        return scores.astype(np.float32)


def unit_length(X: Any) -> Any:
    """Scale every cell to length 1; raise if a cell has no expression, and thus no direction."""
    from scipy.sparse import csr_matrix, diags

    sparse = csr_matrix(X, dtype=np.float64)
    length = np.sqrt(np.asarray(sparse.multiply(sparse).sum(axis=1)).ravel())
    if not length.all():
        raise NotApplicableError(
            f"fastmnn: {np.sum(length == 0)} cells express none of the genes and cannot be scaled to length "
            "1. Remove these cells."
        )
    return diags(1.0 / length) @ sparse


def balanced_components(X: Any, batch: NDArray[np.str_], *, n_components: int) -> Floats:
    """Return principal components in which all batches have equal weight, (n_obs, n_components).

    Cells are centred on the mean of the batch means. Components are the leading eigenvectors of a
    (n_vars, n_vars) matrix, the sum over batches of the mean products of centred genes, so that no dense
    matrix of cells is needed.
    """
    from scipy.linalg import eigh
    from scipy.sparse import diags

    names, code, sizes = np.unique(batch, return_inverse=True, return_counts=True)
    weight = 1.0 / sizes[code]
    centre = np.asarray(X.T @ weight).ravel() / len(names)
    products = (X.T @ diags(weight) @ X).toarray() - len(names) * np.outer(centre, centre)
    n_vars = len(products)
    kept = min(n_components, n_vars, X.shape[0] - 1)
    _, vectors = eigh(products, subset_by_index=[n_vars - kept, n_vars - 1])
    vectors = vectors[:, ::-1]
    return np.asarray(X @ vectors - centre @ vectors)


def merge(reference: Floats, current: Floats, *, k: int, bandwidth: float) -> tuple[Floats, Floats, Floats]:
    """Correct the cells of a batch towards a reference, (n_cells, n_dims) each.

    Both are returned without variation along the mean correction, and with them this correction (n_dims,).
    """
    first, second = mutual_pairs(reference, current, k=k)
    paired, corrections = mean_corrections(reference, current, first, second)
    direction = np.asarray(corrections.mean(axis=0))
    reference, current = without_variation(reference, direction), without_variation(current, direction)
    _, corrections = mean_corrections(reference, current, first, second)
    moved = current + smoothed(current, paired, corrections, k=k, bandwidth=bandwidth)
    return reference, moved, direction


def mutual_pairs(first: Floats, second: Floats, *, k: int) -> tuple[Ints, Ints]:
    """Return the positions of all pairs of cells of two batches that are among each other's k nearest.

    Examples
    --------
    >>> first, second = np.array([[0.0], [1.0], [9.0]]), np.array([[0.2], [6.0]])
    >>> [positions.tolist() for positions in mutual_pairs(first, second, k=1)]
    [[0, 2], [0, 1]]
    """
    from scipy.sparse import csr_matrix

    shape = len(first), len(second)
    of_first, _ = _nearest(first, second, k)
    of_second, _ = _nearest(second, first, k)
    rows = np.repeat(np.arange(len(first)), of_first.shape[1])
    columns = np.repeat(np.arange(len(second)), of_second.shape[1])
    ahead = csr_matrix((np.ones(rows.size), (rows, of_first.ravel())), shape=shape)
    back = csr_matrix((np.ones(columns.size), (of_second.ravel(), columns)), shape=shape)
    pairs = ahead.multiply(back).tocoo()
    return pairs.row.astype(np.int64), pairs.col.astype(np.int64)


def mean_corrections(reference: Floats, current: Floats, first: Ints, second: Ints) -> tuple[Ints, Floats]:
    """Return the cells of ``current`` that are in pairs, and the mean vector from each to its partners."""
    from scipy.sparse import csr_matrix

    paired, position, n_pairs = np.unique(second, return_inverse=True, return_counts=True)
    mean = csr_matrix((1.0 / n_pairs[position], (position, np.arange(len(second)))))
    return paired, np.asarray(mean @ (reference[first] - current[second]))


def without_variation(X: Floats, direction: Floats) -> Floats:
    """Replace coordinates along a direction by their mean; a direction of length 0 changes nothing.

    Examples
    --------
    >>> without_variation(np.array([[0.0, 5.0], [4.0, 6.0]]), np.array([2.0, 0.0])).tolist()
    [[2.0, 5.0], [2.0, 6.0]]
    """
    length = np.linalg.norm(direction)
    if length == 0:
        return X
    unit = direction / length
    along = X @ unit
    return np.asarray(X - np.outer(along - along.mean(), unit))


def smoothed(current: Floats, paired: Ints, corrections: Floats, *, k: int, bandwidth: float) -> Floats:
    """Return for every cell the weighted mean correction of the k paired cells nearest to it."""
    nearest, distances = _nearest(current, current[paired], k)
    weights = tricube(distances, bandwidth=bandwidth)
    return np.asarray(np.einsum("ij,ijd->id", weights, corrections[nearest]))


def tricube(distances: Floats, *, bandwidth: float) -> Floats:
    """Return weights of neighbours, (n_obs, k), which decrease with distance and sum to 1 in each row.

    A weight is (1 - (d / h)^3)^3 up to distance h and 0 beyond; h is ``bandwidth`` times the distance to
    the middle neighbour, of rank k / 2 rounded up. Distances are in ascending order.
    """
    middle = distances[:, (distances.shape[1] + 1) // 2 - 1]
    width = np.maximum(bandwidth * middle, 1e-8)[:, None]
    weights = (1 - np.minimum(distances / width, 1.0) ** 3) ** 3
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _nearest(cells: Floats, others: Floats, k: int) -> tuple[Ints, Floats]:
    """Return positions and distances of the k nearest others of every cell; k is capped at their number."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(k, len(others)), algorithm="brute").fit(others)
    distances, indices = search.kneighbors(cells)
    return indices, distances
