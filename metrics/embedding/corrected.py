"""Conservation of the genes of each batch in corrected expression.

For methods that return corrected expression. All metrics compare the matrix before (``expression``) and after
(``corrected``) within each batch, where there is nothing to correct.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.genes import expressed_genes, moments, normalised_dispersion
from cellular_bench.metrics.inputs import Floats, Ints, encode
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Highly variable genes per batch, as in scib; at most half of the genes that the batch shows.
N_GENES = 500
#: Smaller batches, and smaller labels within a batch, are excluded.
MIN_CELLS = 10
ZHANG = "10.1093/bib/bbaf247"

Matrix = ArrayLike | Any


@metric(
    metric_id="hvg_overlap",
    name="HVG overlap",
    aspect="bio_conservation",
    definition=(
        "Share of the 500 most variable genes of a batch that are among them after correction, averaged "
        "over batches (as scib)."
    ),
    in_overall=False,
    doi="10.1038/s41592-021-01336-8",
)
def hvg_overlap(expression: Matrix, corrected: Matrix, batch: ArrayLike) -> float:
    """Overlap of the most variable genes of each batch before and after correction, 0 to 1.

    Variable genes are selected as by Cell Ranger and scanpy's ``flavor="cell_ranger"``. Undefined if a matrix
    is not finite, or no batch of 10 cells has two genes of similar mean.

    Notes
    -----
    Formula: mean over batches of |H before & H after| / min(|H before|, |H after|), H = the min(500, half of
    the expressed genes) genes of the highest normalised dispersion.

    Fooled by: doing nothing, which scores 1; and scaling all genes equally.

    Examples
    --------
    >>> X = np.random.default_rng(0).poisson(2.0, size=(40, 30)).astype(float)
    >>> hvg_overlap(X, X, ["a"] * 20 + ["b"] * 20)
    1.0
    """
    shares = []
    for before, after, _ in _batches(expression, corrected, batch):
        first = batch_variable_genes(before)
        second = batch_variable_genes(after, n_genes=len(first))
        if len(first) and len(second):
            shares.append(len(np.intersect1d(first, second)) / min(len(first), len(second)))
    return _mean(shares, f"no batch of {MIN_CELLS} cells has two genes")


@metric(
    metric_id="gene_correlation_kept",
    name="Gene correlations kept",
    aspect="bio_conservation",
    definition=(
        "Correlation, over pairs of variable genes, of their correlation within a batch before and "
        "after correction, averaged over batches."
    ),
    minimum=-1.0,
    in_overall=False,
    doi=ZHANG,
)
def gene_correlation_kept(expression: Matrix, corrected: Matrix, batch: ArrayLike) -> float:
    """Conservation of the correlations between genes within each batch, -1 to 1.

    Genes are the variable genes of the batch before correction; those that are constant after correction are
    excluded. Undefined if a matrix is not finite, or no batch of 10 cells has three genes that vary in both
    matrices.

    Notes
    -----
    Formula: mean over batches of r(c, c'), c and c' = the Pearson correlations of all pairs of genes within
    the batch before and after, r = Pearson's correlation.

    Fooled by: doing nothing, which scores 1. Noise in lowly expressed genes counts as worth keeping, so that
    smoothing lowers the value.

    Examples
    --------
    >>> X = np.random.default_rng(0).poisson(2.0, size=(20, 30)).astype(float)
    >>> round(gene_correlation_kept(X, 3 * X + 1, ["a"] * 20), 6)
    1.0
    """
    found = []
    for before, after, _ in _batches(expression, corrected, batch):
        genes = batch_variable_genes(before)
        first, second = (_dense(X[:, genes]) for X in (before, after))
        varying = (np.ptp(first, axis=0) > 0) & (np.ptp(second, axis=0) > 0)
        pairs = np.triu_indices(int(varying.sum()), k=1)
        if len(pairs[0]) > 1:
            found.append(
                _correlation(*(np.asarray(np.corrcoef(X[:, varying].T))[pairs] for X in (first, second)))
            )
    return _mean(found, f"no batch of {MIN_CELLS} cells has three genes that vary before and after")


@metric(
    metric_id="fold_change_kept",
    name="Fold changes kept",
    aspect="bio_conservation",
    definition=(
        "Correlation, over variable genes, of each label's log fold changes against the other cells of "
        "its batch before and after correction, averaged over labels and batches."
    ),
    minimum=-1.0,
    in_overall=False,
    doi=ZHANG,
)
def fold_change_kept(expression: Matrix, corrected: Matrix, batch: ArrayLike, label: ArrayLike) -> float:
    """Conservation of the genes that mark each label within each batch, -1 to 1.

    Expression is logarithmic, so that differences are log fold changes. Labels with fewer than 10 cells in a
    batch, or alone in it, are excluded there. Undefined if a matrix is not finite, or no batch has 10 cells
    of one label and 10 of others.

    Notes
    -----
    Formula: mean over batches and labels of r(d, d'), d and d' = the difference, per gene, between the mean
    of the label and the mean of the batch's other cells before and after, r = Pearson's correlation.

    Fooled by: shrinkage. Differences that are all halved correlate perfectly; and correction that uses the
    labels can force them to stay.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat(["T", "B"], 20)
    >>> X = rng.poisson(2.0, size=(40, 30)) + 3.0 * np.outer(label == "T", np.arange(30) < 5)
    >>> round(fold_change_kept(X, X / 2, ["a"] * 40, label), 6)
    1.0
    """
    names = np.asarray(label)
    found = []
    for before, after, cells in _batches(expression, corrected, batch):
        genes = batch_variable_genes(before)
        _, codes = encode(names[cells], "label")
        first, second = (_differences(X[:, genes], codes) for X in (before, after))
        found += [
            _correlation(one, other)
            for one, other in zip(first, second, strict=True)
            if len(one) > 1 and np.ptp(one) > 0
        ]
    return _mean(found, f"no batch has {MIN_CELLS} cells of a label and as many of others, and varying genes")


def batch_variable_genes(X: csr_matrix | Floats, *, n_genes: int | None = None) -> Ints:
    """Return the genes of the highest dispersion, normalised among genes of similar mean, ascending.

    Dispersions are those of :func:`cellular_bench.core.genes.normalised_dispersion`. Genes that no cell
    expresses are excluded.

    Parameters
    ----------
    X
        (n_obs, n_vars) expression of one batch.
    n_genes
        Number of genes; by default 500, or half of the expressed genes. Genes that tie for the last place are
        all selected; a gene without others of similar mean never is.
    """
    expressed = np.flatnonzero(expressed_genes(X))
    wanted = min(N_GENES, len(expressed) // 2) if n_genes is None else min(n_genes, len(expressed))
    score = normalised_dispersion(*moments(X[:, expressed])) if wanted else np.empty(0)
    defined = np.sort(score[~np.isnan(score)])
    if not len(defined):
        return np.empty(0, dtype=np.int64)
    least = defined[-min(wanted, len(defined))]
    # Dispersions of tied genes can differ in the last bits, by the order of additions.
    return np.asarray(expressed[score >= least - 1e-9 * abs(least)], dtype=np.int64)


def _differences(X: csr_matrix | Floats, codes: Ints) -> Floats:
    """Return the mean of each label with enough cells minus that of the other cells, (n_kept, n_genes)."""
    sizes = np.bincount(codes)
    sums = np.eye(len(sizes))[codes].T @ _dense(X)
    kept = (sizes >= MIN_CELLS) & (len(codes) - sizes >= MIN_CELLS)
    inside = sums[kept] / sizes[kept, None]
    return np.asarray(inside - (sums.sum(axis=0) - sums[kept]) / (len(codes) - sizes[kept, None]))


def _correlation(first: Floats, second: Floats) -> float:
    """Return Pearson's correlation; 0 if the second is constant: nothing is conserved."""
    one, other = first - first.mean(), second - second.mean()
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.clip(one @ other / length, -1.0, 1.0)) if length > 0 else 0.0


def _mean(values: list[float], reason: str) -> float:
    if not values:
        raise UndefinedError(reason)
    return float(np.mean(values))


def _dense(X: csr_matrix | Floats) -> Floats:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)


def _batches(
    expression: Matrix, corrected: Matrix, batch: ArrayLike
) -> Iterator[tuple[Any, Any, NDArray[np.int64]]]:
    before = _checked(expression, "expression", by_output=False)
    after = _checked(corrected, "corrected", by_output=True)
    if before.shape != after.shape:
        raise ValueError(f"corrected has shape {after.shape}; expected {before.shape}, as expression")
    names, codes = encode(batch, "batch", n_obs=before.shape[0])
    for code in range(len(names)):
        cells = np.flatnonzero(codes == code)
        if len(cells) >= MIN_CELLS:
            yield before[cells], after[cells], cells


def _checked(X: Matrix, name: str, *, by_output: bool) -> Any:
    """Return a matrix in double precision; a sparse one stays sparse."""
    matrix = X.tocsr().astype(np.float64) if hasattr(X, "tocsr") else np.asarray(X, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} has shape {matrix.shape}; expected (n_obs, n_vars)")
    values = matrix.data if hasattr(matrix, "tocsr") else matrix
    if not np.isfinite(values).all():
        raise UndefinedError(f"{name} has NaN or infinite values", by_output=by_output)
    return matrix
