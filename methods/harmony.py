"""Harmony: soft clustering of principal components with a penalty on clusters of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._components import pca_scores
from cellular_bench.methods._inputs import batches_of, require_batches

if TYPE_CHECKING:
    from anndata import AnnData


#: With fewer cells, the library's one cluster per 30 cells rounds to none.
FEW_CELLS: Final = 16


class Harmony:
    """Principal components corrected by Harmony, with the defaults of ``harmonypy``.

    ``harmonypy`` is called directly, because version 2 returns cells x dimensions and wrappers written for
    0.x expect the transpose.

    Parameters
    ----------
    n_components
        Number of principal components, before and after correction; fewer if the data have fewer.
    theta
        Diversity penalty: larger values mix batches more. None: the library's.
    max_iter
        Maximum number of rounds of clustering and correction. None: the library's.
    seed
        Seed of the principal components and of the initial clusters.

    Raises
    ------
    NotApplicableError
        If all cells come from one batch.
    """

    spec = MethodSpec(
        method_id="harmony",
        name="Harmony",
        tasks=("integration",),
        description="Iterative soft clustering of principal components, corrected per cluster and batch.",
        scaling="given",
        needs_batches=True,
        doi="10.1038/s41592-019-0619-0",
        url="https://github.com/slowkow/harmonypy",
        license="GPL-3.0-or-later",
        requires=("harmonypy", "sklearn"),
    )

    def __init__(
        self,
        *,
        n_components: int = 50,
        theta: float | None = None,
        max_iter: int | None = None,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.theta = theta
        self.max_iter = max_iter
        self.seed = seed

    def fit_embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the corrected principal components, (n_obs, n_components)."""
        require_batches(adata, self.spec.method_id)
        scores = pca_scores(adata.X, n_components=self.n_components, seed=self.seed)
        batches = batches_of(adata)
        result = run_harmony(scores, batches, theta=self.theta, max_iter=self.max_iter, seed=self.seed)
        return np.asarray(result.Z_corr, dtype=np.float32)


def run_harmony(
    scores: NDArray[np.floating[Any]],
    batches: NDArray[np.str_],
    *,
    theta: float | None = None,
    max_iter: int | None = None,
    seed: int = 0,
) -> Any:
    """Run Harmony on principal components (n_obs, n_components); a single batch is clustered, not corrected.

    What is None is left to ``harmonypy``. The result has ``Z_corr`` (corrected), ``Z_orig`` (input) and ``R``
    (n_obs, n_clusters; soft assignments).
    """
    import harmonypy

    n_clusters = 1 if len(batches) < FEW_CELLS else None
    given = {"theta": theta, "max_iter_harmony": max_iter, "nclust": n_clusters}
    return harmonypy.run_harmony(
        scores,
        {BATCH: batches},
        [BATCH],
        random_state=seed,
        ncores=1,
        verbose=False,
        **{name: value for name, value in given.items() if value is not None},
    )
