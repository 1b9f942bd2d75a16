"""Confidence intervals of scores, from resampled cells (bootstrap).

This holds for scores that are computed cell by cell. It does not hold for scores of an embedding: a cell that
is drawn twice is its own nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation import counts as counting
from cellular_bench.metrics.annotation import ontology
from cellular_bench.metrics.annotation.counts import Counts
from cellular_bench.metrics.engine import evaluate
from cellular_bench.metrics.inputs import Floats, Ints, encode
from cellular_bench.metrics.spec import METRICS, required_inputs

#: Metrics that are formulas of counts of cells: all resamples are computed at once.
COUNTING: Mapping[str, Callable[[Counts], Floats]] = {
    "accuracy": counting.accuracy_of,
    "balanced_accuracy": counting.balanced_accuracy_of,
    "f1_macro": counting.f1_macro_of,
    "f1_weighted": counting.f1_weighted_of,
    "mcc": counting.mcc_of,
    "cohen_kappa": counting.cohen_kappa_of,
    "rare_recall": counting.rare_recall_of,
    "accuracy_accepted": counting.accuracy_accepted_of,
    "coverage": counting.coverage_of,
}
#: Inputs that are not one value or row per cell.
NOT_PER_CELL = frozenset({"labels"})
#: With a smaller share of resamples that have a value, there is no interval.
MIN_DEFINED = 0.9


class Interval(NamedTuple):
    """Percentile interval of resampled scores.

    Attributes
    ----------
    low, high
        Ends of the interval.
    n_resamples, n_undefined
        Number of resamples, and of those in which the score has no value, which are excluded.
    """

    low: float
    high: float
    n_resamples: int
    n_undefined: int


def bootstrap(
    metric_ids: Sequence[str],
    inputs: Mapping[str, object],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    stratify: bool = False,
) -> dict[str, Floats | UndefinedError]:
    """Return the scores of resampled cells, or the reason why a metric cannot be resampled.

    Parameters
    ----------
    metric_ids
        Metrics of annotation or novelty.
    inputs
        As for :func:`cellular_bench.metrics.evaluate`.
    n_resamples
        Number of resamples.
    seed
        Seed of the draws; the same seed draws the same cells for every metric that is computed by cells.
    stratify
        True: draw as many cells of each label as there are. The frequencies of the labels are then fixed, and
        a rare label is never lost.

    Returns
    -------
    (n_resamples,) scores per metric, NaN if undefined for a resample.

    Raises
    ------
    UnknownNameError
        If no metric has one of the ids.
    ValueError
        If ``n_resamples`` is below 1.

    References
    ----------
    doi:10.1214/aos/1176344552

    Examples
    --------
    >>> scores = bootstrap(["accuracy"], {"label": ["T"] * 4, "label_pred": ["T"] * 4}, n_resamples=3)
    >>> scores["accuracy"].tolist()
    [1.0, 1.0, 1.0]
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; expected 1 or more")
    given = {name: value for name, value in inputs.items() if value is not None}
    points = evaluate(list(metric_ids), given)
    # A metric without a value has no interval; metrics of an embedding are refused.
    found: dict[str, Floats | UndefinedError] = {
        name: value
        if isinstance(value, UndefinedError)
        else UndefinedError(f"{name} compares cells with each other: drawing cells twice would distort it")
        for name, value in points.items()
        if isinstance(value, UndefinedError) or METRICS[name].aspect not in ("annotation", "novelty")
    }
    left = [name for name in metric_ids if name not in found]
    counted = [name for name in left if "label" in given and (name in COUNTING or name in ontology.FORMULAS)]
    others = [name for name in left if name not in counted]
    if counted:
        found |= _resample_counts(counted, given, n_resamples, seed, stratify=stratify)
    if others:
        found |= _resample_cells(others, given, n_resamples, seed, stratify=stratify)
    return {name: found[name] for name in metric_ids}


def interval(scores: Floats, *, level: float = 0.95) -> Interval:
    """Return the percentile interval of resampled scores.

    Undefined if more than a tenth of the resamples have no value.

    Parameters
    ----------
    scores
        (n_resamples,) scores, NaN if undefined.
    level
        Probability of the interval.

    Examples
    --------
    >>> interval(np.arange(101.0), level=0.5)
    Interval(low=25.0, high=75.0, n_resamples=101, n_undefined=0)
    """
    defined = scores[np.isfinite(scores)]
    n_undefined = len(scores) - len(defined)
    if len(defined) < MIN_DEFINED * len(scores) or not len(defined):
        raise UndefinedError(f"the score has no value in {n_undefined} of {len(scores)} resamples")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), len(scores), n_undefined)


def _resample_counts(
    metric_ids: Sequence[str], inputs: Mapping[str, object], n_resamples: int, seed: int, *, stratify: bool
) -> dict[str, Floats]:
    """Draw the number of cells of each pair of labels, which is equivalent to drawing cells."""
    label, label_pred, rejected = (inputs.get(name) for name in ("label", "label_pred", "rejected"))
    names, pairs, cells = counting.count_pairs(label, label_pred, rejected)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    drawn = np.zeros((n_resamples, len(cells)), dtype=np.int64)
    groups = pairs[0] if stratify else np.zeros(len(cells), dtype=np.int64)
    for group in np.unique(groups):
        part = groups == group
        total = cells[part].sum()
        drawn[:, part] = rng.multinomial(total, cells[part] / total, size=n_resamples)
    counts = counting.tally(names, pairs, cells, drawn=drawn)
    found = {name: COUNTING[name](counts) for name in metric_ids if name in COUNTING}
    for name in set(metric_ids) & ontology.FORMULAS.keys():
        values = ontology.pair_values(name, names, pairs, inputs["ontology"])  # type: ignore[arg-type]
        found[name] = ontology.FORMULAS[name](drawn @ values, counts.n_obs)
    return found


def _resample_cells(
    metric_ids: Sequence[str], inputs: Mapping[str, object], n_resamples: int, seed: int, *, stratify: bool
) -> dict[str, Floats]:
    needed = {name for metric_id in metric_ids for name in (*required_inputs(METRICS[metric_id]), "rejected")}
    used = {name: value for name, value in inputs.items() if name in needed}
    arrays = {name: np.asarray(value) for name, value in used.items() if name not in NOT_PER_CELL}
    fixed = {name: value for name, value in used.items() if name in NOT_PER_CELL}
    n_obs = len(next(iter(arrays.values())))
    strata = encode(inputs["label"], "label")[1] if stratify else np.zeros(n_obs, dtype=np.int64)  # type: ignore[arg-type]
    scores: dict[str, list[float]] = {name: [] for name in metric_ids}
    for cells in _draws(strata, n_resamples, np.random.default_rng(seed)):
        drawn = {name: array[cells] for name, array in arrays.items()}
        for name, value in evaluate(list(metric_ids), {**fixed, **drawn}).items():
            scores[name].append(np.nan if isinstance(value, UndefinedError) else value)
    return {name: np.array(values) for name, values in scores.items()}


def _draws(strata: Ints, n_resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield cells drawn with replacement, from each stratum as many as it has."""
    order = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    widths = np.repeat(sizes, sizes)
    for _ in range(n_resamples):
        yield order[starts + rng.integers(widths)]
