"""Embedding scores of cases worked by hand, against independent code, and at the ends of the scale."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import (
    bras,
    cilisi,
    clisi,
    evaluate,
    graph_connectivity,
    graph_connectivity_scib,
    ilisi,
    isolated_label_f1,
    isolated_labels,
    kbet,
    kbet_per_label,
    leiden_nmi,
    nearest_neighbors,
    silhouette_batch,
    silhouette_label,
)
from cellular_bench.metrics.embedding.clusterings import (
    adjusted_rand_index,
    normalized_mutual_information,
)
from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.embedding.local_diversity import perplexity_weights
from cellular_bench.metrics.numerics.distances import Neighbors

LINE = np.array([[0.0], [1.0], [4.0], [6.0]])
TWO = np.array(["a", "a", "b", "b"])


def _ring(n_obs: int, k: int, *, step: int = 1) -> Neighbors:
    """Each cell's neighbours are the next ones on a ring, all at distance 1."""
    indices = (np.arange(n_obs)[:, None] + step * np.arange(k)) % n_obs
    return Neighbors(indices, np.where(np.arange(k) == 0, 0.0, 1.0) * np.ones((n_obs, 1)))


class TestNeighbors:
    def test_equals_brute_force(self):
        X = np.random.default_rng(0).normal(size=(150, 6))
        found = nearest_neighbors(X, k=20)
        distances = np.linalg.norm(X[:, None] - X, axis=2)
        assert np.array_equal(found.indices, np.argsort(distances, axis=1)[:, :20])
        assert found.distances == pytest.approx(np.sort(distances, axis=1)[:, :20], abs=1e-12)

    def test_a_cell_is_its_own_first_neighbour_at_zero_even_among_duplicates(self):
        X = np.repeat(np.random.default_rng(0).normal(size=(20, 3)) * 1e3, 5, axis=0)
        found = nearest_neighbors(X, k=7)
        assert np.array_equal(found.indices[:, 0], np.arange(100))
        assert (found.distances[:, :5] == 0).all()
        assert (found.distances[:, 5:] > 0).all()

    def test_small_distances_survive_far_from_the_origin(self):
        X = 1e6 + np.array([[0.0], [1e-3], [3e-3]])
        assert nearest_neighbors(X, k=2).distances[:, 1] == pytest.approx([1e-3, 1e-3, 2e-3], rel=1e-5)

    @pytest.mark.parametrize("panel", [7, 30, 50, 101])
    def test_panels_do_not_change_the_result(self, monkeypatch, panel):
        X = np.random.default_rng(0).normal(size=(101, 4))
        whole = nearest_neighbors(X, 20)
        monkeypatch.setattr("cellular_bench.metrics.numerics.distances.PANEL", panel)
        monkeypatch.setattr("cellular_bench.metrics.numerics.distances.TILE_HEIGHT", 3)
        tiled = nearest_neighbors(X, 20)
        assert np.array_equal(whole.indices, tiled.indices)
        assert whole.distances == pytest.approx(tiled.distances, abs=1e-12)

    def test_at_most_all_cells(self):
        assert nearest_neighbors(LINE).indices.shape == (4, 4)


class TestSilhouettes:
    def test_label_by_hand(self):
        # Within 1, 1, 2, 2; between 5, 4, 3.5, 5.5.
        expected = np.mean([4 / 5, 3 / 4, 1.5 / 3.5, 3.5 / 5.5])
        assert silhouette_label(LINE, TWO) == pytest.approx((expected + 1) / 2, abs=1e-12)

    def test_label_equals_scikit_learn(self):
        score = pytest.importorskip("sklearn.metrics").silhouette_score
        rng = np.random.default_rng(1)
        X, label = rng.normal(size=(120, 4)), rng.choice(list("aabbbccd"), 120)
        label[0] = "alone"
        assert silhouette_label(X, label) == pytest.approx((score(X, label) + 1) / 2, abs=1e-12)

    def test_isolated_labels_are_those_in_the_fewest_batches(self):
        batch = np.array(["x", "y", "x", "x"])
        expected = np.mean([1.5 / 3.5, 3.5 / 5.5])
        assert isolated_labels(LINE, TWO, batch) == pytest.approx((expected + 1) / 2, abs=1e-12)

    def test_batch_by_hand(self):
        # One label in two batches, and one that does not count since all its cells are of batch x.
        X, label = np.vstack([LINE, [[90.0]]]), np.array(["a"] * 4 + ["b"])
        batch = np.array(["x", "x", "y", "y", "x"])
        expected = 1 - np.mean([4 / 5, 3 / 4, 1.5 / 3.5, 3.5 / 5.5])
        assert silhouette_batch(X, label, batch) == pytest.approx(expected, abs=1e-12)

    def test_batch_is_averaged_within_labels_first(self):
        X = np.vstack([LINE, LINE + 100, LINE + 100])
        label, batch = np.repeat(["a", "b", "b"], 4), np.tile(["x", "x", "y", "y"], 3)
        alone, doubled = (silhouette_batch(X[label == c], label[label == c], batch[label == c]) for c in "ab")
        assert silhouette_batch(X, label, batch) == pytest.approx((alone + doubled) / 2, abs=1e-12)

    def test_bras_by_hand(self):
        # Directions 0, 90, 90 and 180 degrees: distances 1 - cosine.
        X = np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0], [-1.0, 0.0]])
        batch = np.array(["x", "x", "y", "y"])
        # Within: 1, 1, 1, 1. To the other batch: (1 + 2) / 2, (0 + 1) / 2, (1 + 0) / 2, (2 + 1) / 2.
        expected = 1 - np.mean([0.5 / 1.5, 0.5, 0.5, 0.5 / 1.5])
        assert bras(X, ["a"] * 4, batch) == pytest.approx(expected, abs=1e-12)

    def test_bras_compares_with_all_other_batches_together(self):
        angles = np.deg2rad([0, 10, 30, 40, 90, 100, 110])
        X, batch = np.c_[np.cos(angles), np.sin(angles)], np.array(list("xxyyzzz"))
        distance = 1 - X @ X.T
        scores = []
        for i, own in enumerate(batch):
            within = distance[i, (batch == own) & (np.arange(7) != i)].mean()
            between = distance[i, batch != own].mean()
            scores.append(1 - abs(between - within) / max(between, within))
        assert bras(X, ["a"] * 7, batch) == pytest.approx(np.mean(scores), abs=1e-12)

    def test_a_cell_at_the_origin_does_not_spoil_bras(self):
        rng = np.random.default_rng(0)
        X, batch = rng.normal(size=(60, 4)), rng.choice(["x", "y"], 60)
        X[0] = 0
        assert bras(X, ["a"] * 60, batch) == pytest.approx(bras(X[1:], ["a"] * 59, batch[1:]), abs=0.03)


class TestLisi:
    def test_weights_have_the_perplexity(self):
        weights = perplexity_weights(nearest_neighbors(np.random.default_rng(0).normal(size=(200, 5))))
        entropy = -np.sum(weights * np.log(weights), axis=1)
        assert np.exp(entropy) == pytest.approx(np.full(200, 30), rel=1e-4)
        assert (np.diff(weights, axis=1) <= 0).all(), "a farther neighbour must not weigh more"

    def test_equal_distances_count_neighbours(self):
        # 89 neighbours with equal weights, 45 of one batch and 44 of the other, or the reverse.
        batch = np.tile(["x", "y"], 100)
        lisi = 1 / ((45 / 89) ** 2 + (44 / 89) ** 2)
        assert ilisi(_ring(200, 90), batch) == pytest.approx(lisi - 1, abs=1e-9)
        assert clisi(_ring(200, 90), batch) == pytest.approx(2 - lisi, abs=1e-9)

    def test_equals_harmonypy(self, monkeypatch):
        compute = pytest.importorskip("harmonypy").compute_lisi
        frame = pytest.importorskip("pandas").DataFrame
        rng = np.random.default_rng(3)
        X, batch = rng.normal(size=(300, 4)), rng.choice(["x", "y", "z"], 300)
        # harmonypy looks at 90 other cells, we (as scib-metrics) at 90 with the cell itself.
        monkeypatch.setattr("cellular_bench.metrics.embedding.local_diversity.N_NEIGHBORS", 91)
        theirs = np.median(compute(X, frame({"batch": batch}), ["batch"], perplexity=30))
        # Both stop where the entropy is within 1e-5 of its target, harmonypy by bisection.
        assert ilisi(nearest_neighbors(X), batch) == pytest.approx((theirs - 1) / 2, abs=1e-5)

    def test_a_few_steps_find_the_width_whatever_the_distances(self):
        from cellular_bench.metrics.numerics import kernels

        rng = np.random.default_rng(0)
        near = np.sort(rng.lognormal(sigma=3, size=(500, 90)) * 10.0 ** rng.integers(-6, 6, (500, 1)), axis=1)
        near[:, 0] = 0
        near[:100, 1:30] = near[:100, 29:30]  # equally near
        weights = kernels.search_perplexity(near, float(np.log(30)), 1e-5, 50)
        positive = np.where(weights > 0, weights, 1)
        entropy = -np.sum(weights * np.log(positive), axis=1)
        assert entropy == pytest.approx(np.full(500, np.log(30)), abs=1e-5)


class TestGraphs:
    def test_a_label_on_an_arc_of_a_one_way_ring_is_not_strongly_connected(self):
        label = np.repeat(["a", "b"], 100)
        near = _ring(200, 15)
        # Along an arc no cell leads back: every strong component is a single cell.
        assert graph_connectivity(near, label) == pytest.approx(1 / 100)
        assert graph_connectivity(near, ["a"] * 200) == 1.0

    def test_one_direction_suffices_in_the_undirected_graph(self):
        X = np.vstack([np.arange(40.0)[:, None], np.arange(40.0)[:, None] + 1000])
        near = nearest_neighbors(X)
        assert graph_connectivity_scib(near, ["a"] * 40 + ["b"] * 40) == 1.0
        # Two far halves of 40 cells each: the largest component has half of the cells.
        assert graph_connectivity_scib(near, ["a"] * 80) == 0.5
        assert graph_connectivity(near, ["a"] * 80) <= 0.5

    @pytest.mark.slow  # umap compiles its kernels
    @pytest.mark.parametrize("k", [15, 50])
    def test_connectivities_equal_umap(self, k):
        umap = pytest.importorskip("umap.umap_")
        X = np.random.default_rng(5).normal(size=(300, 5))
        X[:20] = X[20:40]
        near = nearest_neighbors(X, k)
        theirs = umap.fuzzy_simplicial_set(
            X, k, None, "euclidean", knn_indices=near.indices, knn_dists=near.distances.astype(np.float32)
        )[0]
        assert abs(connectivities(near, k) - theirs).max() < 1e-5


class TestClusterings:
    def test_agreement_by_hand(self):
        first, second = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
        # Pairs together: 6 of 15 and 3 of 15, in both 2; expected 6 * 3 / 15.
        assert adjusted_rand_index(first, second) == pytest.approx((2 - 1.2) / (4.5 - 1.2))
        joint = np.array([2, 1, 1, 2]) / 6
        information = np.log(2) + np.log(3) + np.sum(joint * np.log(joint))
        expected = 2 * information / (np.log(2) + np.log(3))
        assert normalized_mutual_information(first, second) == pytest.approx(expected)

    @pytest.mark.parametrize("seed", range(5))
    def test_agreement_equals_scikit_learn(self, seed):
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(seed)
        first = rng.integers(5, size=100)
        second = np.where(rng.random(100) < 0.5, first, rng.integers(7, size=100))
        for one, other in ((first, second), (first, first), (np.zeros(100, int), second)):
            assert normalized_mutual_information(one, other) == pytest.approx(
                metrics.normalized_mutual_info_score(one, other), abs=1e-9
            )
            assert adjusted_rand_index(one, other) == pytest.approx(
                metrics.adjusted_rand_score(one, other), abs=1e-9
            )

    def test_leiden_leaves_the_random_numbers_of_igraph_and_python_alone(self, separated):
        igraph, random = pytest.importorskip("igraph"), pytest.importorskip("random")
        near = nearest_neighbors(separated["X_emb"])
        random.seed(1)
        undisturbed = igraph.Graph.Erdos_Renyi(50, 0.1).get_edgelist()
        random.seed(1)
        leiden_nmi(near, separated["label"])
        assert igraph.Graph.Erdos_Renyi(50, 0.1).get_edgelist() == undisturbed

    def test_isolated_label_f1_takes_the_best_single_community(self):
        X = np.r_[np.zeros(60), np.full(60, 50.0), np.full(60, 90.0)][:, None]
        X = X + np.random.default_rng(0).normal(size=X.shape)
        clusters = (np.repeat([0, 0, 1], 60), np.repeat([0, 1, 2], [60, 90, 30]))
        label, batch = np.repeat(["a", "b", "c"], 60), np.tile(["x", "y"], 90)
        batch[60:120] = "x"
        # b against clusters: first 60 of 120 (F1 2/3), second 60 of 90 (F1 120 / 150).
        score = isolated_label_f1(nearest_neighbors(X), label, batch, leiden_clusters=clusters)
        assert score == pytest.approx(120 / 150)


class TestKbet:
    def test_by_hand(self):
        # 25 of x and 25 of y around every cell: exactly as expected.
        assert kbet(_ring(200, 50), np.tile(["x", "y"], 100)) == 1.0
        # Halves of the ring: only cells whose 50 neighbours are split 19 : 31 to 31 : 19 pass, since
        # (n - 25)^2 / 12.5 <= 3.84 for |n - 25| <= 6. 13 cells at each of two borders.
        assert kbet(_ring(200, 50), np.repeat(["x", "y"], 100)) == pytest.approx(2 * 13 / 200)

    def test_labels_that_cannot_be_tested_do_not_count(self, separated):
        near = nearest_neighbors(separated["X_emb"])
        label, batch = separated["label"], separated["batch"]
        renamed = np.where(np.arange(len(label)) < 5, "too few", label)
        assert 0 < kbet_per_label(near, renamed, batch) <= 1
        tested = label != "T"
        assert kbet_per_label(near, label, batch) == pytest.approx(
            kbet_per_label(nearest_neighbors(separated["X_emb"][tested]), label[tested], batch[tested]),
            abs=0.05,
        )

    def test_a_label_in_pieces_scores_zero(self):
        rng = np.random.default_rng(0)
        # 20 pieces of 10 cells each, too small for a test; they hang together only through label b.
        X = np.vstack([rng.normal(size=(10, 2)) * 0.01 + [100 * i, 0] for i in range(20)])
        others = np.vstack([rng.normal(size=(60, 2)) * 0.01 + [100 * i, 0.02] for i in range(20)])
        label = np.array(["a"] * 200 + ["b"] * 1200)
        batch = np.where(rng.random(1400) < 0.5, "x", "y")
        batch[200:] = "x"
        assert kbet_per_label(nearest_neighbors(np.vstack([X, others])), label, batch) == 0.0


def test_ends_of_the_scale_where_labels_are_apart_and_batches_mixed(separated):
    near_one = ["silhouette_label", "isolated_labels", "silhouette_batch", "bras"]
    exactly_one = ["clisi", "leiden_nmi", "leiden_ari", "kmeans_nmi", "kmeans_ari", "isolated_label_f1"]
    found = evaluate([*near_one, *exactly_one, "graph_connectivity", "kbet_per_label"], separated)
    for metric_id in near_one:
        assert found[metric_id] > 0.9, metric_id
    for metric_id in exactly_one:
        assert found[metric_id] == pytest.approx(1.0, abs=1e-3), metric_id
    assert found["graph_connectivity"] > 0.9
    assert found["kbet_per_label"] > 0.9


def test_ends_of_the_scale_where_batches_are_apart_and_labels_mixed(unmixed):
    ids = ["ilisi", "kbet", "kbet_per_label", "silhouette_batch", "silhouette_label", "leiden_ari", "clisi"]
    found = evaluate(ids, unmixed)
    assert found["ilisi"] == pytest.approx(0.0, abs=1e-6)
    assert found["kbet"] == 0.0
    # Labels of 60 cells fall into two pieces, of which the diffusion map keeps little apart.
    assert found["kbet_per_label"] < 0.25
    assert found["silhouette_batch"] < 0.1
    assert found["silhouette_label"] == pytest.approx(0.5, abs=0.05)
    assert found["leiden_ari"] < 0.35
    assert found["clisi"] < 0.9


class TestMixingWithinLabels:
    def test_one_label_is_the_mean_of_lisi_worked_out_from_brute_force(self):
        rng = np.random.default_rng(5)
        X, batch = rng.normal(size=(100, 3)), rng.choice(["x", "y", "z"], 100)
        near = nearest_neighbors(X, 90)
        weights = perplexity_weights(near)
        around = batch[near.indices[:, 1:]]
        simpson = sum(((around == name) * weights).sum(axis=1) ** 2 for name in "xyz")
        assert cilisi(X, ["a"] * 100, batch) == pytest.approx(np.mean((1 / simpson - 1) / 2), abs=1e-12)

    def test_labels_that_one_batch_has_alone_and_small_ones_do_not_count(self):
        rng = np.random.default_rng(5)
        X, batch = rng.normal(size=(100, 3)), rng.choice(["x", "y"], 100)
        alone = cilisi(X, ["a"] * 100, batch)
        more = np.vstack([X, rng.normal(size=(95, 3)), rng.normal(size=(20, 3))])
        label = ["a"] * 100 + ["only x"] * 95 + ["few"] * 20
        others = ["x"] * 95 + ["x", "y"] * 10
        assert cilisi(more, label, [*batch, *others], n_jobs=2) == pytest.approx(alone, abs=1e-9)

    def test_batches_apart_have_none(self):
        rng = np.random.default_rng(5)
        batch = np.repeat(["x", "y"], 100)
        X = rng.normal(size=(200, 3)) + 1000 * (batch == "y")[:, None]
        assert cilisi(X, ["a"] * 200, batch) == pytest.approx(0, abs=1e-9)

    def test_without_a_label_that_counts_there_is_a_reason(self):
        with pytest.raises(UndefinedError, match="no label has 90 cells and two batches"):
            cilisi(np.arange(40.0)[:, None], ["a"] * 40, ["x", "y"] * 20)
