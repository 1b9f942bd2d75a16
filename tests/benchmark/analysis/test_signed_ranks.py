"""Methods pair by pair over data sets: a worked example from the literature, and cases by hand."""

import numpy as np
import pytest

from cellular_bench.benchmark.analysis.signed_ranks import places, signed_rank_tests, win_rates

#: C4.5 and C4.5 with parameter m on 14 data sets: Demšar 2006, J Mach Learn Res 7, table 2.
PLAIN = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.94, 0.619, 0.972, 0.957]
TUNED = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]


def test_the_worked_example_is_rejected_with_its_z():
    (found,) = signed_rank_tests(["plain", "tuned"], np.array([PLAIN, TUNED]))
    # R+ = 93, R- = 12, z = -2.54, of which the two-sided p is 0.011; two ties count half a win
    assert (found.first, found.second) == ("tuned", "plain")
    assert found.p_value == pytest.approx(0.0111, abs=4e-4)
    assert found.wins == pytest.approx((10 + 2 / 2) / 14)


def test_six_data_sets_are_the_fewest_that_tell_anything_apart():
    lead = 0.1 * np.arange(1, 7)
    (six,) = signed_rank_tests(["a", "b"], np.array([0.3 + lead, np.full(6, 0.3)]))
    assert six.p_value == pytest.approx(2 / 2**6)
    (five,) = signed_rank_tests(["a", "b"], np.array([0.3 + lead, np.full(6, 0.3)])[:, :5])
    assert five.p_value is None
    assert five.reason == "5 data sets; a significant difference among so many methods needs 6"


def test_p_values_of_several_others_are_adjusted():
    lead = 0.01 * np.arange(1, 8)
    means = np.array([np.full(7, 0.5), 0.5 - lead, 0.4 - lead])
    assert [found.p_value for found in signed_rank_tests(["a", "b", "c"], means)] == pytest.approx(
        [2 * 2 / 2**7] * 2
    )
    # with six, twice 2 / 2^6 is above 5 %, whatever the scores
    assert [found.p_value for found in signed_rank_tests(["a", "b", "c"], means[:, :6])] == [None, None]


def test_equal_methods_are_not_told_apart():
    (found,) = signed_rank_tests(["a", "b"], np.array([[0.1 + 0.2] * 8, [0.3] * 8]))
    assert (found.p_value, found.is_different) == (1.0, False)


def test_wins_and_places_by_hand():
    means = np.array([[0.9, 0.5, 0.5], [0.8, 0.5, 0.6], [0.1, 0.6, 0.4]])
    # first: ahead of both, a tie and a loss, ahead of one
    assert win_rates(means) == pytest.approx([3.5 / 6, 3.5 / 6, 2 / 6])
    assert [dict(found) for found in places(means)] == [{1: 1, 2: 2}, {1: 1, 2: 2}, {1: 1, 3: 2}]


def test_wins_of_all_methods_add_up():
    means = np.random.default_rng(0).random((5, 9)).round(1)
    assert win_rates(means).mean() == pytest.approx(0.5)
