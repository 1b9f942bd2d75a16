"""Scanorama: mutual nearest neighbours between all pairs of batches, stitched into a panorama."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.types import MethodSpec
from cellular_bench.methods._support import batches_of, require_batches, unchanged_random_state

if TYPE_CHECKING:
    from anndata import AnnData


class Scanorama:
    """Scanorama's integrated low-dimensional embedding.

    The library takes one matrix per batch and answers with one embedding per batch; every row is put
    back where its cell stands in the input. The genes, which it sorts by name, do not reach the
    output.

    Parameters
    ----------
    n_components
        Dimensions of the embedding; fewer where the data have no more.
    knn
        Nearest neighbours sought in the other batches.
    approx
        Whether neighbours are searched for approximately, as by default in the library.
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
        batch = batches_of(adata)
        cells_of = [np.flatnonzero(batch == name) for name in np.unique(batch)]
        parts = self._integrate([adata.X[cells] for cells in cells_of], list(adata.var_names))
        embedding = np.empty((adata.n_obs, parts[0].shape[1]), dtype=np.float32)
        for cells, part in zip(cells_of, parts, strict=True):
            embedding[cells] = part
        return embedding

    def _integrate(self, matrices: list[Any], genes: list[str]) -> list[NDArray[np.floating[Any]]]:
        """Call the library, which prints whatever it is told and seeds the global generators."""
        from scipy.sparse import csr_matrix

        # Importing the library seeds numpy, too.
        with unchanged_random_state(), redirect_stdout(io.StringIO()):
            import scanorama

            parts, _ = scanorama.integrate(
                [csr_matrix(matrix) for matrix in matrices],
                [genes] * len(matrices),
                dimred=self.n_components,
                knn=self.knn,
                approx=self.approx,
                seed=self.seed,
                verbose=0,
            )
        return list(parts)
