"""The shared pass over all pairs: exact in either precision, equal for any number of threads."""

import numpy as np
import pytest

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.metrics import evaluate, nearest_neighbors, silhouette_label
from cellular_bench.metrics.numerics import approximate
from cellular_bench.metrics.numerics import distances as pairs
from cellular_bench.metrics.numerics.approximate import (
    approximate_neighbors,
    neighbors_in_groups,
    sampled_sums,
    stratified_sample,
)
from cellular_bench.metrics.numerics.parallel import parallel_map
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content
from cellular_bench.metrics.numerics.shared_distances import SharedDistances, shared_distances
from cellular_bench.metrics.profiles import PROFILES, Profile

SILHOUETTES = ["silhouette_label", "isolated_labels", "silhouette_batch"]


@pytest.fixture
def cells():
    """300 cells in 5 dimensions with codes of four labels and three batches."""
    rng = np.random.default_rng(3)
    label, batch = rng.integers(4, size=300), rng.integers(3, size=300)
    return rng.normal(size=(300, 5)) + 3 * rng.normal(size=(4, 5))[label], label, batch


def _brute(X):
    return np.linalg.norm(X[:, None] - X, axis=2)


def test_sums_equal_brute_force(cells):
    X, label, batch = cells
    found = shared_distances(X, label_codes=label, batch_codes=batch).sums
    distances = _brute(X)
    assert found.to_labels == pytest.approx(distances @ np.eye(4)[label], rel=1e-12)
    own = distances * (label[:, None] == label)
    assert found.to_batches == pytest.approx(own @ np.eye(3)[batch], rel=1e-12)


def test_small_panels_give_the_same_sums(cells, monkeypatch):
    X, label, batch = cells
    whole = shared_distances(X, label_codes=label, batch_codes=batch).sums
    monkeypatch.setattr(pairs, "PANEL", 41)
    monkeypatch.setattr(pairs, "TILE_HEIGHT", 7)
    tiled = shared_distances(X, label_codes=label, batch_codes=batch).sums
    assert tiled.to_labels == pytest.approx(whole.to_labels, rel=1e-12)
    assert tiled.to_batches == pytest.approx(whole.to_batches, rel=1e-12)


def test_single_precision_finds_the_same_neighbours_and_nearly_the_same_sums(cells, monkeypatch):
    X, label, batch = cells
    double = shared_distances(X, label_codes=label, batch_codes=batch)
    monkeypatch.setattr(pairs, "DOUBLE_CELLS", 0)
    single = shared_distances(X, label_codes=label, batch_codes=batch)
    assert not np.array_equal(single.sums.to_labels, double.sums.to_labels), "it was double precision"
    assert single.sums.to_labels == pytest.approx(double.sums.to_labels, rel=1e-6)
    assert np.array_equal(single.neighbors.indices, double.neighbors.indices)
    assert single.neighbors.distances == pytest.approx(double.neighbors.distances, rel=1e-12)


def test_what_single_precision_cannot_tell_apart_is_looked_at_again(monkeypatch):
    rng = np.random.default_rng(0)
    # Two places 1000 apart, cells 1e-3 from each other: a squared distance is lost in the product.
    X = 1e-3 * rng.normal(size=(300, 3)) + 1e3 * (np.arange(300) % 2)[:, None]
    monkeypatch.setattr(pairs, "DOUBLE_CELLS", 0)
    found = nearest_neighbors(X, 20)
    expected = np.sort(_brute(X), axis=1)[:, :20]
    # As far as doubles hold coordinates of this size.
    assert found.distances == pytest.approx(expected, abs=1e-9)


def test_groups_too_tight_for_single_precision_are_summed_in_double(monkeypatch):
    rng = np.random.default_rng(0)
    label = np.arange(300) % 2
    X = 1e-3 * rng.normal(size=(300, 3)) + 1e3 * label[:, None]
    expected = silhouette_label(X, label)
    monkeypatch.setattr(pairs, "DOUBLE_CELLS", 0)
    assert silhouette_label(X, label) == expected


def test_values_do_not_depend_on_the_number_of_jobs(separated, monkeypatch):
    monkeypatch.setattr(pairs, "PANEL", 23)
    ids = [*SILHOUETTES, "ilisi", "kbet_per_label", "leiden_nmi", "isolated_label_f1", "kbet"]
    alone = evaluate(ids, separated)
    assert evaluate(ids, separated, n_jobs=3) == alone


def test_rounds_pair_every_two_panels_once_and_none_twice_at_a_time():
    for n in range(1, 9):
        rounds = list(pairs._rounds(n))
        met = sorted(pair for pairs_of_round in rounds for pair in pairs_of_round)
        assert met == [(i, j) for i in range(n) for j in range(i, n)]
        for pairs_of_round in rounds[1:]:
            panels = [panel for pair in pairs_of_round for panel in pair]
            assert len(panels) == len(set(panels))


def test_shared_out_work_keeps_its_order_and_its_errors():
    assert parallel_map(abs, [-3, 2, -1, 0], n_jobs=2) == [3, 2, 1, 0]
    with pytest.raises(ZeroDivisionError):
        parallel_map(_inverse, [1, 0], n_jobs=2)


def _inverse(value):
    return 1 / value


class TestSamples:
    def test_every_label_and_batch_is_in_the_sample_in_proportion(self, cells):
        _, label, batch = cells
        chosen = stratified_sample(label, batch, 60, np.random.default_rng(0).permutation(300))
        assert len(np.unique(chosen)) == len(chosen)
        for name in range(4):
            for group in range(3):
                members = np.count_nonzero((label == name) & (batch == group))
                drawn = np.count_nonzero((label[chosen] == name) & (batch[chosen] == group))
                assert drawn == max(2, int(np.ceil(members * 60 / 300)))

    def test_sums_of_a_sample_are_those_of_the_whole(self, cells):
        X, label, batch = cells
        rows = np.arange(5, 300, 7)
        whole = shared_distances(X, label_codes=label, batch_codes=batch).sums
        part = sampled_sums(X - X.mean(axis=0), label, batch, rows)
        assert part.to_labels == pytest.approx(whole.to_labels[rows], rel=1e-10)
        assert part.to_batches == pytest.approx(whole.to_batches[rows], rel=1e-10)

    def test_cells_outside_get_the_mean_of_their_label_and_batch(self):
        made = SharedDistances(None, None, np.array([0, 0, 0, 1, 1]), np.arange(5), np.array([0, 1, 3]))
        assert made.complete(np.array([1.0, 3.0, 5.0])).tolist() == [1.0, 3.0, 2.0, 5.0, 5.0]

    def test_estimates_lie_within_their_errors(self, cells, monkeypatch):
        X, label, batch = cells
        batch[label == 3] = 0
        inputs = {"X_emb": X, "label": label, "batch": batch}
        exact = evaluate(SILHOUETTES, inputs)
        assert exact.shortcuts == ()
        assert exact.standard_errors == {}
        # So few cells are all in groups near each other; here neighbours are to be exact.
        monkeypatch.setattr(
            "cellular_bench.metrics.numerics.shared_distances.approximate_neighbors",
            lambda X, k, ranks, *, seed, n_jobs: (nearest_neighbors(X, k), 1.0),
        )
        errors = []
        for seed in range(20):
            profile = Profile(name="fast", exact_cells=200, sample_cells=100, seed=seed)
            found = evaluate(SILHOUETTES, inputs, profile=profile)
            for metric_id in SILHOUETTES:
                assert 0 < found.standard_errors[metric_id] < 0.05
                errors.append((found[metric_id] - exact[metric_id]) / found.standard_errors[metric_id])
        # In units of their standard error, estimates spread around the exact value by about one.
        assert 0.5 < np.sqrt(np.mean(np.square(errors))) < 1.6

    def test_shortcuts_are_recorded_with_the_metrics_that_rest_on_them(self, separated, monkeypatch):
        monkeypatch.setattr(
            "cellular_bench.metrics.numerics.shared_distances.approximate_neighbors",
            lambda X, k, ranks, *, seed, n_jobs: (nearest_neighbors(X, k), 0.987),
        )
        profile = Profile(name="fast", exact_cells=100, sample_cells=50)
        found = evaluate(["clisi", "silhouette_label", "bras", "kmeans_nmi"], separated, profile=profile)
        assert found.profile is profile
        assert [(s.quantity, s.metric_ids) for s in found.shortcuts] == [
            ("neighbors", ("clisi",)),
            ("silhouettes", ("silhouette_label",)),
        ]
        assert found.shortcuts[0].figures == {"recall": 0.987, "n_obs": 180, "seed": 0}
        assert "recall of 98.7%" in found.shortcuts[0].description
        assert found.standard_errors.keys() == {"silhouette_label"}

    def test_communities_of_a_sample_are_those_of_its_cells_alone(self, separated, monkeypatch):
        monkeypatch.setattr(
            "cellular_bench.metrics.numerics.shared_distances.approximate_neighbors",
            lambda X, k, ranks, *, seed, n_jobs: (nearest_neighbors(X, k), 1.0),
        )
        profile = Profile(name="fast", exact_cells=100, graph_cells=120, seed=5)
        ids = ["leiden_nmi", "leiden_ari", "isolated_label_f1", "kbet_per_label", "clisi"]
        found = evaluate(ids, separated, profile=profile)
        codes = [np.unique(separated[name], return_inverse=True)[1] for name in ("label", "batch")]
        ranks = random_ranks(row_content(separated["X_emb"]), *codes, seed=5)
        cells = stratified_sample(*codes, 120, ranks)
        assert 120 <= len(cells) < 140
        alone = {name: np.asarray(separated[name])[cells] for name in ("X_emb", "label", "batch")}
        expected = evaluate(ids, alone)
        assert {name: found[name] for name in ids[:4]} == {name: expected[name] for name in ids[:4]}
        assert found["clisi"] == evaluate(["clisi"], separated)["clisi"], "of all cells"
        assert [(s.quantity, s.metric_ids) for s in found.shortcuts] == [
            ("neighbors", ("clisi",)),
            ("cells", tuple(ids[:4])),
        ]
        assert found.shortcuts[1].figures == {"n_sampled": len(cells), "n_obs": 180, "seed": 5}

    def test_a_sample_needs_coordinates(self, separated):
        profile = Profile(name="fast", exact_cells=100, graph_cells=120)
        inputs = {**separated, "X_emb": None, "neighbors": nearest_neighbors(separated["X_emb"])}
        assert evaluate(["leiden_nmi"], inputs, profile=profile) == evaluate(["leiden_nmi"], inputs)

    def test_small_data_are_exact_in_every_profile(self, separated):
        for name in PROFILES:
            found = evaluate(["clisi", "silhouette_label"], separated, profile=name)
            assert found.shortcuts == ()
            assert found == evaluate(["clisi", "silhouette_label"], separated)

    def test_unknown_profile_is_refused(self):
        with pytest.raises(UnknownNameError, match=r"Unknown profile 'quick'.*Known: fast, full, standard"):
            evaluate([], {}, profile="quick")


def test_kernels_compile_where_no_folder_can_be_written(monkeypatch):
    from cellular_bench.metrics.numerics import kernels

    def njit(*, cache=False, **options):
        def compile_or_fail(function):
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return compile_or_fail

    monkeypatch.setattr(kernels.numba, "njit", njit)
    assert kernels._compiled(abs) is abs


class TestApproximateNeighbours:
    @pytest.fixture
    def points(self):
        X = np.random.default_rng(0).normal(size=(3000, 10))
        return X - X.mean(axis=0)

    def test_nearly_all_are_found_at_their_distances(self, points, monkeypatch):
        monkeypatch.setattr(approximate, "NEAR_GROUPS", 12)  # of 27: else every pair is looked at
        found, recall = approximate_neighbors(points, 30, np.arange(3000), seed=0)
        exact = nearest_neighbors(points, 30)
        shared = [len(np.intersect1d(a, b)) for a, b in zip(found.indices, exact.indices, strict=True)]
        assert 0.7 < recall < 1  # cells without any structure are the hardest
        # The recall of 500 cells is that of all, but for chance.
        assert recall == pytest.approx((np.mean(shared) - 1) / 29, abs=0.01)
        assert np.array_equal(found.indices[:, 0], np.arange(3000))
        assert (found.distances[:, 0] == 0).all()
        same = found.indices == exact.indices
        assert found.distances[same] == pytest.approx(exact.distances[same], rel=1e-9)

    def test_all_are_found_where_every_group_is_near(self, points):
        found, recall = approximate_neighbors(points, 30, np.arange(3000), seed=0)
        assert recall == 1.0
        assert np.array_equal(found.indices, nearest_neighbors(points, 30).indices)

    def test_they_depend_on_the_seed_and_not_on_the_number_of_jobs(self, points, monkeypatch):
        monkeypatch.setattr(approximate, "NEAR_GROUPS", 6)
        found, _ = approximate_neighbors(points, 30, np.arange(3000), seed=0)
        again, _ = approximate_neighbors(points, 30, np.arange(3000), seed=0, n_jobs=3)
        other, _ = approximate_neighbors(points, 30, np.arange(3000), seed=1)
        assert np.array_equal(again.indices, found.indices)
        assert np.array_equal(again.distances, found.distances)
        assert not np.array_equal(other.indices, found.indices)

    def test_a_group_with_too_few_cells_beside_it_is_compared_with_all(self, points):
        groups = np.minimum(np.arange(3000), 5)  # five cells alone, each looking at itself only
        found = neighbors_in_groups(points, groups, np.arange(6)[:, None], 9)
        exact = nearest_neighbors(points, 9)
        assert np.array_equal(found.indices[:5], exact.indices[:5])
        assert (found.indices[5:] >= 5).all()

    def test_duplicates_have_neighbours(self):
        X = np.repeat(np.random.default_rng(0).normal(size=(40, 3)), 25, axis=0)
        found, recall = approximate_neighbors(X - X.mean(axis=0), 10, np.arange(1000), seed=0)
        assert np.array_equal(found.indices[:, 0], np.arange(1000))
        assert (found.distances == 0).all()
        assert 0 < recall <= 1
