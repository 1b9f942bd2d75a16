"""Intervals and comparisons: worked by hand, against SciPy, and at their nominal rate."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from cellular_bench.benchmark.analysis.statistics import (
    SplitScore,
    average_seeds,
    interval,
    paired_tests,
    rank_shares,
)
from cellular_bench.core.errors import UserError


def _scores(values, *, overlap=0.0):
    return [
        SplitScore(split_id=f"split{i}", value=float(value), overlap=overlap)
        for i, value in enumerate(values)
    ]


def _compared(scores):
    return paired_tests(scores, pairs=list(combinations(scores, 2)))


def test_without_overlap_it_is_the_usual_t_interval():
    values = np.array([0.71, 0.78, 0.69, 0.80, 0.75])
    found = interval(_scores(values))
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=1e-12)


def test_overlapping_folds_widen_it_by_the_published_factor():
    values = [0.71, 0.78, 0.69, 0.80, 0.75]
    plain, wide = interval(_scores(values)), interval(_scores(values, overlap=0.25))
    factor = math.sqrt((1 / 5 + 1 / 4) / (1 / 5))
    assert (wide.high - wide.low) / (plain.high - plain.low) == pytest.approx(factor)


def test_intervals_of_independent_splits_hold_the_mean_at_their_nominal_rate():
    rng = np.random.default_rng(0)
    held = [
        found.low <= 0.8 <= found.high
        for found in (interval(_scores(rng.normal(0.8, 0.05, 6))) for _ in range(2000))
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_correlated_folds_are_held_only_with_the_correction():
    """Scores that share a part, as folds do: correlation 1/5 of five folds, the overlap of 4 to 1."""
    rng = np.random.default_rng(1)
    rho = 0.2
    corrected, plain = [], []
    for _ in range(2000):
        shared = rng.normal(0, math.sqrt(rho))
        values = 0.8 + 0.05 * (shared + rng.normal(0, math.sqrt(1 - rho), 5))
        for overlap, held in ((0.25, corrected), (0.0, plain)):
            found = interval(_scores(values, overlap=overlap))
            held.append(found.low <= 0.8 <= found.high)
    assert np.mean(corrected) == pytest.approx(0.95, abs=0.015)
    assert np.mean(plain) < 0.90


def test_one_split_has_no_interval_and_says_why():
    found = interval(_scores([0.5]))
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    assert "no spread" in found.reason


def test_seeds_are_averaged_within_their_split():
    found = average_seeds([("b", 0.5, 0.2), ("a", 0.5, 0.4), ("b", 0.5, 0.4)])
    assert [(score.split_id, score.value) for score in found] == [("a", 0.4), ("b", pytest.approx(0.3))]
    with pytest.raises(UserError, match="average its seeds"):
        interval([SplitScore(split_id="a", value=1.0), SplitScore(split_id="a", value=0.0)])


def test_a_pair_is_compared_on_its_common_splits_as_by_scipy():
    first, second = _scores([0.9, 0.8, 0.85, 0.95]), _scores([0.85, 0.78, 0.86, 0.90, 0.1])
    (found,) = _compared({"a": first, "b": second})
    expected = stats.ttest_rel([0.9, 0.8, 0.85, 0.95], [0.85, 0.78, 0.86, 0.90])
    assert found.n == 4
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx(0.0275)
    assert found.wins == 0.75


def test_scores_that_are_equal_but_for_rounding_are_not_told_apart():
    """0.1 + 0.2 is not 0.3 in binary, on every split by the same: a spread of 0 around what is not 0."""
    assert 0.1 + 0.2 != 0.3
    (found,) = _compared({"a": _scores([0.1 + 0.2] * 3), "b": _scores([0.3] * 3)})
    assert (found.p_value, found.difference, found.wins, found.is_different) == (1.0, 0.0, 0.5, False)
    (found,) = _compared({"a": _scores([0.301] * 3), "b": _scores([0.3] * 3)})
    assert found.is_different


def test_p_values_are_adjusted_by_holm():
    rng = np.random.default_rng(2)
    scores = {name: _scores(rng.normal(mean, 0.01, 8)) for name, mean in (("a", 0.9), ("b", 0.9), ("c", 0.8))}
    found = {(c.first, c.second): c.p_value for c in _compared(scores)}
    raw = {
        pair: stats.ttest_rel(*([score.value for score in scores[name]] for name in pair)).pvalue
        for pair in found
    }
    ordered = sorted(raw, key=raw.get)
    running = 0.0
    for place, pair in enumerate(ordered):
        running = max(running, min(1.0, (3 - place) * raw[pair]))
        assert found[pair] == pytest.approx(running)


def test_equal_methods_are_called_different_at_most_at_the_nominal_rate():
    rng = np.random.default_rng(3)
    called = [
        any(c.is_different for c in _compared({n: _scores(rng.normal(0, 1, 5)) for n in "abcd"}))
        for _ in range(300)
    ]
    assert np.mean(called) <= 0.08


@pytest.mark.parametrize(
    ("first", "second", "p_value"),
    [([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], 1.0), ([0.5, 0.75, 1.0], [0.25, 0.5, 0.75], 0.0)],
)
def test_differences_without_spread(first, second, p_value):
    (found,) = _compared({"a": _scores(first), "b": _scores(second)})
    assert found.p_value == p_value


def test_too_few_splits_give_a_reason_instead_of_a_p_value():
    (found,) = _compared({"a": _scores([0.1, 0.9]), "b": _scores([0.2, 0.3])})
    assert found.p_value is None
    assert "2 common splits" in found.reason
    assert not found.is_different


def test_rank_shares_of_a_clear_and_of_an_open_race():
    clear = rank_shares({"a": _scores([0.9, 0.91, 0.92]), "b": _scores([0.5, 0.51, 0.52])})
    np.testing.assert_array_equal(clear["a"], [1, 0])
    even = rank_shares({"a": _scores([0.5] * 4), "b": _scores([0.5] * 4)}, seed=1)
    np.testing.assert_allclose(even["a"], [0.5, 0.5], atol=0.05)
    assert sum(shares[0] for shares in even.values()) == pytest.approx(1)
    with pytest.raises(UserError, match="same splits"):
        rank_shares({"a": _scores([0.5, 0.6]), "b": _scores([0.5])})
