"""PCR comparison: by hand, and when there is a batch effect to remove."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway, ortho_group

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import pcr_comparison
from cellular_bench.metrics.embedding import regression
from cellular_bench.metrics.embedding.regression import LEVEL, p_of_share, share_between_groups

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)


def centred(X):
    return X - X.mean(axis=0)


def donors(n_donors, n_cells, effect, seed=0, n_dims=10):
    """Cells of equal variance in all dimensions, and an effect of each donor."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_donors), n_cells)
    X = rng.normal(size=(len(codes), n_dims)) + effect * rng.normal(size=(n_donors, n_dims))[codes]
    return X, codes, rng


def is_defined(X, batch):
    try:
        pcr_comparison(X, X, batch)
    except UndefinedError as error:
        assert "there is nothing to remove" in str(error)
        assert not error.by_output
        return False
    return True


def test_by_hand():
    # Between batches 4 of 5 (0, 1, 2, 3) before, 1 of 5 (0, 2, 1, 3) after.
    before, after = np.array([[0.0, 1, 2, 3] * 5, [0.0, 2, 1, 3] * 5])[:, :, None]
    assert pcr_comparison(before, after, list("xxyy") * 5) == pytest.approx((0.8 - 0.2) / 0.8)


def test_a_gain_counts_zero():
    before, after = np.array([[0.0, 2, 1, 3] * 10, [0.0, 1, 2, 3] * 10])[:, :, None]
    assert pcr_comparison(before, after, list("xxyy") * 10) == 0.0


def test_what_chance_explains_is_no_batch_effect():
    # Between batches 1 of 5 of 24 cells: F = 0.2 / 0.8 * 22 = 5.5, where normal cells would have p = .0285.
    before = np.array([0.0, 2, 1, 3] * 6)[:, None]
    with pytest.raises(UndefinedError, match=r"explain 0.2 of .* explain 0.043, .* p = 0.031 ") as found:
        pcr_comparison(before, before, list("xxyy") * 6)
    assert not found.value.by_output


@pytest.mark.parametrize(("n_donors", "n_cells"), [(40, 10), (8, 4), (100, 8), (4, 3), (20, 2)])
def test_many_donors_of_few_cells_that_explain_half_have_a_value(n_donors, n_cells):
    before, codes, rng = donors(n_donors, n_cells, 0.88)
    means = np.array([before[codes == one].mean(axis=0) for one in range(n_donors)])
    after = before - means[codes] + 0.1 * rng.normal(size=before.shape)
    ratio = share_between_groups(centred(after), codes) / share_between_groups(centred(before), codes)
    assert ratio < 0.05
    assert pcr_comparison(before, after, codes) == pytest.approx(1 - ratio)


@pytest.mark.parametrize(("n_batches", "n_cells"), [(2, 100), (40, 10), (100, 8)])
@pytest.mark.parametrize("weights", [np.ones(10), 0.5 ** np.arange(10)], ids=["equal", "falling"])
def test_noise_has_a_value_about_as_often_as_the_level(n_batches, n_cells, weights):
    n_draws = 400
    found = sum(
        is_defined(X * weights, codes)
        for X, codes, _ in (donors(n_batches, n_cells, 0, seed) for seed in range(n_draws))
    )
    # Six standard errors; at least one in 400 draws, as 4 are expected.
    assert 1 <= found <= n_draws * LEVEL + 6 * np.sqrt(n_draws * LEVEL)


@pytest.mark.parametrize("sizes", [(2, 2, 3), (1, 2, 4), (1, 1, 5), (3, 4), (1, 3), (2, 2, 1, 1)])
def test_the_variance_is_that_of_all_permutations(sizes):
    rng = np.random.default_rng(sum(sizes))
    codes = np.repeat(np.arange(len(sizes)), sizes)
    X = centred(np.exp(rng.normal(size=(len(codes), 3)) * [3, 1, 0.2]))
    shares = [share_between_groups(X, np.array(order)) for order in permutations(codes)]
    assert np.mean(shares) == pytest.approx((len(sizes) - 1) / (len(codes) - 1))
    variance = regression._variance_of_share(X, np.array(sizes))
    assert variance == pytest.approx(np.var(shares), rel=1e-9)
    wide = np.hstack([X, np.zeros((len(X), 20))])  # more dimensions than cells
    assert regression._variance_of_share(wide, np.array(sizes)) == pytest.approx(variance)


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.5])
def test_one_normal_dimension_is_an_f_test(shift):
    rng = np.random.default_rng(1)
    groups = [rng.normal(size=70) + i * shift for i in range(3)]
    codes = np.repeat(np.arange(3), 70)
    p = p_of_share(centred(np.concatenate(groups)[:, None]), codes)
    assert p == pytest.approx(f_oneway(*groups).pvalue, rel=0.1)


@pytest.mark.parametrize("sizes", [(100, 100), (10,) * 20, (150, 40, 5, 5)])
def test_p_is_the_share_of_random_permutations(sizes):
    """Components of unequal variance, of four types of unequal size."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    types = rng.choice(4, len(codes), p=[0.6, 0.25, 0.1, 0.05])
    X = centred((rng.normal(size=(len(codes), 8)) + 2 * rng.normal(size=(4, 8))[types]) * 0.7 ** np.arange(8))
    drawn = [rng.permutation(codes) for _ in range(4000)]
    shares = np.array([share_between_groups(X, order) for order in drawn])
    for order in (drawn[int(np.argsort(-shares)[rank])] for rank in (400, 40)):
        share = np.mean(shares >= share_between_groups(X, order))
        assert share / 2.5 < p_of_share(X, order) < share * 2.5


@few
@given(seeds, st.integers(2, 12), st.sampled_from([0.0, 0.3, 0.6, 1.5]), st.floats(-6, 6))
def test_order_names_scale_and_rotation_mean_nothing(seed, n_donors, effect, exponent):
    before, codes, rng = donors(n_donors, 5, effect, seed, n_dims=4)
    before *= [4.0, 2.0, 1.0, 0.5]
    codes[: n_donors + 2] = 0  # unequal sizes; some batches may be gone
    _, codes = np.unique(codes, return_inverse=True)
    order = rng.permutation(len(codes))
    names = rng.permutation(100)[: n_donors + 1]
    rotation = ortho_group.rvs(4, random_state=seed)
    changed = 10**exponent * (before[order] @ rotation) + rng.normal()
    _, renamed = np.unique(names[codes[order]], return_inverse=True)
    p = p_of_share(centred(before), codes)
    assert p_of_share(centred(changed), renamed) == pytest.approx(p, rel=1e-6, abs=1e-300)
    assert is_defined(changed, names[codes[order]].astype(str)) == is_defined(before, codes) == (p < LEVEL)


@pytest.mark.parametrize(
    ("sizes", "ways"), [((4, 4), 35), ((5, 5), 126), ((1, 4), 5), ((3, 3), 10), ((3, 3, 3), 280), ((2, 2), 3)]
)
def test_p_is_not_below_one_over_the_ways_to_form_the_batches(sizes, ways):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    X = 100.0 * codes[:, None] + np.random.default_rng(0).normal(size=(len(codes), 3))
    assert p_of_share(centred(X), codes) == pytest.approx(1 / ways)
    assert is_defined(X, codes) == (ways > 1 / LEVEL)


@pytest.mark.parametrize("n_batches", [2, 10, 30, 60])
def test_cells_at_equal_distances_have_no_batch_effect(n_batches):
    """Every assignment of the cells then explains the same."""
    assert not is_defined(np.eye(60), np.arange(60) % n_batches)


def test_one_cell_far_away_is_no_effect_of_the_others():
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[0] += 1e6
    # Alone in its batch it is one of 200 cells that could be; in a batch of 20 it explains little.
    assert p_of_share(centred(X), (np.arange(200) > 0).astype(int)) == pytest.approx(1 / 200)
    assert not is_defined(X, np.arange(200) // 20)
    assert not is_defined(X, (np.arange(200) > 1).astype(int)[::-1])
