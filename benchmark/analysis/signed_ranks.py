"""Methods pair by pair over data sets: signed-rank tests, win rates and places.

Data sets are independent of one another, unlike folds, and need no correction for overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.analysis.statistics import LEVEL, Comparison, holm

Scores = NDArray[np.float64]


def signed_rank_tests(names: Sequence[str], means: Scores) -> tuple[Comparison, ...]:
    """Compare the method with the highest mean with each other one over data sets.

    Wilcoxon's signed-rank test, two-sided; p values adjusted by Holm's rule. There is a reason instead of p
    values if the data sets are too few for any significant difference; see :func:`least_datasets`. ``means``
    is (n_methods, n_datasets).

    References
    ----------
    Wilcoxon 1945, doi:10.2307/3001968; for comparing methods over data sets: Demšar 2006, J Mach Learn Res 7.

    Examples
    --------
    >>> scores = np.array([[0.71, 0.82, 0.93, 0.64, 0.75, 0.86], [0.7, 0.8, 0.9, 0.6, 0.7, 0.8]])
    >>> [round(test.p_value, 5) for test in signed_rank_tests(["a", "b"], scores)]
    [0.03125]
    """
    best = int(means.mean(axis=1).argmax())
    others = [i for i in range(len(names)) if i != best]
    least = least_datasets(len(others))
    return holm([_compared(names[best], names[i], means[best] - means[i], least) for i in others])


def least_datasets(n_others: int) -> int:
    """Return how many data sets the best needs for a significant difference (5 %) from any of several others.

    The smallest p value of n data sets is 2 / 2^n, and Holm's rule multiplies the smallest by the number of
    others.

    Examples
    --------
    >>> [least_datasets(n) for n in (1, 2, 8)]
    [6, 7, 9]
    """
    n = 1
    while n_others * 2 / 2**n >= 1 - LEVEL:
        n += 1
    return n


def _compared(first: str, second: str, differences: Scores, least: int) -> Comparison:
    n = len(differences)
    if n < least:
        reason = f"{n} data sets; a significant difference among so many methods needs {least}"
        return Comparison.of(first, second, differences, reason=reason)
    return Comparison.of(first, second, differences, p_value=_signed_ranks(differences))


def _signed_ranks(differences: Scores) -> float:
    from scipy.stats import wilcoxon

    # Sums in another order differ in the last bits, which must not count as a difference.
    rounded = differences.round(12)
    if not rounded.any():
        return 1.0
    # The ranks of zero differences count half for each side, as Demšar advises.
    return float(wilcoxon(rounded, zero_method="zsplit").pvalue)


def win_rates(means: Scores) -> Scores:
    """Return how often each method beats another one: the share over data sets and others, ties half.

    Examples
    --------
    >>> win_rates(np.array([[0.9, 0.5], [0.8, 0.5], [0.1, 0.6]])).tolist()
    [0.625, 0.375, 0.5]
    """
    from scipy.stats import rankdata

    n_methods, n_datasets = means.shape
    beaten = n_methods - rankdata(-means, axis=0)
    rates: Scores = beaten.sum(axis=1) / ((n_methods - 1) * n_datasets)
    return rates


def places(means: Scores) -> tuple[Mapping[int, int], ...]:
    """Return on how many data sets each method takes which place; equal scores share the better place.

    Examples
    --------
    >>> [dict(counts) for counts in places(np.array([[0.9, 0.5], [0.8, 0.5], [0.1, 0.6]]))]
    [{1: 1, 2: 1}, {2: 2}, {1: 1, 3: 1}]
    """
    from scipy.stats import rankdata

    ranks = rankdata(-means, axis=0, method="min").astype(int)
    return tuple(Counter(dict(sorted(Counter(row).items()))) for row in ranks.tolist())
