"""Several data sets: against a worked example from the literature, and by hand."""

import numpy as np
import pytest

from cellular_bench.benchmark.analysis.across_datasets import (
    average_ranks,
    critical_difference,
    rank_test,
    resampled_means,
)

#: Areas under the curve of four variants of C4.5 on 14 data sets: Demšar 2006, J Mach Learn Res 7, table 6.
#: Two of them are printed as 0.975, but ranked 2 and 3.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.97501, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
).T  # fmt: skip


def test_average_ranks_and_critical_difference_are_the_published_ones():
    assert average_ranks(DEMSAR).round(3).tolist() == [3.143, 2.000, 2.893, 1.964]
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_the_friedman_test_rejects_and_nemenyi_tells_no_pair_apart_as_published():
    found = rank_test(DEMSAR)
    assert found.p_value is not None and found.p_value < 0.05
    # The largest difference of ranks, 3.143 - 1.964, is below 1.25.
    assert found.groups == ((0, 4),)


def test_groups_are_those_of_scikit_posthocs():
    from scikit_posthocs import posthoc_nemenyi_friedman

    rng = np.random.default_rng(3)
    means = rng.normal(size=(6, 12)) + 0.4 * np.arange(6)[:, None]
    order = np.argsort(average_ranks(means), kind="stable")
    p_values = np.asarray(posthoc_nemenyi_friedman(means.T))[np.ix_(order, order)]
    joined = {
        (i, j) for start, stop in rank_test(means).groups for i in range(start, stop) for j in range(i, stop)
    }
    expected = {(i, j) for i in range(6) for j in range(i, 6) if p_values[i, j] >= 0.05}
    assert joined | {(i, i) for i in range(6)} == expected
    assert 6 < len(expected) < 21


def test_a_clear_order_over_many_data_sets_is_told_apart():
    rng = np.random.default_rng(0)
    means = np.array([[0.9], [0.6], [0.3]]) + rng.normal(0, 0.01, (3, 30))
    assert rank_test(means).groups == ()


def test_too_few_data_sets_say_so_instead_of_a_p_value():
    found = rank_test(DEMSAR[:, :4])
    assert found.p_value is None
    assert found.reason == "a test of ranks needs 5 data sets and 3 methods; there are 4 and 4"


def test_equal_methods_are_not_told_apart():
    found = rank_test(np.full((3, 6), 0.5))
    assert (found.p_value, found.groups) == (1.0, ((0, 3),))


def test_resampling_centres_on_the_mean_and_varies_with_data_sets_most():
    # Two data sets that differ by .4; splits and seeds of each are alike.
    scores = [np.full((1, 3, 2), 0.3), np.full((1, 3, 2), 0.7)]
    drawn = resampled_means(scores, n_resamples=4000)[:, 0]
    shares = {value: np.isclose(drawn, value).mean() for value in (0.3, 0.5, 0.7)}
    # both the first: 1/4, one of each: 1/2, both the second: 1/4
    assert shares == pytest.approx({0.3: 0.25, 0.5: 0.5, 0.7: 0.25}, abs=0.03)


def test_splits_and_seeds_are_drawn_within_their_data_set():
    rng = np.random.default_rng(1)
    one = rng.normal(0.5, 0.1, (1, 40, 5))
    drawn = resampled_means([one, one], n_resamples=3000)[:, 0]
    # Each of two data sets averages 40 units, each by one of its 5 seeds: var = .01 / 40 / 2, roughly.
    assert drawn.std() == pytest.approx(np.sqrt(one.var() / 40 / 2), rel=0.15)
    assert drawn.mean() == pytest.approx(one.mean(), abs=0.002)


def test_methods_are_drawn_together():
    rng = np.random.default_rng(2)
    one = rng.normal(0.5, 0.2, (1, 10, 2))
    drawn = resampled_means([np.concatenate([one, one - 0.01])] * 2)
    assert np.allclose(drawn[:, 0] - drawn[:, 1], 0.01)


def test_the_same_seed_draws_the_same():
    scores = [np.random.default_rng(3).random((2, 4, 3))]
    assert np.array_equal(resampled_means(scores, seed=5), resampled_means(scores, seed=5))
