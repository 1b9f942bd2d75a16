"""What the structure of an embedding is compared with: made once per data set, from expression alone.

No embedding takes part: every part is computed within one batch, where there is nothing to correct.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.genes import moments, normalised_dispersion
from cellular_bench.metrics.inputs import Floats, Ints, encode
from cellular_bench.metrics.numerics.approximate import stratified_sample
from cellular_bench.metrics.numerics.distances import centred_neighbors
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content
from cellular_bench.metrics.profiles import Shortcut

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Of the consensus of types: least cells of a type in all and of a batch, genes and components per batch.
MIN_TYPE_CELLS, MIN_BATCH_CELLS, N_GENES, N_TYPE_COMPONENTS = 10, 100, 1000, 10
#: Share of the cells of a type that are cut at both ends of a dimension before the mean.
TRIM = 0.05
#: Cells of a group: fewer do not count, and so many are drawn of more.
MIN_GROUP_CELLS, MOST_GROUP_CELLS = 30, 1000
#: Most components of a group that may carry structure, and permutations that show what chance gives.
MOST_SIGNAL, N_PERMUTATIONS = 10, 3
#: A component carries structure if its variance is so many times the largest by chance.
MARGIN = 1.1
#: Components of a batch, and the neighbours that are compared.
N_COMPONENTS, N_NEIGHBOURS = 30, 15
#: Least neighbours within a group.
MIN_NEIGHBOURS = 3
#: Cells of a batch per cluster, least and most clusters, and starts of k-means.
CLUSTER_CELLS, LEAST_CLUSTERS, MOST_CLUSTERS, CLUSTER_STARTS = 100, 2, 20, 3
#: Relative accuracy of variances: far finer than the margin.
TOLERANCE = 1e-6


class Group(NamedTuple):
    """A group of cells that counts.

    Attributes
    ----------
    label
        Code of the label that it is a part of.
    place, cells
        Where the group is among the cells of all groups, and (n_cells,) positions of the cells.
    scores
        (n_cells, n_signal) scores on the signal components.
    explained
        Share of their variance that the nearest cells by the scores themselves explain.
    """

    label: int
    place: slice
    cells: Ints
    scores: Floats
    explained: float

    @property
    def n_neighbours(self) -> int:
        """Number of nearest cells that are looked at."""
        return max(MIN_NEIGHBOURS, min(N_NEIGHBOURS, (len(self.cells) - 1) // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups of cells of one batch, and the components that carry structure within each.

    Attributes
    ----------
    cells
        (n,) positions of the cells, group by group.
    starts
        (n_groups + 1,) first of each group in ``cells``, and their number.
    label
        (n_groups,) code of the label that the group is a part of.
    n_signal
        (n_groups,) number of components that carry structure; a group with 0 does not count.
    scores
        (n, 10) scores of the cells on these components; 0 beyond their number.
    explained
        (n_groups,) share of their variance that the nearest cells by the scores themselves explain.
    """

    cells: Ints
    starts: Ints
    label: Ints
    n_signal: Ints
    scores: Floats
    explained: Floats

    def is_sound(self, n_obs: int) -> Iterator[bool]:
        """Yield whether positions are those of cells, and arrays have lengths that belong together."""
        n, n_groups = len(self.cells), len(self.n_signal)
        yield _are_positions(self.cells, n_obs) and _are_positions(self.label, n_obs)
        yield len(self.label) == n_groups and self.starts.shape == (n_groups + 1,)
        yield _are_positions(self.starts, n + 1) and _are_positions(self.n_signal, MOST_SIGNAL + 1)
        yield self.starts[0] == 0 and self.starts[-1] == n
        yield bool((np.diff(self.starts) >= MIN_GROUP_CELLS).all())
        yield self.scores.shape == (n, MOST_SIGNAL) and self.scores.dtype.kind == "f"
        yield self.explained.shape == (n_groups,) and self.explained.dtype.kind == "f"
        yield bool(np.isfinite(self.scores).all() and np.isfinite(self.explained).all())

    def __iter__(self) -> Iterator[Group]:
        """Yield every group that counts."""
        for number in np.flatnonzero(self.n_signal).tolist():
            place = slice(int(self.starts[number]), int(self.starts[number + 1]))
            yield Group(
                label=int(self.label[number]),
                place=place,
                cells=self.cells[place],
                scores=self.scores[place, : self.n_signal[number]],
                explained=float(self.explained[number]),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureReference:
    """Structure of the types of a data set within its batches; made by :func:`structure_reference`.

    Attributes
    ----------
    n_obs
        Cells of an embedding that is compared.
    batch
        (n_used,) codes of batches.
    neighbours
        (n_used, 15) positions of the nearest cells of the same batch, the nearest first, by 30 principal
        components of the batch; -1 in batches with fewer than 30 cells.
    cluster_groups
        Groups of each batch by k-means, which need no labels.
    label
        (n_used,) codes of labels; None without labels, and so are the attributes below.
    types
        (n_types,) codes of the labels that are in the consensus.
    consensus
        (n_types, n_types) distances between types, each column relative to its largest, averaged over
        batches; NaN for types that share no batch.
    label_groups
        Groups by batch and label.
    within_share
        Share of the variance within batches that lies within labels, by 30 principal components of each.
    skipped_types
        Names of labels with enough cells, but none in a batch that is large enough for the consensus.
    cells
        (n_used,) ascending positions of the cells that are used, if they are a sample; None: all cells.
    seed
        Seed of all draws.
    """

    n_obs: int
    batch: Ints
    neighbours: Ints
    cluster_groups: Groups
    label: Ints | None = None
    types: Ints | None = None
    consensus: Floats | None = None
    label_groups: Groups | None = None
    within_share: float | None = None
    skipped_types: tuple[str, ...] = ()
    cells: Ints | None = None
    seed: int = 0

    def used(self, X_emb: Floats) -> Floats:
        """Return the rows of an embedding that are compared.

        Raises
        ------
        ValueError
            If it has another number of cells.
        """
        if len(X_emb) != self.n_obs:
            raise ValueError(f"X_emb has {len(X_emb)} cells and the structure is of {self.n_obs}")
        return X_emb if self.cells is None else X_emb[self.cells]

    @property
    def shortcuts(self) -> tuple[Shortcut, ...]:
        """What a reader of the values has to know: labels that do not count, and a sample of the cells."""
        return tuple(self._shortcuts())

    def _shortcuts(self) -> Iterator[Shortcut]:
        if self.label is not None and self.label_groups is not None:
            n_labels = int(self.label.max()) + 1
            n_counted = len(np.unique(self.label_groups.label[self.label_groups.n_signal > 0]))
            if n_counted < n_labels:
                yield Shortcut(
                    quantity="labels",
                    description=(
                        f"{n_counted} of {n_labels} labels count: the others have no {MIN_GROUP_CELLS} cells "
                        "in a batch, or differ by no more than chance within each batch."
                    ),
                    figures={"n_counted": n_counted, "n_labels": n_labels},
                    metric_ids=("state_kept",),
                )
        if self.skipped_types:
            yield Shortcut(
                quantity="types",
                description=(
                    f"Types without a cell in a batch of {MIN_BATCH_CELLS} cells are left out: "
                    f"{', '.join(self.skipped_types)}."
                ),
                figures={"n_left_out": len(self.skipped_types)},
                metric_ids=("scgraph", "type_geometry"),
            )
        if self.cells is not None:
            yield Shortcut(
                quantity="cells",
                description=(
                    f"Structure of {len(self.cells)} of {self.n_obs} cells, drawn from every label and batch "
                    f"(seed {self.seed})."
                ),
                figures={"n_sampled": len(self.cells), "n_obs": self.n_obs, "seed": self.seed},
                metric_ids=STRUCTURE_METRICS,
            )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all parts as arrays by name, for a file; what is None is missing."""
        found: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Groups):
                found |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
            elif field.name == "skipped_types":
                found[field.name] = np.array(value, dtype=str)
            elif value is not None:
                found[field.name] = np.asarray(value)
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> StructureReference:
        """Return the reference whose :meth:`arrays` these are.

        Raises
        ------
        ValueError
            If they are not of a reference.
        """
        found: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
        try:
            for name in ("cluster_groups", "label_groups"):
                if f"{name}.cells" in arrays:
                    parts = {part.name: arrays[f"{name}.{part.name}"] for part in fields(Groups)}
                    found[name] = Groups(**parts)
            for name, kind in (("n_obs", int), ("seed", int), ("within_share", float)):
                if name in found:
                    found[name] = kind(found[name])
            found["skipped_types"] = tuple(map(str, found["skipped_types"].tolist()))
            reference = cls(**found)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the arrays of the structure are incomplete: {error}") from error
        if not all(reference._is_sound()):
            raise ValueError("the arrays of the structure do not belong together")
        return reference

    def _is_sound(self) -> Iterator[bool]:
        """Yield whether positions are those of cells, and arrays have lengths that belong together."""
        n = self.n_obs if self.cells is None else len(self.cells)
        if self.cells is not None:
            yield _are_positions(self.cells, self.n_obs) and bool((np.diff(self.cells) > 0).all())
        yield _are_positions(self.batch, n) and len(self.batch) == n
        yield self.neighbours.shape == (n, N_NEIGHBOURS) and _are_positions(self.neighbours + 1, n + 1)
        for groups in (self.cluster_groups, self.label_groups):
            yield groups is None or all(groups.is_sound(n))
        of_labels = (self.label, self.types, self.consensus, self.label_groups, self.within_share)
        yield len({part is None for part in of_labels}) == 1
        if self.label is not None and self.types is not None and self.consensus is not None:
            yield _are_positions(self.label, n) and len(self.label) == n
            yield _are_positions(self.types, n) and self.consensus.shape == (len(self.types),) * 2
            yield bool(np.isin(self.types, self.label).all()) and self.consensus.dtype.kind == "f"


#: Metrics that depend on the reference.
STRUCTURE_METRICS = (
    "type_geometry", "state_kept", "spread_kept", "scgraph", "neighbours_kept", "state_kept_clusters"
)  # fmt: skip


def structure_reference(
    expression: Any,
    batch: ArrayLike,
    label: ArrayLike | None = None,
    *,
    highly_variable: NDArray[np.bool_],
    depth: ArrayLike,
    most_cells: int | None = None,
    seed: int = 0,
) -> StructureReference:
    """Work out the structure of types within batches, from expression alone.

    - *Consensus of types* (Wang and others): in each batch of at least 100 cells, 10 principal components of
      its 1,000 most variable genes (scanpy's flavor ``seurat``); distances between the trimmed means of its
      types, each column relative to its largest; the mean over batches, again relative. Types with fewer than
      10 cells in all are left out.
    - *Signal components* of each batch and label with at least 30 cells (of more than 1,000, so many are
      drawn): principal components of the highly variable genes, after a linear fit on ``depth``, whose
      variance is more than 1.1 times the largest of three matrices with every gene permuted over the cells,
      at most 10 (Horn's parallel analysis).
    - The same for *clusters* of each batch: k-means on 30 components, a cluster per 100 cells, 2 to 20.
    - *Neighbours*: the 15 nearest cells of the same batch by 30 components.
    - *Spread*: the share of the variance of 30 components of each batch that lies within labels.

    Parameters
    ----------
    expression
        (n_obs, n_vars) log-normalised expression of all genes, sparse or dense.
    batch
        (n_obs,) batches.
    label
        (n_obs,) labels; None: only the parts that need none.
    highly_variable
        (n_vars,) mask of the highly variable genes.
    depth
        (n_obs,) what differs between cells for technical reasons: see :func:`cell_depth`.
    most_cells
        With more cells, a sample of this number is used, drawn from every label and batch.
    seed
        Seed of all draws. Draws also depend on the order of the cells, and on that of the names of batches
        and labels: where a component is close to the limit, it can count for one order and not for another.

    Raises
    ------
    UndefinedError
        If there are fewer than two cells or highly variable genes, or expression is not finite.
    ValueError
        If the arrays are not of the same cells and genes.

    References
    ----------
    doi:10.1007/BF02289447 (parallel analysis), doi:10.1101/2024.04.02.587824 (consensus of types)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, batch = np.log1p(rng.poisson(1.0, (120, 40))), ["a", "b"] * 60
    >>> found = structure_reference(X, batch, highly_variable=np.ones(40, bool), depth=np.log(X.sum(axis=1)))
    >>> found.neighbours.shape, found.consensus is None
    ((120, 15), True)
    """
    X = _checked(expression, highly_variable, depth)
    n_obs = X.shape[0]
    _, batches = encode(batch, "batch", n_obs=n_obs)
    names, labels = (None, None) if label is None else encode(label, "label", n_obs=n_obs)
    depths, cells = np.asarray(depth, dtype=np.float64), None
    if most_cells is not None and n_obs > most_cells:
        groups = np.zeros(n_obs, dtype=np.int64) if labels is None else labels
        content = row_content(np.column_stack([depths, np.asarray(X.sum(axis=1)), X.getnnz(axis=1)]))
        ranks = random_ranks(content, groups, batches, seed=seed)
        cells = stratified_sample(groups, batches, most_cells, ranks)
        X, depths, batches = X[cells], depths[cells], batches[cells]
        labels = None if labels is None else labels[cells]
    variable = X[:, np.flatnonzero(highly_variable)]
    parts = [np.flatnonzero(batches == code) for code in np.unique(batches)]
    components = [_components(variable[part], N_COMPONENTS) for part in parts]
    signal = _Signal(variable, depths, seed)
    reference = StructureReference(
        n_obs=n_obs,
        batch=batches,
        neighbours=_neighbours(parts, components),
        cluster_groups=signal.groups(list(_clusters(parts, components, seed))),
        cells=cells,
        seed=seed,
    )
    if labels is None or names is None:
        return reference
    types, consensus, skipped = consensus_of_types(X, parts, labels, len(names))
    return replace(
        reference,
        label=labels,
        types=types,
        consensus=consensus,
        skipped_types=tuple(str(names[code]) for code in skipped),
        label_groups=signal.groups(list(_label_groups(parts, labels))),
        within_share=within_share(components, [labels[part] for part in parts]),
    )


def cell_depth(X: Any, *, are_counts: bool) -> Floats:
    """Return the logarithm of the sum of the counts of each cell, or else of its number of expressed genes.

    Parameters
    ----------
    X
        (n_obs, n_vars) counts of all genes, or other values that are 0 where the count is.

    Examples
    --------
    >>> np.exp(cell_depth(np.array([[1, 0, 3], [0, 5, 0]]), are_counts=True)).round().tolist()
    [4.0, 5.0]
    """
    values = np.asarray((X if are_counts else X > 0).sum(axis=1), dtype=np.float64).ravel()
    return np.log(np.maximum(values, 1.0))


def within_share(X: Sequence[NDArray[np.floating[Any]]], label: Sequence[Ints]) -> float:
    """Return the share of the variance within batches that lies within labels; NaN if there is none.

    Parameters
    ----------
    X, label
        (n_cells, n_dims) coordinates and (n_cells,) codes of labels of each batch.
    """
    within = total = 0.0
    for coordinates, codes in zip(X, label, strict=True):
        centred = coordinates.astype(np.float64) - coordinates.mean(axis=0, dtype=np.float64)
        squares = float(np.einsum("ij,ij->", centred, centred))
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        sums = np.add.reduceat(centred[order], starts, axis=0)
        sizes = np.bincount(codes)[present]
        within += squares - float(np.sum(np.einsum("ij,ij->i", sums, sums) / sizes))
        total += squares
    return max(within, 0.0) / total if total > 0 else np.nan


def nearest(X: Floats, k: int, ranks: Ints) -> Ints:
    """Return the k nearest other cells, (n_obs, k); of those at one distance, some drawn by ranks."""
    return centred_neighbors(X - X.mean(axis=0), k + 1, ranks).indices[:, 1:]


def explained_by(near: Ints, scores: Floats) -> Floats:
    """Return how much of the variance of scores neighbours explain; the mean over the cells is a share.

    Of a cell, (n_obs,): 1 - its squared distance from the mean of its neighbours / the mean square.
    """
    rest = scores - scores[near].mean(axis=1)
    mean = np.einsum("ij,ij->", scores, scores) / len(scores)
    explained: Floats = 1 - np.einsum("ij,ij->i", rest, rest) / mean
    return explained


def trimmed_means(X: NDArray[np.floating[Any]], codes: Ints, kept: Ints) -> Floats:
    """Return the mean of each dimension over the cells of some groups, without their extremes.

    Of n cells, ``int(0.05 n)`` are cut at both ends of each dimension.

    Parameters
    ----------
    X
        (n_obs, n_dims) coordinates.
    codes
        (n_obs,) codes of groups.
    kept
        (n_kept,) the groups, none of them empty.

    Returns
    -------
    (n_kept, n_dims) means.
    """
    order = np.argsort(codes, kind="stable")
    first, last = (np.searchsorted(codes[order], kept, side=side) for side in ("left", "right"))
    means = np.empty((len(kept), X.shape[1]))
    for row, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        values = np.ascontiguousarray(X[order[begin:end]].T)
        cut, n = int(TRIM * (end - begin)), end - begin
        if cut:
            values.sort(axis=1)
            values = values[:, cut : n - cut]
        means[row] = values.mean(axis=1, dtype=np.float64)
    return means


def relative_distances(means: Floats) -> Floats:
    """Return Euclidean distances between points, each column relative to its largest, (n, n).

    A column without a positive distance is NaN.
    """
    squared = ((means[:, None] - means[None]) ** 2).sum(axis=2)
    return by_largest(np.sqrt(squared))


def by_largest(distances: Floats) -> Floats:
    """Divide each column by its largest value; NaN where that is not positive."""
    largest = np.max(np.nan_to_num(distances, nan=0.0), axis=0, initial=0.0)
    relative: Floats = distances / np.where(largest > 0, largest, np.nan)
    return relative


def _are_positions(numbers: NDArray[Any], n: int) -> bool:
    """Return whether all are whole numbers from 0 to n - 1."""
    return numbers.dtype.kind == "i" and bool(((numbers >= 0) & (numbers < n)).all())


def _checked(expression: Any, highly_variable: NDArray[np.bool_], depth: ArrayLike) -> csr_matrix:
    from scipy import sparse

    X = sparse.csr_matrix(expression)
    if np.shape(depth) != (X.shape[0],) or np.shape(highly_variable) != (X.shape[1],):
        raise ValueError(
            f"expression has shape {X.shape}, depth {np.shape(depth)} and highly_variable "
            f"{np.shape(highly_variable)}; expected (n_obs, n_vars), (n_obs,) and (n_vars,)"
        )
    if not np.isfinite(X.data).all() or not np.isfinite(np.asarray(depth, dtype=np.float64)).all():
        raise UndefinedError("expression or depth has NaN or infinite values")
    if X.shape[0] < 2 or np.count_nonzero(highly_variable) < 2:
        raise UndefinedError(
            f"structure needs two cells and highly variable genes; there are {X.shape[0]} cells and "
            f"{np.count_nonzero(highly_variable)} such genes"
        )
    return X


def _components(X: csr_matrix, n_components: int) -> NDArray[np.float32]:
    """Return principal components of the cells of a batch, fewer where there are few cells or genes.

    Where no gene varies, there is one, of zeros.
    """
    limit = min(X.shape)
    if not (X.max(axis=0) != X.min(axis=0)).nnz:
        return np.zeros((X.shape[0], 1), dtype=np.float32)
    return principal_components(X, n_components=min(n_components, max(limit - 1, 1)))


def _neighbours(parts: Sequence[Ints], components: Sequence[NDArray[np.float32]]) -> Ints:
    near = np.full((sum(map(len, parts)), N_NEIGHBOURS), -1, dtype=np.int64)
    for part, X in zip(parts, components, strict=True):
        if len(part) >= MIN_GROUP_CELLS:
            X64 = X.astype(np.float64)
            near[part] = part[nearest(X64, N_NEIGHBOURS, random_ranks(row_content(X64)))]
    return near


def _clusters(
    parts: Sequence[Ints], components: Sequence[NDArray[np.float32]], seed: int
) -> Iterator[tuple[int, Ints]]:
    """Yield the clusters of every batch that has cells enough, each numbered for itself.

    In a batch, they are in the order of their numbers as text.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    number = 0
    for part, X in zip(parts, components, strict=True):
        if len(part) < MIN_GROUP_CELLS:
            continue
        k = max(LEAST_CLUSTERS, min(MOST_CLUSTERS, len(part) // CLUSTER_CELLS))
        with threadpool_limits(1), warnings.catch_warnings():
            # There are fewer clusters if there are fewer places.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(k, n_init=CLUSTER_STARTS, random_state=seed).fit(X.astype(np.float64)).labels_
        for code in sorted(np.unique(found).tolist(), key=str):
            yield number, part[found == code]
            number += 1


def _label_groups(parts: Sequence[Ints], labels: Ints) -> Iterator[tuple[int, Ints]]:
    for part in parts:
        for code in np.unique(labels[part]).tolist():
            yield code, part[labels[part] == code]


class _Signal:
    """Finds the components that carry structure within groups."""

    def __init__(self, variable: csr_matrix, depth: Floats, seed: int) -> None:
        self._X = variable
        self._depth = depth
        self._seed = seed

    def groups(self, found: Sequence[tuple[int, Ints]]) -> Groups:
        """Return the groups that have cells enough, of labels and the positions of cells."""
        large = [(label, cells) for label, cells in found if len(cells) >= MIN_GROUP_CELLS]
        used, scores, n_signal = [], [], []
        for number, (_, cells) in enumerate(large):
            if len(cells) > MOST_GROUP_CELLS:
                drawn = self._rng(number).choice(len(cells), MOST_GROUP_CELLS, replace=False)
                cells = cells[np.sort(drawn)]
            signal = self._components(cells, self._rng(number))
            padded = np.zeros((len(cells), MOST_SIGNAL))
            padded[:, : signal.shape[1]] = signal
            used.append(cells)
            scores.append(padded)
            n_signal.append(signal.shape[1])
        groups = Groups(
            cells=np.concatenate([np.empty(0, dtype=np.int64), *used]),
            starts=np.concatenate([[0], np.cumsum([len(cells) for cells in used])]).astype(np.int64),
            label=np.array([label for label, _ in large], dtype=np.int64),
            n_signal=np.array(n_signal, dtype=np.int64),
            scores=np.concatenate([np.empty((0, MOST_SIGNAL)), *scores]),
            explained=np.zeros(len(large)),
        )
        counted = np.flatnonzero(groups.n_signal).tolist()
        for number, group in zip(counted, groups, strict=True):
            near = nearest(group.scores, group.n_neighbours, random_ranks(row_content(group.scores)))
            groups.explained[number] = explained_by(near, group.scores).mean()
        return groups

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, number])

    def _components(self, cells: Ints, rng: np.random.Generator) -> Floats:
        """Return the scores of the cells of a group on its signal components, (n_cells, n_signal)."""
        A = self._X[cells].toarray().astype(np.float64)
        A -= A.mean(axis=0)
        depth = self._depth[cells] - self._depth[cells].mean()
        if (squares := depth @ depth) > 0:
            A -= np.outer(depth, (depth @ A) / squares)
        if not A.any():
            return np.empty((len(cells), 0))
        genes = np.ascontiguousarray(A.T)
        by_chance = 0.0
        for _ in range(N_PERMUTATIONS):
            permuted = rng.permuted(genes, axis=1).astype(np.float32)
            by_chance = max(by_chance, float(_leading(permuted.T @ permuted, 1)[0][-1]))
        variances, vectors = _leading(A @ A.T, MOST_SIGNAL)
        variances, vectors = variances[::-1], vectors[:, ::-1]
        kept = int(np.count_nonzero(variances > MARGIN * by_chance))
        signal: Floats = vectors[:, :kept] * np.sqrt(variances[:kept])
        return signal


def _leading(
    gram: NDArray[np.floating[Any]], n: int
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the largest eigenvalues, ascending, and eigenvectors of a matrix of products, not all 0."""
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(0).standard_normal(len(gram)).astype(gram.dtype)
    values, vectors = eigsh(gram, k=n, which="LA", v0=start, tol=TOLERANCE)
    return values, vectors


def consensus_of_types(
    X: csr_matrix, parts: Sequence[Ints], labels: Ints, n_labels: int
) -> tuple[Ints, Floats, list[int]]:
    """Return the types of the consensus, their distances, and the types that no batch shows."""
    frequent = np.flatnonzero(np.bincount(labels, minlength=n_labels) >= MIN_TYPE_CELLS)
    large = [part for part in parts if len(part) >= MIN_BATCH_CELLS]
    shown = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(labels[part] for part in large)]))
    types = np.intersect1d(frequent, shown)
    sums, counts = np.zeros((2, len(types), len(types)))
    for part in large:
        here = np.intersect1d(types, labels[part])
        within = X[part]
        scores = _components(within[:, batch_genes(within)], N_TYPE_COMPONENTS)
        found = relative_distances(trimmed_means(scores.astype(np.float64), labels[part], here))
        place = np.ix_(np.searchsorted(types, here), np.searchsorted(types, here))
        known = ~np.isnan(found)
        sums[place] += np.where(known, found, 0.0)
        counts[place] += known
    mean = sums / np.where(counts > 0, counts, np.nan)
    return types, by_largest(mean), np.setdiff1d(frequent, shown).tolist()


def batch_genes(X: csr_matrix) -> Ints:
    """Return the 1,000 most variable genes of a batch as scanpy's flavor ``seurat`` chooses them.

    Genes that tie for the last place are all chosen.
    """
    dispersion = normalised_dispersion(*moments(X, linear=True), flavor="seurat")
    defined = np.sort(dispersion[~np.isnan(dispersion)])[::-1]
    if not len(defined):
        return np.arange(X.shape[1])
    return np.flatnonzero(dispersion >= defined[min(N_GENES, len(defined)) - 1])
