"""Quantities that metrics share: neighbours, and sums of distances to labels and batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.metrics.inputs import Floats, Ints, coordinates
from cellular_bench.metrics.numerics.approximate import approximate_neighbors, sampled_sums, stratified_sample
from cellular_bench.metrics.numerics.distances import N_NEIGHBORS, DistanceSums, Neighbors, neighbors_and_sums
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content
from cellular_bench.metrics.profiles import FULL, Profile, Shortcut


@dataclass(frozen=True, slots=True)
class SharedDistances:
    """Neighbours of all cells, and sums of distances from all cells or a sample to groups.

    Attributes
    ----------
    neighbors
        :data:`N_NEIGHBORS` of every cell.
    sums
        One row for each of ``cells``.
    stratum
        (n_obs,) the label and batch of each cell as one number.
    ranks
        (n_obs,) random ranks of the cells.
    cells
        (n_sampled,) ascending positions of the sample; None for all cells.
    shortcuts
        Approximations.
    """

    neighbors: Neighbors
    sums: DistanceSums
    stratum: Ints
    ranks: Ints
    cells: Ints | None = None
    shortcuts: tuple[Shortcut, ...] = ()

    def rows(self) -> Ints:
        """Return the positions of the cells that the sums belong to."""
        return np.arange(len(self.stratum)) if self.cells is None else self.cells

    def complete(self, values: Floats) -> Floats:
        """Return a value for every cell: outside the sample, the mean of the sample in the cell's stratum."""
        if self.cells is None:
            return values
        own = self.stratum[self.cells]
        sizes = np.bincount(own, minlength=int(self.stratum.max()) + 1)
        means = np.bincount(own, values, minlength=len(sizes)) / np.maximum(sizes, 1)
        completed: Floats = means[self.stratum]
        completed[self.cells] = values
        return completed

    def without(self, group: int, n_groups: int) -> SharedDistances:
        """Return a copy without every n-th sampled cell of each label and batch."""
        cells = self.rows()
        order = np.lexsort((self.ranks[cells], self.stratum[cells]))
        own = self.stratum[cells][order]
        rank = np.empty(len(cells), dtype=np.int64)
        rank[order] = np.arange(len(cells)) - np.searchsorted(own, own)
        kept = rank % n_groups != group
        kept |= np.bincount(self.stratum[cells])[self.stratum[cells]] == 1
        sums = DistanceSums(self.sums.to_labels[kept], self.sums.to_batches[kept])
        return replace(self, cells=cells[kept], sums=sums)


def shared_distances(
    X_emb: ArrayLike,
    *,
    label_codes: Ints | None = None,
    batch_codes: Ints | None = None,
    cell_ranks: Ints | None = None,
    profile: Profile = FULL,
    n_jobs: int = 1,
) -> SharedDistances:
    """Return neighbours and sums of distances to labels and batches, from one pass over all pairs of cells.

    Parameters
    ----------
    X_emb
        (n_obs, n_latent) coordinates.
    label_codes, batch_codes
        (n_obs,) codes; None: all cells are one group.
    cell_ranks
        (n_obs,) random ranks that draw neighbours among cells at the same distance, and the sample; None:
        from the coordinates and groups.
    profile
        Approximations that may be made.
    n_jobs
        Number of threads; the result does not depend on it.

    Raises
    ------
    UndefinedError
        If the embedding is not finite, or constant.
    """
    X = coordinates(X_emb)
    nothing = np.zeros(len(X), dtype=np.int64)
    label, batch = (nothing if codes is None else codes for codes in (label_codes, batch_codes))
    stratum = label * (int(batch.max()) + 1) + batch
    ranks = (
        random_ranks(row_content(X), label, batch, seed=profile.seed) if cell_ranks is None else cell_ranks
    )
    if profile.samples(len(X)):
        return _approximate(X, label, batch, stratum=stratum, ranks=ranks, profile=profile, n_jobs=n_jobs)
    neighbors, sums = neighbors_and_sums(X, label, batch, ranks, n_jobs=n_jobs)
    return SharedDistances(neighbors, sums, stratum, ranks)


def _approximate(
    X: Floats, label: Ints, batch: Ints, *, stratum: Ints, ranks: Ints, profile: Profile, n_jobs: int
) -> SharedDistances:
    neighbors, recall = approximate_neighbors(X, N_NEIGHBORS, ranks, seed=profile.seed, n_jobs=n_jobs)
    cells = stratified_sample(label, batch, profile.sample_cells, ranks)
    sums = sampled_sums(X, label, batch, cells, n_jobs=n_jobs)
    shortcuts = (
        Shortcut(
            quantity="neighbors",
            description=(
                f"Nearest neighbours of {len(X)} cells from an inverted file (seed {profile.seed}), with a "
                f"recall of {recall:.1%}."
            ),
            library=f"faiss {version('faiss-cpu')}",
            figures={"recall": recall, "n_obs": len(X), "seed": profile.seed},
        ),
        Shortcut(
            quantity="silhouettes",
            description=(
                f"Silhouettes of {len(cells)} of {len(X)} cells, drawn from every label and batch "
                f"(seed {profile.seed}), each against all cells."
            ),
            figures={"n_sampled": len(cells), "n_obs": len(X), "seed": profile.seed},
        ),
    )
    return SharedDistances(neighbors, sums, stratum, ranks, cells, shortcuts)
