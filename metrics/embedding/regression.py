"""Share of the variance of an embedding that a covariate explains.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, several
from cellular_bench.metrics.spec import metric

#: Shares below this are rounding errors.
NEGLIGIBLE = 1e-10
#: Batches must explain as much as only this share of all ways to assign the cells to them would.
LEVEL = 0.01


def share_between_groups(X: Floats, codes: Ints) -> float:
    """Return the share of the variance of centred coordinates that lies between groups, 0 to 1.

    Principal component regression on a categorical covariate gives the same value: the mean R^2 of the
    components, weighted by their variances, does not depend on the rotation.
    """
    sizes = np.bincount(codes)
    centres = np.eye(len(sizes))[codes].T @ X / sizes[:, None]
    return float(sizes @ np.einsum("ij,ij->i", centres, centres) / np.einsum("ij,ij->", X, X))


def share_explained(X: Floats, covariates: Floats) -> float:
    """Return the share of the variance of coordinates that a linear fit on covariates explains, 0 to 1.

    0 for constant coordinates, which have no variance.
    """
    centred = X - X.mean(axis=0)
    total = np.einsum("ij,ij->", centred, centred)
    if total == 0:
        return 0.0
    left, sizes, _ = np.linalg.svd(covariates - covariates.mean(axis=0), full_matrices=False)
    span = left[:, sizes > sizes[0] * len(X) * np.finfo(np.float64).eps] if sizes[0] > 0 else left[:, :0]
    return float(np.sum((span.T @ centred) ** 2) / total)


def p_of_share(X: Floats, codes: Ints) -> float:
    """Return the share of all permutations of the cells for which groups explain as much variance, or more.

    Approximately: by the beta distribution with the exact mean and variance of the explained share over all
    permutations. For one dimension this is Pitman's test, the F test if cells are normal; the variance for
    any number of dimensions, of unequal variances, is by Kazi-Aoual and others. As nothing is drawn, the
    result depends on neither the order of the cells nor a rotation. It is at least one over the number of
    ways to form groups of these sizes. With outliers or rare types, and groups of a few cells, it can be a
    few times too small.

    References
    ----------
    doi:10.1093/biomet/29.3-4.322; Kazi-Aoual and others 1995, https://zbmath.org/0875.62183
    """
    from scipy.special import betaincc, gammaln

    n_obs, sizes = len(X), np.sort(np.bincount(codes))
    share, mean = share_between_groups(X, codes), (len(sizes) - 1) / (n_obs - 1)
    if n_obs < 4 or share <= mean + NEGLIGIBLE:
        return 1.0
    ways = gammaln(n_obs + 1) - gammaln(sizes + 1).sum() - gammaln(np.bincount(sizes) + 1).sum()
    weight = max(mean * (1 - mean) / _variance_of_share(X, sizes) - 1, NEGLIGIBLE)
    tail = betaincc(mean * weight, (1 - mean) * weight, min(share, 1.0))
    return float(max(np.exp(-ways), tail))


def _variance_of_share(X: Floats, sizes: Ints) -> float:
    """Return the variance of the share of variance between groups over all permutations of the cells.

    The share is the trace of the product of two matrices, one of cells and one of groups. Of each, the
    variance needs the trace, the trace of its square, and the sum of squares of its diagonal.
    """
    n, groups = len(X), len(sizes)
    lengths = np.einsum("ij,ij->i", X, X)
    inner = X.T @ X if X.shape[1] < n else X @ X.T
    total = lengths.sum()
    of_cells = 1.0, float(np.sum((inner / total) ** 2)), float(np.sum((lengths / total) ** 2))
    of_groups = groups - 1.0, groups - 1.0, float(np.sum(1 / sizes) - (2 * groups - 1) / n)
    pairs = single = 1.0
    for trace, square, diagonal in (of_cells, of_groups):
        pairs *= (n - 1) * square - trace**2
        single *= n * (n + 1) * diagonal - (n - 1) * (trace**2 + 2 * square)
    variance = 2 * pairs / (n - 1) + single / (n * (n - 3))
    return max(variance / ((n - 2) * (n - 1) * (n + 1)), NEGLIGIBLE**2)


@metric(
    metric_id="pcr_comparison",
    name="PCR comparison",
    aspect="batch_correction",
    definition="Relative decrease of the share of variance between batches; an increase counts as 0.",
    version=3,
    doi="10.1038/s41592-018-0254-1",
)
def pcr_comparison(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """Relative decrease of the share of variance between batches by integration, 0 to 1.

    Undefined if there is only one batch, an embedding is not usable, or batches do not explain significantly
    more before integration than cells assigned to them at random (p of a permutation test not below 0.01):
    there is nothing to remove.

    Notes
    -----
    Formula: max(0, 1 - R2 after / R2 before), R2 = variance between batches / total variance of the
    coordinates; undefined unless less than 1 % of all permutations of the cells have an R2 of at least R2
    before, by the beta distribution with their exact mean and variance.

    Fooled by: batches that hold other types: their difference is biology, and its removal is rewarded. Noise
    of high variance added to the embedding lowers R2. The comparison is with principal components: the genes
    themselves, mostly noise, score well without any correction. A significant effect may be small: chance
    alone leaves (batches - 1) / (cells - 1), so that mixed batches score low if R2 before is little more.

    References
    ----------
    doi:10.1093/biomet/29.3-4.322; Kazi-Aoual and others 1995, https://zbmath.org/0875.62183

    Examples
    --------
    >>> before, after = [[0.0], [1.0], [2.0], [3.0]] * 5, [[0.0], [1.0], [0.0], [1.0]] * 5
    >>> pcr_comparison(before, after, ["a", "a", "b", "b"] * 5)
    1.0
    """
    before, after, codes = _checked(X_pre, X_emb, batch)
    share, p = share_between_groups(before, codes), p_of_share(before, codes)
    if not p < LEVEL:
        raise UndefinedError(
            f"batches explain {share:.2g} of the variance before integration; cells assigned to them at "
            f"random explain {codes.max() / (len(codes) - 1):.2g}, and as much or more with p = {p:.2g} "
            f"(needs less than {LEVEL}): there is nothing to remove"
        )
    return max(0.0, 1 - share_between_groups(after, codes) / share)


def pcr_ratio(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """Return the value of :func:`pcr_comparison` without the comparison with chance.

    Undefined if there is only one batch, an embedding is not usable, or batches explain nothing before
    integration.
    """
    before, after, codes = _checked(X_pre, X_emb, batch)
    share = share_between_groups(before, codes)
    if share < NEGLIGIBLE:
        raise UndefinedError("batches explain no variance before integration: there is nothing to remove")
    return max(0.0, 1 - share_between_groups(after, codes) / share)


def _checked(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> tuple[Floats, Floats, Ints]:
    """Return centred coordinates before and after, and the batch codes."""
    before = coordinates(X_pre, "X_pre", by_output=False)
    after = coordinates(X_emb)
    _, codes = several(batch, "batch", n_obs=len(before))
    if len(after) != len(before):
        raise ValueError(f"X_emb has {len(after)} cells and X_pre {len(before)}; expected the same cells")
    return before, after, codes
