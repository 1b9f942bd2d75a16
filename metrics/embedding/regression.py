"""How much of an embedding's variance a covariate explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, coordinates, several
from cellular_bench.metrics.spec import metric

#: Below this share nothing is explained but rounding.
NEGLIGIBLE = 1e-10
#: Batches must explain this many times what batches drawn at random explain. Where they explain less, a
#: method that removes all of their effect, and leaves what chance gives, would score below .8.
TIMES_CHANCE = 5


def share_between_groups(X: Floats, codes: Ints) -> float:
    """Return the share of the variance of centred coordinates that lies between groups, 0 to 1.

    Principal component regression on a categorical covariate comes to the same: R^2 of every
    component, weighted by its variance, does not depend on the rotation.
    """
    sizes = np.bincount(codes)
    centres = np.eye(len(sizes))[codes].T @ X / sizes[:, None]
    return float(sizes @ np.einsum("ij,ij->i", centres, centres) / np.einsum("ij,ij->", X, X))


def share_explained(X: Floats, covariates: Floats) -> float:
    """Return the share of the variance of coordinates that a linear fit on covariates explains, 0 to 1.

    Constant coordinates have no variance; of it, none is explained.
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
    definition="Relative loss, by integration, of the share of variance between batches; a gain counts 0.",
    version=2,
    doi="10.1038/s41592-018-0254-1",
)
def pcr_comparison(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """How much less of the variance lies between batches than before integration, 0 to 1.

    Parameters
    ----------
    X_pre
        (n_obs, n_comps) principal components before integration.
    X_emb
        (n_obs, n_latent) coordinates after.
    batch
        (n_obs,) batches.

    Raises
    ------
    UndefinedError
        If there is one batch only, an embedding is not usable, or batches explained before less than five
        times what batches drawn at random do, (batches - 1) / (cells - 1): there was nothing to remove.

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
            f"batches explain {before:.2g} of the variance before integration, where batches drawn at random "
            f"explain {chance:.2g}: there is nothing to remove (needs {TIMES_CHANCE} times as much)"
        )
    return max(0.0, 1 - after / before)


def pcr_ratio(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """As :func:`pcr_comparison`, whatever chance gives.

    Raises
    ------
    UndefinedError
        If there is one batch only, an embedding is not usable, or batches explained nothing before.
    """
    before, after, _ = _shares(X_pre, X_emb, batch)
    if before < NEGLIGIBLE:
        raise UndefinedError("batches explain no variance before integration: there is nothing to remove")
    return max(0.0, 1 - after / before)


def _shares(X_pre: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> tuple[float, float, Ints]:
    """Return which shares of the variance lie between batches, before and after, and the batches as codes."""
    before = coordinates(X_pre, "X_pre", by_output=False)
    after = coordinates(X_emb)
    _, codes = several(batch, "batch", n_obs=len(before))
    if len(after) != len(before):
        raise ValueError(f"X_emb has {len(after)} cells and X_pre {len(before)}; expected the same cells")
    return share_between_groups(before, codes), share_between_groups(after, codes), codes
