"""Genes that correction makes differ between two random halves of one batch.

For methods that return corrected expression. The halves differ by chance alone within a label: each gene that
is called different is false.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.harm.halves import MIN_HALF
from cellular_bench.metrics.inputs import Floats, encode
from cellular_bench.metrics.spec import metric

#: A gene is tested where so large a share of a label's cells shows it before correction.
MIN_EXPRESSED = 0.05
#: Error rate of the calls, by Benjamini and Hochberg over all labels and genes.
RATE = 0.05
#: Smallest difference that is called, in standard deviations of the gene over all cells.
MIN_EFFECT = 0.2
BENJAMINI = "10.1111/j.2517-6161.1995.tb02031.x"

Matrix = ArrayLike | Any


@metric(
    metric_id="false_de",
    name="False differential expression",
    aspect="harm",
    definition=(
        "Share of genes, tested label by label, that differ between random halves of one batch after "
        "correction."
    ),
    higher_is_better=False,
    in_overall=False,
    doi=BENJAMINI,
)
def false_de(expression: Matrix, corrected: Matrix, batch: ArrayLike, label: ArrayLike) -> float:
    """Share of the tested genes that are called different between the halves, 0 to 1.

    Undefined as :func:`false_de_genes`.

    Notes
    -----
    Formula: false_de_genes / tested pairs of label and gene.

    Fooled by: doing nothing, which scores 0 and is right here.

    Examples
    --------
    >>> X = np.random.default_rng(0).poisson(2.0, size=(200, 30)).astype(float)
    >>> half = np.tile(["one", "two"], 100)
    >>> false_de(X, X, half, ["T"] * 200), false_de(X, X + 3 * (half == "two")[:, None], half, ["T"] * 200)
    (0.0, 1.0)
    """
    called = false_calls(expression, corrected, batch, label)
    return float(called.mean())


@metric(
    metric_id="false_de_genes",
    name="False genes",
    aspect="harm",
    definition=(
        "Number of pairs of label and gene that differ between random halves of one batch after correction."
    ),
    maximum=1e6,
    higher_is_better=False,
    in_overall=False,
    doi=BENJAMINI,
)
def false_de_genes(expression: Matrix, corrected: Matrix, batch: ArrayLike, label: ArrayLike) -> float:
    """Count the pairs of label and gene that are called different between the halves.

    Undefined if a matrix is not finite, or no label has 20 cells in each half and a gene that 5 % of its
    cells show.

    Notes
    -----
    Formula: pairs with p < 0.05 and a difference of means of at least 0.2 SD. p = Welch's t test, adjusted by
    Benjamini and Hochberg over all pairs; SD = that of the corrected gene over all cells. A pair is tested if
    the label has 20 cells in each half, and 5 % of its cells show the gene before correction: corrected zeros
    of other genes are constants of a batch, and all would differ.

    Fooled by: few cells, in which nothing is significant; and Welch's test is too lenient with 20 mostly
    empty cells, so that even uncorrected expression has a few.

    Examples
    --------
    >>> X = np.random.default_rng(0).poisson(2.0, size=(200, 30)).astype(float)
    >>> half = np.tile(["one", "two"], 100)
    >>> moved = X + 3 * np.outer(half == "two", np.arange(30) < 4)
    >>> false_de_genes(X, X, half, ["T"] * 200), false_de_genes(X, moved, half, ["T"] * 200)
    (0.0, 4.0)
    """
    return float(false_calls(expression, corrected, batch, label).sum())


def false_calls(
    expression: Matrix, corrected: Matrix, batch: ArrayLike, label: ArrayLike
) -> NDArray[np.bool_]:
    """Return whether each tested pair of label and gene is called different, labels sorted by name."""
    from scipy.stats import false_discovery_control, ttest_ind

    before, after = _finite(expression, "expression", by_output=False), _finite(corrected, "corrected")
    if before.shape != after.shape:
        raise ValueError(f"corrected has shape {after.shape}; expected {before.shape}, as expression")
    names, codes = encode(label, "label", n_obs=len(after))
    halves, of_half = encode(batch, "batch", n_obs=len(after))
    if len(halves) != 2:
        raise UndefinedError(f"needs the two halves of a batch; there are {len(halves)} batches")
    spread = after.std(axis=0)
    p_values, effects = [], []
    for code in range(len(names)):
        one, other = (np.flatnonzero((codes == code) & (of_half == half)) for half in (0, 1))
        if min(len(one), len(other)) < MIN_HALF:
            continue
        shown = (np.count_nonzero(before[one], axis=0) + np.count_nonzero(before[other], axis=0)) / (
            len(one) + len(other)
        )
        genes = np.flatnonzero(shown >= MIN_EXPRESSED)
        first, second = after[np.ix_(one, genes)], after[np.ix_(other, genes)]
        difference = np.abs(first.mean(axis=0) - second.mean(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            # A gene may be constant in a half, or in both.
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            p = ttest_ind(first, second, equal_var=False).pvalue
        p_values.append(np.where(np.isnan(p), 1.0, p))
        effects.append((difference > 0) & (difference >= MIN_EFFECT * spread[genes]))
    if not sum(map(len, p_values)):
        raise UndefinedError(
            f"no label has {MIN_HALF} cells in each half, and a gene that {MIN_EXPRESSED:.0%} of them show"
        )
    adjusted = false_discovery_control(np.concatenate(p_values))
    called: NDArray[np.bool_] = (adjusted < RATE) & np.concatenate(effects)
    return called


def _finite(X: Matrix, name: str, *, by_output: bool = True) -> Floats:
    matrix = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} has shape {matrix.shape}; expected (n_obs, n_vars)")
    if not np.isfinite(matrix).all():
        raise UndefinedError(f"{name} has NaN or infinite values", by_output=by_output)
    return matrix
