"""Counts of cells by true and predicted label, and the metrics that are formulas of these counts.

Every formula works on the last axis, so that thousands of resampled tables cost hardly more than one. A
formula gives NaN for 0 / 0; the metrics turn that into a reason.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.inputs import Floats, Ints, strings, strings_or_missing

#: A true label with less than this share of the cells is rare.
RARE_SHARE = 0.01


class Counts(NamedTuple):
    """Cells per label (union of truth and accepted predictions, sorted).

    Attributes
    ----------
    labels
        (n_labels,) names.
    true, predicted, hits
        (..., n_labels) cells of the label, cells predicted to have it, and cells of both kinds.
    rare
        (n_labels,) True for rare true labels; resampling does not change it.
    n_obs
        Number of cells.
    """

    labels: NDArray[Any]
    true: Ints
    predicted: Ints
    hits: Ints
    rare: NDArray[np.bool_]
    n_obs: int


def names_of(values: ArrayLike, name: str, n_obs: int | None = None) -> NDArray[Any]:
    """Return labels as strings, (n_obs,); parameters as :func:`cellular_bench.metrics.inputs.categories`.

    Undefined if there are no cells.
    """
    names = strings(values, name, n_obs=n_obs)
    if not len(names):
        raise UndefinedError("there are no cells to score")
    return names


def accepted_cells(rejected: ArrayLike | None, n_obs: int) -> NDArray[np.bool_]:
    """Return a mask of the cells that the method did not reject, (n_obs,).

    Raises
    ------
    ValueError
        If ``rejected`` is not one bool per cell.
    """
    if rejected is None:
        return np.ones(n_obs, dtype=bool)
    flags = np.asarray(rejected)
    if flags.shape != (n_obs,) or flags.dtype != bool:
        raise ValueError(f"rejected has shape {flags.shape} of {flags.dtype}; expected ({n_obs},) of bool")
    return ~flags


def named_cells(
    label_pred: ArrayLike, rejected: ArrayLike | None, n_obs: int | None = None
) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return predicted labels and a mask of the cells that have one, (n_obs,): neither rejected nor missing.

    Undefined if there are no cells.
    """
    names = strings_or_missing(label_pred, "label_pred", n_obs=n_obs)
    if not len(names):
        raise UndefinedError("there are no cells to score")
    return names, accepted_cells(rejected, len(names)) & (names != "")


def correct_cells(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None) -> NDArray[np.bool_]:
    """Return a mask of the cells with a correct prediction, (n_obs,); rejected cells count as wrong."""
    true = names_of(label, "label")
    guesses, accepted = named_cells(label_pred, rejected, len(true))
    return np.asarray((true == guesses) & accepted)


def count(label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None) -> Counts:
    """Count the cells of each label; for the arguments see :mod:`cellular_bench.metrics`."""
    names, pairs, cells = count_pairs(label, label_pred, rejected)
    counts = tally(names, pairs, cells)
    used = counts.true + counts.predicted > 0  # excludes labels predicted only for rejected cells
    return counts._replace(**{name: getattr(counts, name)[used] for name in _PER_LABEL})


_PER_LABEL = ("labels", "true", "predicted", "hits", "rare")


def count_pairs(
    label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None
) -> tuple[NDArray[Any], Ints, Ints]:
    """Return label names, the distinct (true, predicted) pairs of codes, and the cells of each pair.

    Rejected cells have the code after the last label.
    """
    true = names_of(label, "label")
    n_obs = len(true)
    guessed, accepted = named_cells(label_pred, rejected, n_obs)
    names, codes = np.unique(np.concatenate([true, guessed]), return_inverse=True)
    guesses = np.where(accepted, codes[n_obs:], len(names))
    combined, cells = np.unique(codes[:n_obs] * (len(names) + 1) + guesses, return_counts=True)
    return names, np.stack(np.divmod(combined, len(names) + 1)), cells


def tally(names: NDArray[Any], pairs: Ints, cells: Ints, *, drawn: Ints | None = None) -> Counts:
    """Sum pairs to labels; ``drawn`` (..., n_pairs) holds the resampled cells of each pair."""
    true, guesses = (np.eye(len(names) + 1, dtype=np.int64)[codes][:, :-1] for codes in pairs)
    used = cells if drawn is None else drawn
    n_obs = int(cells.sum())
    support = cells @ true
    return Counts(
        labels=names,
        true=used @ true,
        predicted=used @ guesses,
        hits=used @ (true * guesses),
        rare=(support > 0) & (support < RARE_SHARE * n_obs),
        n_obs=n_obs,
    )


def accuracy_of(counts: Counts) -> Floats:
    """Return the share of hits among all cells."""
    return np.asarray(counts.hits.sum(axis=-1) / counts.n_obs)


def balanced_accuracy_of(counts: Counts) -> Floats:
    """Return the mean recall of the true labels."""
    return _mean(_share(counts.hits, counts.true), counts.true > 0)


def rare_recall_of(counts: Counts) -> Floats:
    """Return the mean recall of the rare true labels."""
    return _mean(_share(counts.hits, counts.true), counts.rare & (counts.true > 0))


def f1_macro_of(counts: Counts) -> Floats:
    """Return the mean F1 of the labels that are true or predicted for some cell."""
    return _mean(f1_of(counts), counts.true + counts.predicted > 0)


def f1_weighted_of(counts: Counts) -> Floats:
    """Return the F1 of the true labels, weighted by their cells."""
    return np.asarray((f1_of(counts) * counts.true).sum(axis=-1) / counts.n_obs)


def f1_of(counts: Counts) -> Floats:
    """Return 2 hits / (support + predictions) of each label; 0 for a label without cells."""
    return _share(2 * counts.hits, counts.true + counts.predicted)


def mcc_of(counts: Counts) -> Floats:
    """Return R_K; 0 for a constant prediction, NaN for a single true label."""
    covariance, spread_true, spread_predicted = _covariances(counts)
    product = np.sqrt(spread_true * spread_predicted)
    value = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
    return np.asarray(np.where(spread_true > 0, value, np.nan))


def cohen_kappa_of(counts: Counts) -> Floats:
    """Return the agreement beyond chance; NaN for a single true label."""
    covariance, spread_true, _ = _covariances(counts)
    # covariance / n^2 = observed - expected agreement; 1 - expected is positive with two true labels.
    chance = np.einsum("...i,...i", counts.true.astype(float), counts.predicted.astype(float))
    rest = np.where(spread_true > 0, float(counts.n_obs) ** 2 - chance, 1.0)
    return np.asarray(np.where(spread_true > 0, covariance / rest, np.nan))


def accuracy_accepted_of(counts: Counts) -> Floats:
    """Return the share of hits among accepted cells; NaN if none is accepted."""
    named = counts.predicted.sum(axis=-1)
    return np.asarray(np.where(named > 0, counts.hits.sum(axis=-1) / np.maximum(named, 1), np.nan))


def coverage_of(counts: Counts) -> Floats:
    """Return the share of accepted cells."""
    return np.asarray(counts.predicted.sum(axis=-1) / counts.n_obs)


def _covariances(counts: Counts) -> tuple[Floats, Floats, Floats]:
    """Return n^2 times the covariance of truth and prediction, and the variance of either."""
    true, predicted = counts.true.astype(float), counts.predicted.astype(float)
    n_obs = float(counts.n_obs)
    n_rejected = n_obs - predicted.sum(axis=-1)
    covariance = counts.hits.sum(axis=-1) * n_obs - np.einsum("...i,...i", true, predicted)
    spread_true = n_obs**2 - np.einsum("...i,...i", true, true)
    spread_predicted = n_obs**2 - np.einsum("...i,...i", predicted, predicted) - n_rejected**2
    return covariance, spread_true, spread_predicted


def _share(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def _mean(values: Floats, mask: NDArray[np.bool_]) -> Floats:
    n = mask.sum(axis=-1)
    return np.asarray(np.where(n > 0, np.where(mask, values, 0.0).sum(axis=-1) / np.maximum(n, 1), np.nan))
