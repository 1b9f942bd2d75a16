"""Scanorama: mutual nearest neighbours between all pairs of batches, stitched into a panorama."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.types import Corrected, MethodSpec
from cellular_bench.methods._support import batches_of, dense, require_batches, unchanged_random_state

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
    """Scanorama's corrected expression; its principal components are the embedding that is scored.

    The library returns genes sorted by name and cells grouped by batch; both are put back. It scales
    every cell to unit length before it corrects, and so values are not logarithms of counts. The matrix
    is dense: memory grows with cells x genes. Parameters and errors are those of :class:`Scanorama`.
    """

    spec = MethodSpec(
        method_id="scanorama_corrected",
        name="Scanorama (corrected expression)",
        tasks=("integration",),
        description="Mutual nearest neighbours across all batches; the corrected expression and its PCA.",
        needs_batches=True,
        variant_of="scanorama",
        doi=Scanorama.spec.doi,
        url=Scanorama.spec.url,
        license=Scanorama.spec.license,
        requires=("scanorama",),
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
    """Return the positions of the cells of every batch, and their expression."""
    from scipy.sparse import csr_matrix

    batch = batches_of(adata)
    cells_of = [np.flatnonzero(batch == name) for name in np.unique(batch)]
    return cells_of, [csr_matrix(adata.X[cells]) for cells in cells_of]


def _in_place(parts: list[Any], cells_of: list[NDArray[np.intp]]) -> NDArray[np.float32]:
    """Put the rows of every batch back where its cells stand."""
    joined = np.empty((sum(map(len, cells_of)), parts[0].shape[1]), dtype=np.float32)
    for cells, part in zip(cells_of, parts, strict=True):
        joined[cells] = dense(part)
    return joined


@contextmanager
def _library() -> Iterator[Any]:
    """Import and use the library, which prints whatever it is told and seeds the global generators."""
    with unchanged_random_state(), redirect_stdout(io.StringIO()):
        import scanorama

        yield scanorama
