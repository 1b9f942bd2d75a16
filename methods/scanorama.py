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
        scaling="given",
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
        return self._merged(adata, "integrate")[0]

    def _merged(self, adata: AnnData, function: str) -> tuple[NDArray[np.float32], list[str]]:
        """Return the rows that a function of the library computes, and the genes in its order."""
        from scipy.sparse import csr_matrix

        require_batches(adata, self.spec.method_id)
        batch = batches_of(adata)
        cells_of = [np.flatnonzero(batch == name) for name in np.unique(batch)]
        with _library() as scanorama:
            parts, genes = getattr(scanorama, function)(
                [csr_matrix(adata.X[cells]) for cells in cells_of],
                [list(adata.var_names)] * len(cells_of),
                dimred=self.n_components,
                knn=self.knn,
                approx=self.approx,
                seed=self.seed,
                verbose=0,
            )
        joined = np.empty((adata.n_obs, parts[0].shape[1]), dtype=np.float32)
        for cells, part in zip(cells_of, parts, strict=True):
            joined[cells] = dense(part)
        return joined, list(genes)


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
        corrected, returned = self._merged(adata, "correct")
        column = {gene: position for position, gene in enumerate(returned)}
        return Corrected(X=corrected[:, [column[gene] for gene in adata.var_names]])


@contextmanager
def _library() -> Iterator[Any]:
    """Yield the library; it prints despite ``verbose=0`` and seeds the global generators."""
    with unchanged_random_state(), redirect_stdout(io.StringIO()):
        import scanorama

        yield scanorama
