"""Conservation of the variance that the cell cycle explains.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.toml import read_toml
from cellular_bench.metrics.embedding.regression import NEGLIGIBLE, share_explained
from cellular_bench.metrics.inputs import Floats, encode, raw_coordinates
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Genes that mark the phases S and G2M.
GENES = Path(__file__).parents[1] / "data" / "cell_cycle_genes.toml"
N_COMPONENTS = 50
#: A phase with fewer measured genes cannot be scored.
MIN_GENES = 10
#: In smaller batches two scores explain much by chance; such batches are excluded.
MIN_CELLS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCycle:
    """Cell-cycle scores before integration.

    Attributes
    ----------
    scores
        (n_obs, 2) scores of the phases S and G2M, computed within each cell's batch.
    variance_before
        Share of the variance of each batch's first 50 principal components that the scores explain. Batches
        that cannot be evaluated are missing.
    """

    scores: Floats
    variance_before: Mapping[str, float]


def phase_genes(var_names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the genes that mark phase S, and those that mark phase G2M.

    Symbols are compared without regard to case, so that those of mouse match, too. Undefined if there are
    fewer than 10 genes of a phase.

    References
    ----------
    doi:10.1126/science.aad0501
    """
    lists = read_toml(GENES, what="List of genes")
    names = {str(name).upper(): str(name) for name in reversed(var_names)}
    genes = [[names[gene] for gene in lists[phase] if gene in names] for phase in ("s", "g2m")]
    if min(map(len, genes)) < MIN_GENES:
        raise UndefinedError(
            f"too few cell-cycle genes among the {len(var_names)} genes: {len(genes[0])} of S and "
            f"{len(genes[1])} of G2M phase; needs {MIN_GENES} of each, as gene symbols"
        )
    return genes[0], genes[1]


def score_cell_cycle(X: csr_matrix, var_names: Sequence[str], batch: ArrayLike) -> CellCycle:
    """Score the cell-cycle phase of every cell, and the share of variance that the scores explain.

    Within each batch: scanpy's ``score_genes_cell_cycle``, then principal component regression of the
    log-normalised expression on both scores. This depends on the data set alone and is computed once for all
    methods. Undefined if there are too few cell-cycle genes, or no batch can be evaluated.

    Parameters
    ----------
    X
        (n_obs, n_vars) log-normalised expression of all genes.
    var_names
        (n_vars,) gene symbols.
    batch
        (n_obs,) batches.

    References
    ----------
    doi:10.1126/science.aad0501, doi:10.1038/s41592-021-01336-8
    """
    var_names = list(var_names)
    if X.shape[1] != len(var_names):
        raise ValueError(f"X has {X.shape[1]} genes and there are {len(var_names)} names; expected the same")
    genes = phase_genes(var_names)
    names, codes = encode(batch, "batch", n_obs=X.shape[0])
    scores, before = np.zeros((X.shape[0], 2)), {}
    for code, name in enumerate(names):
        cells = np.flatnonzero(codes == code)
        if len(cells) < MIN_CELLS:
            continue
        within = X[cells]
        scores[cells] = _phase_scores(within, var_names, genes)
        share = share_explained(principal_scores(within), scores[cells])
        if share > NEGLIGIBLE:
            before[str(name)] = share
    if not before:
        raise UndefinedError(f"the cell cycle explains no variance in any batch of {MIN_CELLS} or more cells")
    return CellCycle(scores=scores, variance_before=before)


def _phase_scores(X: csr_matrix, var_names: list[str], genes: tuple[list[str], list[str]]) -> Floats:
    import anndata
    import pandas as pd
    import scanpy

    adata = anndata.AnnData(X=X, var=pd.DataFrame(index=var_names))
    state = np.random.get_state()  # noqa: NPY002 - scanpy seeds numpy's global generator
    try:
        scanpy.tl.score_genes_cell_cycle(adata, s_genes=genes[0], g2m_genes=genes[1])
    finally:
        np.random.set_state(state)  # noqa: NPY002
    scores: Floats = adata.obs[["S_score", "G2M_score"]].to_numpy(dtype=np.float64)
    return scores


def principal_scores(X: csr_matrix) -> Floats:
    """Return the first 50 principal components of sparse expression, the smallest first.

    They are the leading eigenvectors of the cells' Gram matrix, which is never formed. Both the matrix and
    its transpose are stored row-wise: products by rows are twice as fast as by columns.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    n_obs = X.shape[0]
    if min(X.shape) <= N_COMPONENTS:
        return np.asarray(X.toarray(), dtype=np.float64)
    rows = X.astype(np.float64).tocsr()
    columns = rows.T.tocsr()
    mean = np.asarray(rows.mean(axis=0)).ravel()

    def gram(vector: Floats) -> Floats:
        flat = vector.ravel()
        projected = columns @ flat - mean * flat.sum()
        image: Floats = rows @ projected - mean @ projected
        return image

    operator = LinearOperator((n_obs, n_obs), matvec=gram, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n_obs)
    values, vectors = eigsh(operator, k=N_COMPONENTS, which="LA", v0=start)
    components: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return components


def _leading(X: Floats) -> Floats:
    """Return the first 50 principal components of an embedding, or the embedding if it has no more."""
    if X.shape[1] <= N_COMPONENTS:
        return X
    left, sizes, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    components: Floats = left[:, :N_COMPONENTS] * sizes[:N_COMPONENTS]
    return components


@metric(
    metric_id="cell_cycle_conservation",
    name="Cell-cycle conservation",
    aspect="bio_conservation",
    definition=(
        "1 - relative change of the share of variance that cell-cycle scores explain, at least 0, "
        "within each batch, averaged over batches."
    ),
    doi="10.1038/s41592-021-01336-8",
)
def cell_cycle_conservation(
    X_emb: ArrayLike, batch: ArrayLike, cell_cycle: ArrayLike, cell_cycle_before: Mapping[str, float]
) -> float:
    """Conservation of the variance along the cell cycle within batches, 0 to 1.

    Undefined if the embedding is not usable, or no batch can be evaluated.

    Notes
    -----
    Formula: mean over batches of max(0, 1 - abs(v after - v before) / v before), v = share of variance
    explained by a linear fit on the S and G2M scores.

    Fooled by: cells that do not divide: if the scores explain next to nothing before integration, it is a
    ratio of noise. An embedding that exaggerates the cycle is punished like one that loses it.

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal(size=(30, 2))
    >>> round(cell_cycle_conservation(scores, ["x"] * 30, scores, {"x": 1.0}), 6)
    1.0
    """
    X = raw_coordinates(X_emb)
    names, codes = encode(batch, "batch", n_obs=len(X))
    scores = np.asarray(cell_cycle, dtype=np.float64)
    if scores.shape != (len(X), 2) or not np.isfinite(scores).all():
        raise ValueError(f"cell_cycle has shape {scores.shape}; expected ({len(X)}, 2), finite S, G2M scores")
    kept = []
    for code, name in enumerate(names):
        before = cell_cycle_before.get(str(name), 0.0)
        if before > NEGLIGIBLE:
            cells = codes == code
            after = share_explained(_leading(X[cells]), scores[cells])
            kept.append(max(0.0, 1 - abs(after - before) / before))
    if not kept:
        raise UndefinedError("the cell cycle explains no variance in any batch before integration")
    return float(np.mean(kept))
