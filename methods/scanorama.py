"""Scanorama: merging of batches by mutual nearest neighbours between all pairs of batches."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import Corrected, MethodSpec
from cellular_bench.methods._inputs import batches_of, dense, require_batches
from cellular_bench.methods._session import unchanged_random_state

if TYPE_CHECKING:
    from anndata import AnnData


class Scanorama:
    """Scanorama's integrated low-dimensional embedding.

    The library takes one matrix per batch and returns one embedding per batch; rows are put back in the
    order of the input. The library sorts genes by name, which does not affect the embedding.

    Parameters
    ----------
    n_components
        Number of dimensions of the embedding; fewer if the data have fewer.
    knn
        Number of nearest neighbours in the other batches.
    approx
        Whether the neighbour search is approximate, as by default in the library.
    seed
        Seed of the randomised decomposition.

    Raises
    ------
    NotApplicableError
        If all cells come from one batch.
    """

    spec = MethodSpec(
        method_id="scanorama",
        name="Scanorama",
        tasks=("integration",),
        description="Mutual nearest neighbours across all batches; the integrated embedding.",
        needs_batches=True,
        doi="10.1038/s41587-019-0113-3",
        url="https://github.com/brianhie/scanorama",
        license="MIT",
        requires=("scanorama",),
    )

    def __init__(self, *, n_components: int = 100, knn: int = 20, approx: bool = True, seed: int = 0) -> None:
        self.n_components = n_components
        self.knn = knn
        self.approx = approx
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the integrated embedding, (n_obs, n_components)."""
        require_batches(adata, self.spec.method_id)
        cells_of, matrices = _by_batch(adata)
        genes = list(adata.var_names)
        with _library() as scanorama:
            parts, _ = scanorama.integrate(matrices, [genes] * len(matrices), **self._options())
        return _in_place(parts, cells_of)

    def _options(self) -> dict[str, Any]:
        return {
            "dimred": self.n_components,
            "knn": self.knn,
            "approx": self.approx,
            "seed": self.seed,
            "verbose": 0,
        }


class ScanoramaCorrected(Scanorama):
    """Scanorama's corrected expression, scored by its principal components.

    The library returns genes sorted by name and cells grouped by batch; both orders are restored. It scales
    every cell to unit length before correction, so values are not log-normalised counts. The matrix is
    dense: memory grows with cells x genes. Parameters and errors are those of :class:`Scanorama`.
    """

    spec = replace(
        Scanorama.spec,
        method_id="scanorama_corrected",
        name="Scanorama (corrected expression)",
        description="Mutual nearest neighbours across all batches; the corrected expression and its PCA.",
        variant_of="scanorama",
    )

    def fit_embed(self, adata: AnnData) -> Corrected:  # type: ignore[override]
        """Return the corrected expression, (n_obs, n_vars)."""
        require_batches(adata, self.spec.method_id)
        cells_of, matrices = _by_batch(adata)
        genes = list(adata.var_names)
        with _library() as scanorama:
            parts, returned = scanorama.correct(matrices, [genes] * len(matrices), **self._options())
        column = {gene: position for position, gene in enumerate(returned)}
        return Corrected(X=_in_place(parts, cells_of)[:, [column[gene] for gene in genes]])


def _by_batch(adata: AnnData) -> tuple[list[NDArray[np.intp]], list[Any]]:
    """Return the positions and the expression of the cells of every batch."""
    from scipy.sparse import csr_matrix

    batch = batches_of(adata)
    cells_of = [np.flatnonzero(batch == name) for name in np.unique(batch)]
    return cells_of, [csr_matrix(adata.X[cells]) for cells in cells_of]


def _in_place(parts: list[Any], cells_of: list[NDArray[np.intp]]) -> NDArray[np.float32]:
    """Put the rows of every batch back in the order of the cells."""
    joined = np.empty((sum(map(len, cells_of)), parts[0].shape[1]), dtype=np.float32)
    for cells, part in zip(cells_of, parts, strict=True):
        joined[cells] = dense(part)
    return joined


@contextmanager
def _library() -> Iterator[Any]:
    """Yield the library; it prints despite ``verbose=0`` and seeds the global generators."""
    with unchanged_random_state(), redirect_stdout(io.StringIO()):
        import scanorama

        yield scanorama
