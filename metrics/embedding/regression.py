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
#: Level at which batches must explain more than batches drawn at random do.
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

    Undefined if there is only one batch, an embedding is not usable, or batches explain before integration
    no more than batches drawn at random (:func:`chance_of_share`, p of 0.01 or more): there is nothing to
    remove.

    Notes
    -----
    Formula: max(0, 1 - R2 after / R2 before), R2 = variance between batches / total variance of the
    coordinates; undefined if an F test of R2 before gives p of 0.01 or more.

    Fooled by: weak effects: what chance gives, (batches - 1) / (cells - 1), is left after any method, and
    lowers the value where R2 before is not many times as much. Batches that hold other types: their
    difference is biology, and its removal is rewarded. Noise of high variance added to the embedding lowers
    R2. The comparison is with principal components: the genes themselves, mostly noise, score well without
    any correction.

    Examples
    --------
    >>> before, after = [[0.0], [1.0], [2.0], [3.0]] * 5, [[0.0], [1.0], [0.0], [1.0]] * 5
    >>> pcr_comparison(before, after, ["a", "a", "b", "b"] * 5)
    1.0
    """
    before, after, codes = _shares(X_pre, X_emb, batch)
    p = chance_of_share(before, coordinates(X_pre, "X_pre", by_output=False), int(codes.max()) + 1)
    if p >= LEVEL:
        raise UndefinedError(
            f"batches explain {before:.2g} of the variance before integration, and as many drawn at random "
            f"explain {codes.max() / (len(codes) - 1):.2g}: there is nothing to remove (F test, p = {p:.2g})"
        )
    return max(0.0, 1 - after / before)


def chance_of_share(share: float, X: Floats, n_groups: int) -> float:
    """Return the probability that groups drawn at random explain this share of the variance, or more.

    An F test over all components. They have different variances, so that both degrees of freedom are those of
    their effective number: the squared sum of the variances over the sum of their squares.

    Parameters
    ----------
    share
        Result of :func:`share_between_groups`.
    X
        (n_obs, n_dims) centred coordinates.
    n_groups
        Number of groups.

    References
    ----------
    doi:10.1214/aoms/1177728786

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(400, 10))
    >>> chance_of_share(0.2, X, 40) < 1e-10 < 0.1 < chance_of_share(0.1, X, 40)
    True
    """
    from scipy.special import fdtrc

    within = len(X) - n_groups
    if within < 1:  # a group for every cell explains everything
        return 1.0
    squares = X.T @ X
    n_effective = np.trace(squares) ** 2 / np.sum(squares**2)
    ratio = share / max(1 - share, np.finfo(np.float64).eps) * within / (n_groups - 1)
    return float(fdtrc(n_effective * (n_groups - 1), n_effective * within, ratio))


def pcr_ratio(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """Return the value of :func:`pcr_comparison` without the test.

    Undefined if there is only one batch, an embedding is not usable, or batches explain nothing before
    integration.
    """
    before, after, _ = _shares(X_pre, X_emb, batch)
    if before < NEGLIGIBLE:
        raise UndefinedError("batches explain no variance before integration: there is nothing to remove")
    return max(0.0, 1 - after / before)


def _shares(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> tuple[float, float, Ints]:
    """Return the shares of variance between batches before and after, and the batch codes."""
    before = coordinates(X_pre, "X_pre", by_output=False)
    after = coordinates(X_emb)
    _, codes = several(batch, "batch", n_obs=len(before))
    if len(after) != len(before):
        raise ValueError(f"X_emb has {len(after)} cells and X_pre {len(before)}; expected the same cells")
    return share_between_groups(before, codes), share_between_groups(after, codes), codes
