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
#: Batches must explain this multiple of the share that batches drawn at random explain. Otherwise a method
#: that removes their whole effect, and leaves what chance gives, would score below .8.
TIMES_CHANCE = 5


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
    version=2,
    doi="10.1038/s41592-018-0254-1",
)
def pcr_comparison(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """Relative decrease of the share of variance between batches by integration, 0 to 1.

    Undefined if there is only one batch, an embedding is not usable, or batches explain before integration
    less than five times the share that batches drawn at random explain, (batches - 1) / (cells - 1): there is
    nothing to remove.

    Notes
    -----
    Formula: max(0, 1 - R2 after / R2 before), R2 = variance between batches / total variance of the
    coordinates; undefined if R2 before is below 5 (batches - 1) / (cells - 1), five times the chance level.

    Fooled by: batches that hold other types: their difference is biology, and its removal is rewarded. Noise
    of high variance added to the embedding lowers R2. The comparison is with principal components: the genes
    themselves, mostly noise, score well without any correction.

    Examples
    --------
    >>> before, after = [[0.0], [1.0], [2.0], [3.0]] * 5, [[0.0], [1.0], [0.0], [1.0]] * 5
    >>> pcr_comparison(before, after, ["a", "a", "b", "b"] * 5)
    1.0
    """
    before, after, codes = _shares(X_pre, X_emb, batch)
    chance = codes.max() / (len(codes) - 1)
    if before < TIMES_CHANCE * chance:
        raise UndefinedError(
            f"batches explain {before:.2g} of the variance before integration, and batches drawn at random "
            f"explain {chance:.2g}: there is nothing to remove (needs {TIMES_CHANCE} times as much)"
        )
    return max(0.0, 1 - after / before)


def pcr_ratio(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """Return the value of :func:`pcr_comparison` without the comparison with chance.

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
