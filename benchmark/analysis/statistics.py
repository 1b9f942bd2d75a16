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
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError

#: Probability of an interval; tests are at 1 minus this level.
LEVEL: Final = 0.95
N_RESAMPLES: Final = 2000
#: Sums in another order differ in the last bits; scores that differ by no more are equal.
ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitScore:
    """The score of a method on one split, averaged over seeds.

    ``overlap``: test cells per training cell if the training cells of splits overlap; 0 if independent.
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
    """Two methods on the same splits: first minus second, and how often the first scores higher.

    Ties count half. The p value is two-sided, adjusted by Holm's rule; None with a reason.
    """

    first: str
    second: str
    difference: float
    p_value: float | None
    wins: float
    n: int
    reason: str = ""

    @classmethod
    def of(
        cls,
        first: str,
        second: str,
        differences: NDArray[np.float64],
        *,
        p_value: float | None = None,
        reason: str = "",
    ) -> Comparison:
        """Summarise the differences on each split; NaN if there is none."""
        n = len(differences)
        return cls(
            first=first,
            second=second,
            difference=float(differences.mean()) if n else math.nan,
            p_value=p_value,
            wins=float(((differences > 0) + 0.5 * (differences == 0)).mean()) if n else math.nan,
            n=n,
            reason=reason,
        )

    @property
    def is_different(self) -> bool:
        """Whether the methods differ significantly at 5 %."""
        return self.p_value is not None and self.p_value < 1 - LEVEL


def average_seeds(values: Sequence[tuple[str, float, float]]) -> tuple[SplitScore, ...]:
    """Average the scores of each split over its seeds, from split, overlap and score of each run.

    Splits of one name are one split, however many cells each has.

    Examples
    --------
    >>> [score.value for score in average_seeds([("fold1", 0.2, 0.5), ("fold1", 0.2, 0.7)])]
    [0.6]
    """
    by_split: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for split_id, overlap, value in values:
        by_split[split_id].append((overlap, value))
    return tuple(
        SplitScore(split_id=split_id, overlap=fmean(overlaps), value=fmean(scores))
        for split_id, of_seeds in sorted(by_split.items())
        for overlaps, scores in [zip(*of_seeds, strict=True)]
    )


def interval(scores: Sequence[SplitScore]) -> Interval:
    """Return the mean over splits with its t interval, corrected for overlapping training cells.

    UserError if there is no score, or a split comes twice.

    Examples
    --------
    >>> folds = [SplitScore(split_id=f"{i}", value=v, overlap=0.25) for i, v in enumerate([0.8, 0.9, 1.0])]
    >>> ci = interval(folds)
    >>> f"{ci.mean:.2f} [{ci.low:.2f}, {ci.high:.2f}]"
    '0.90 [0.57, 1.23]'
    """
    if not scores:
        raise UserError("An interval needs at least one score, none came.")
    if len({score.split_id for score in scores}) < len(scores):
        raise UserError("A split came twice: average its seeds first.")
    values = np.array([score.value for score in scores])
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean=mean, low=None, high=None, n=len(values), reason="one split has no spread")
    half = half_width([score.overlap for score in scores]) * float(values.std(ddof=1))
    return Interval(mean=mean, low=mean - half, high=mean + half, n=len(values))


def half_width(overlaps: Sequence[float]) -> float:
    """Return half of the interval in standard deviations over splits, from the overlap of each.

    Examples
    --------
    >>> round(half_width([0.25] * 5), 2)
    1.86
    """
    return _t_quantile(0.5 + LEVEL / 2, len(overlaps) - 1) * _standard_error_factor(overlaps)


@cache
def _t_quantile(share: float, n_free: int) -> float:
    """Return a quantile of Student's t; a page needs the same few thousands of times."""
    from scipy import stats

    return float(stats.t.ppf(share, n_free))


def paired_tests(
    scores: Mapping[str, Sequence[SplitScore]], *, pairs: Sequence[tuple[str, str]]
) -> tuple[Comparison, ...]:
    """Compare pairs of methods on the splits that both were scored on.

    The corrected resampled t test on the differences; p values adjusted by Holm's rule over all pairs.
    At least three splits are needed for a p value.
    """
    return holm([_compared(first, second, scores) for first, second in pairs])


def rank_shares(
    scores: Mapping[str, Sequence[SplitScore]], *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Return how often each method takes each rank when splits are resampled with replacement.

    Shares are (n_methods,), from the first rank to the last. UserError if the methods were not scored on the
    same splits.
    """
    splits = [[score.split_id for score in of_method] for of_method in scores.values()]
    first = splits[0]
    if any(others != first for others in splits):
        raise UserError("Ranks can be compared only of methods that were scored on the same splits.")
    values = np.array([[score.value for score in of_method] for of_method in scores.values()])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(first), size=(N_RESAMPLES, len(first)))
    means = values[:, drawn].mean(axis=2)
    # The k-th best of each resample; ties are broken at random, so that no method is preferred.
    jitter = rng.random(means.shape) * 1e-12
    ranks = (-(means + jitter)).argsort(axis=0).argsort(axis=0)
    n_methods = len(values)
    return {
        method: np.bincount(ranks[i], minlength=n_methods) / N_RESAMPLES for i, method in enumerate(scores)
    }


def _standard_error_factor(overlaps: Sequence[float]) -> float:
    return math.sqrt(1 / len(overlaps) + float(np.mean(overlaps)))


def _compared(first: str, second: str, scores: Mapping[str, Sequence[SplitScore]]) -> Comparison:
    from scipy import stats

    theirs = {score.split_id: score for score in scores[second]}
    both = [(score, theirs[score.split_id]) for score in scores[first] if score.split_id in theirs]
    differences = np.array([a.value - b.value for a, b in both])
    differences[np.abs(differences) <= ROUNDING] = 0.0
    n = len(both)
    if n < 3:
        reason = f"{n} common split{'' if n == 1 else 's'}: too few for a p value"
        return Comparison.of(first, second, differences, reason=reason)
    error = _standard_error_factor([a.overlap for a, _ in both]) * float(differences.std(ddof=1))
    mean = float(differences.mean())
    # Equal on every split: no evidence of a difference. Different by a constant: certain.
    p_value = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
    return Comparison.of(first, second, differences, p_value=p_value)


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
