"""Confidence intervals, paired tests, ties and rank stability over repeated runs.

Folds of one data set share most of their training cells, so that their scores are not independent: the
variance of a mean over them is larger than the usual formula says. Intervals and tests over folds are
therefore corrected with the ratio of test to training cells (Nadeau and Bengio 2003,
doi:10.1023/A:1024068626366). Seeds are averaged within a split first: they are no independent replicates. If
there are too few splits, the result has a reason instead of a number.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError

#: Probability of an interval; tests are at 1 minus this level.
LEVEL: Final = 0.95
#: Sums in another order differ in the last bits; scores that differ by no more are equal.
ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitScore:
    """The score of a method on one split, averaged over seeds.

    Attributes
    ----------
    overlap
        Test cells per training cell if the training cells of splits overlap; 0 if splits are independent,
        such as data sets.
    """

    split_id: str
    value: float
    overlap: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the bounds of its confidence interval; ``reason`` if there are none."""

    mean: float
    low: float | None
    high: float | None
    n: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two methods on the same splits.

    Attributes
    ----------
    difference
        Mean of first minus second.
    p_value
        Two-sided, adjusted by Holm's rule for several comparisons; None with a reason.
    wins
        Share of splits on which the first scores higher; ties count half.
    """

    first: str
    second: str
    difference: float
    p_value: float | None
    wins: float
    n: int
    reason: str = ""

    @property
    def is_different(self) -> bool:
        """Whether the methods differ significantly at 5 %."""
        return self.p_value is not None and self.p_value < 1 - LEVEL


def average_seeds(values: Sequence[tuple[str, float, float]]) -> tuple[SplitScore, ...]:
    """Average the scores of each split over its seeds.

    Parameters
    ----------
    values
        Split, overlap (see :class:`SplitScore`) and score of each run.

    Examples
    --------
    >>> [score.value for score in average_seeds([("fold1", 0.2, 0.5), ("fold1", 0.2, 0.7)])]
    [0.6]
    """
    by_split: dict[tuple[str, float], list[float]] = defaultdict(list)
    for split_id, overlap, value in values:
        by_split[split_id, overlap].append(value)
    return tuple(
        SplitScore(split_id=split_id, overlap=overlap, value=math.fsum(of_seeds) / len(of_seeds))
        for (split_id, overlap), of_seeds in sorted(by_split.items())
    )


def interval(scores: Sequence[SplitScore], *, level: float = LEVEL) -> Interval:
    """Return the mean over splits with its t interval, corrected for overlapping training cells.

    Parameters
    ----------
    scores
        One score per split.

    Raises
    ------
    UserError
        If there is no score, or a split comes twice.

    Examples
    --------
    >>> folds = [SplitScore(split_id=f"{i}", value=v, overlap=0.25) for i, v in enumerate([0.8, 0.9, 1.0])]
    >>> ci = interval(folds)
    >>> f"{ci.mean:.2f} [{ci.low:.2f}, {ci.high:.2f}]"
    '0.90 [0.57, 1.23]'
    """
    values = _distinct(scores)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean=mean, low=None, high=None, n=len(values), reason="one split has no spread")
    half = half_width(scores, level=level) * float(values.std(ddof=1))
    return Interval(mean=mean, low=mean - half, high=mean + half, n=len(values))


def half_width(scores: Sequence[SplitScore], *, level: float = LEVEL) -> float:
    """Return half of the interval in standard deviations over splits.

    It depends on the number of splits and their overlap, not on the values.

    Examples
    --------
    >>> folds = [SplitScore(split_id=f"{i}", value=0.5, overlap=0.25) for i in range(5)]
    >>> round(half_width(folds), 2)
    1.86
    """
    return _t_quantile(0.5 + level / 2, len(scores) - 1) * _standard_error_factor(scores)


@cache
def _t_quantile(share: float, n_free: int) -> float:
    """Return a quantile of Student's t; a page needs the same few thousands of times."""
    from scipy import stats

    return float(stats.t.ppf(share, n_free))


def paired_tests(
    scores: Mapping[str, Sequence[SplitScore]], *, pairs: Sequence[tuple[str, str]] | None = None
) -> tuple[Comparison, ...]:
    """Compare methods pair by pair on the splits that both were scored on.

    The corrected resampled t test on the differences; p values adjusted by Holm's rule over all pairs.
    At least three splits are needed for a p value.

    Parameters
    ----------
    scores
        Scores by method.
    pairs
        Which methods to compare; None: each with each.
    """
    names = list(scores)
    chosen = pairs if pairs is not None else [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return holm([_compared(first, second, scores) for first, second in chosen])


def tie_groups(ranked: Sequence[str], comparisons: Sequence[Comparison]) -> tuple[tuple[str, ...], ...]:
    """Group methods without a significant difference at 5 %: stretches of the ranking, possibly overlapping.

    Parameters
    ----------
    ranked
        Methods, the best first.
    comparisons
        Of all their pairs; a pair without a p value counts as not different.

    Returns
    -------
    Stretches of two or more methods, none within another.
    """
    different = {frozenset((c.first, c.second)) for c in comparisons if c.is_different}
    groups: list[tuple[int, int]] = []
    for start in range(len(ranked)):
        stop = start + 1
        while stop < len(ranked) and not any(
            frozenset((ranked[i], ranked[stop])) in different for i in range(start, stop)
        ):
            stop += 1
        if stop - start > 1 and not any(a <= start and stop <= b for a, b in groups):
            groups.append((start, stop))
    return tuple(tuple(ranked[start:stop]) for start, stop in groups)


def rank_shares(
    scores: Mapping[str, Sequence[SplitScore]], *, n_resamples: int = 2000, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Return how often each method takes each rank when splits are resampled with replacement.

    Parameters
    ----------
    scores
        Scores by method, on the same splits.
    n_resamples
        Number of resamples.

    Returns
    -------
    (n_methods,) shares by method, from the first rank to the last; equal scores share the mean rank's
    weight evenly.

    Raises
    ------
    UserError
        If the methods were not scored on the same splits.
    """
    splits = [[score.split_id for score in of_method] for of_method in scores.values()]
    first = splits[0]
    if any(others != first for others in splits):
        raise UserError("Ranks can be compared only of methods that were scored on the same splits.")
    values = np.array([[score.value for score in of_method] for of_method in scores.values()])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(first), size=(n_resamples, len(first)))
    means = values[:, drawn].mean(axis=2)
    # The k-th best of each resample; ties are broken at random, so that no method is preferred.
    jitter = rng.random(means.shape) * 1e-12
    ranks = (-(means + jitter)).argsort(axis=0).argsort(axis=0)
    n_methods = len(values)
    return {
        method: np.bincount(ranks[i], minlength=n_methods) / n_resamples for i, method in enumerate(scores)
    }


def _distinct(scores: Sequence[SplitScore]) -> NDArray[np.float64]:
    if not scores:
        raise UserError("An interval needs at least one score, none came.")
    if len({score.split_id for score in scores}) < len(scores):
        raise UserError("A split came twice: average its seeds first.")
    return np.array([score.value for score in scores])


def _standard_error_factor(scores: Sequence[SplitScore]) -> float:
    overlap = float(np.mean([score.overlap for score in scores]))
    return math.sqrt(1 / len(scores) + overlap)


def _compared(first: str, second: str, scores: Mapping[str, Sequence[SplitScore]]) -> Comparison:
    from scipy import stats

    theirs = {score.split_id: score for score in scores[second]}
    both = [(score, theirs[score.split_id]) for score in scores[first] if score.split_id in theirs]
    differences = np.array([a.value - b.value for a, b in both])
    differences[np.abs(differences) <= ROUNDING] = 0.0
    n = len(both)
    p_value, reason = None, ""
    if n < 3:
        reason = f"{n} common split{'' if n == 1 else 's'}: too few for a p value"
    else:
        error = _standard_error_factor([a for a, _ in both]) * float(differences.std(ddof=1))
        mean = float(differences.mean())
        # Equal on every split: no evidence of a difference. Different by a constant: certain.
        p_value = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
    return Comparison(
        first=first,
        second=second,
        difference=float(differences.mean()) if n else math.nan,
        p_value=p_value,
        wins=float(((differences > 0) + 0.5 * (differences == 0)).mean()) if n else math.nan,
        n=n,
        reason=reason,
    )


def holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjust the p values of several comparisons by Holm's rule (1979); those without one stay so."""
    # Not statsmodels: each of its calls collects garbage, which takes longer the more a process holds.
    tested = [i for i, comparison in enumerate(comparisons) if comparison.p_value is not None]
    if not tested:
        return tuple(comparisons)
    p_values = np.array([comparisons[i].p_value for i in tested])
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = dict(
        zip((tested[i] for i in order), np.maximum.accumulate(steps).clip(max=1.0).tolist(), strict=True)
    )
    return tuple(
        replace(comparison, p_value=adjusted[i]) if i in adjusted else comparison
        for i, comparison in enumerate(comparisons)
    )
