"""Symphony's formulas by hand, and the laws of a mapping into a frozen reference."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cellular_bench.benchmark.conformance.data import neighbor_accuracy, one_batch
from cellular_bench.core.errors import ContractError, DataError
from cellular_bench.methods._components import ScaledComponents
from cellular_bench.methods._harmony_v1 import Clusters, soft_assignment, without_batches
from cellular_bench.methods.symphony import Symphony, SymphonyKNN, cluster_spreads, mapping_distance


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def columns(table, name):
    """Return the columns ``name.1``, ``name.2`` and so on of a table of the original."""
    return table.filter(regex=rf"^{name}\.").to_numpy()


def away(found, wanted):
    """Distance between two embeddings relative to the spread of the second."""
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted - wanted.mean(axis=0))


def test_components_are_those_of_scaled_genes(train, query):
    X = train.X.toarray().astype(np.float64)
    spread = X.std(axis=0, ddof=1)
    scaled = (X - X.mean(axis=0)) / spread
    _, _, right = np.linalg.svd(scaled, full_matrices=False)
    found = ScaledComponents(train.X, n_components=5, seed=0).scores(query.X)
    expected = (query.X.toarray() - X.mean(axis=0)) / spread @ right[:5].T
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)


def test_soft_assignment_by_hand():
    # Cosines with two axes: (1, 0) and (0.6, 0.8); with sigma 2 shares go as exp(cosine).
    shares = soft_assignment(np.array([[3.0, 0.0], [6.0, 8.0]]), np.eye(2), sigma=2.0)
    first, second = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(0.2))
    np.testing.assert_allclose(shares, [[first, 1 - first], [second, 1 - second]])


def test_one_cluster_and_one_batch_by_hand():
    # Ten reference cells with mean 0, five query cells at 3. Shared term a, batch term b, penalty p:
    # 15 a + 5 b = 15 and 5 a + (5 + p) b = 15. For p = 1: a = 3 / 13, b = 30 / 13.
    clusters = Clusters(sizes=np.array([10.0]), sums=np.array([[0.0]]))
    query, share, batch = np.full((5, 1), 3.0), np.ones((5, 1)), np.array(["q"] * 5)
    np.testing.assert_allclose(without_batches(query, share, batch, clusters, ridge=1.0), 3 - 30 / 13)
    np.testing.assert_allclose(
        without_batches(query, share, batch, clusters, ridge=1e-9), np.zeros((5, 1)), atol=1e-8
    )


def test_batches_keep_what_they_share_and_their_cells_keep_their_differences():
    # Without penalty, both batches come to the reference's mean 1; what differs within a batch stays.
    clusters = Clusters(sizes=np.array([100.0]), sums=np.array([[100.0]]))
    query = np.array([[4.0], [6.0], [-3.0], [-1.0]])
    batch = np.array(["p", "p", "q", "q"])
    mapped = without_batches(query, np.ones((4, 1)), batch, clusters, ridge=1e-9)
    np.testing.assert_allclose(mapped, [[0.0], [2.0], [0.0], [2.0]], atol=1e-6)


def test_a_cell_is_corrected_in_proportion_to_its_shares():
    # Cluster 1 is shifted by 2, cluster 2 not at all; the third cell belongs to both by half.
    clusters = Clusters(sizes=np.array([1e6, 1e6]), sums=np.zeros((2, 1)))
    share = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    query = np.array([[2.0], [0.0], [1.0]])
    mapped = without_batches(query, share, np.array(["q"] * 3), clusters, ridge=1e-9)
    # By least squares the terms are (2 + 0.5) / 1.5 in the first cluster and 0.5 / 1.5 in the second.
    np.testing.assert_allclose(
        mapped[:, 0], [2 - 2.5 / 1.5, -0.5 / 1.5, 1 - 1.25 / 1.5 - 0.25 / 1.5], atol=1e-5
    )


def test_genes_are_clipped_in_the_reference_and_in_the_query(train, query):
    X = train.X.toarray().astype(np.float64)
    mean, spread = X.mean(axis=0), X.std(axis=0, ddof=1)
    scaled, other = ((cells - mean) / spread for cells in (X, query.X.toarray()))
    assert scaled.max() > 2.0 and other.max() > 2.0
    _, _, right = np.linalg.svd(scaled.clip(-2.0, 2.0), full_matrices=False)
    components = ScaledComponents(train.X, n_components=5, seed=0, clip=2.0)
    for found, given in (
        (components.scores(query.X), other.clip(-2.0, 2.0)),
        (components.scores(query.X, clipped=False), other),
    ):
        np.testing.assert_allclose(np.abs(found), np.abs(given @ right[:5].T), atol=1e-3)


def test_the_mapping_distance_by_hand():
    # One cluster at the origin, eight cells with scatters 32 and 8: variances 32 / 7 and 8 / 7. (2, 0) is
    # 2 / sqrt(32 / 7) away, (0, 3) is 3 / sqrt(8 / 7).
    corners = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]] * 2)
    spreads = cluster_spreads(corners, np.ones((8, 1)))
    cells = np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    expected = [np.sqrt(7 / 8), 3 * np.sqrt(7 / 8), 0.0]
    np.testing.assert_allclose(mapping_distance(cells, np.ones((3, 1)), spreads), expected, atol=1e-6)


def test_clusters_without_covariance_have_the_mean_of_all():
    # Six cells with scatter 6 around 0; one at 10 alone, whose covariance is 0 / 0; two equal ones at 20,
    # whose covariance is 0. The mean scatter per cell is 6 / 9; the first covariance is 6 / 5.
    scores = np.array([1.0, -1.0] * 3 + [10.0, 20.0, 20.0])[:, None]
    assigned = np.repeat(np.eye(3), [6, 1, 2], axis=0)
    centres, precisions = cluster_spreads(scores, assigned)
    np.testing.assert_allclose(centres, [[0.0], [10.0], [20.0]], atol=1e-12)
    np.testing.assert_allclose(precisions.ravel(), [5 / 6, 9 / 6, 9 / 6])


def test_mapping_and_metric_are_those_of_the_original(fidelity):
    """Given the reference that the original built, all numbers are the original's up to rounding."""
    reference, query = (fidelity.small_table(f"symphony_{part}") for part in ("reference", "query"))
    _, cells = fidelity.small_split()
    corrected, share = columns(reference, "corrected"), columns(reference, "share")
    clusters = Clusters(sizes=share.sum(axis=0), sums=share.T @ corrected)
    scores, batches = columns(query, "pc"), np.asarray(cells.obs["batch"], dtype=str)
    assigned = soft_assignment(scores, clusters.centroids, sigma=0.1)
    mapped = without_batches(scores, assigned, batches, clusters, ridge=1.0)
    metric = mapping_distance(scores, assigned, cluster_spreads(columns(reference, "pc"), share))
    np.testing.assert_allclose(assigned, columns(query, "share"), atol=1e-4)
    np.testing.assert_allclose(mapped, columns(query, "mapped"), atol=1e-3)
    np.testing.assert_allclose(metric, query["metric"], rtol=1e-4)


def test_the_correction_of_the_reference_is_that_of_the_original(fidelity):
    table = fidelity.small_table("symphony_reference")
    train, _ = fidelity.small_split()
    scores, share = columns(table, "pc"), columns(table, "share")
    none = Clusters(sizes=np.zeros(10), sums=np.zeros((10, 10)))
    found = without_batches(scores, share, np.asarray(train.obs["batch"], dtype=str), none, ridge=1.0)
    np.testing.assert_allclose(found, columns(table, "corrected"), atol=1e-3)


def test_a_whole_run_agrees_with_the_original(fidelity):
    """Initial clusters are random in both; ten clusters of 323 cells end in different optima."""
    train, query = (fidelity.of_variable_genes(cells) for cells in fidelity.small_split())
    original = fidelity.small_table("symphony_query")
    fitted = SymphonyKNN(n_components=10, n_clusters=10).fit(train)
    found = np.abs(fitted._components.scores(query.X))
    np.testing.assert_allclose(found, np.abs(columns(original, "pc")), atol=1e-3)
    assert fidelity.equal_share(fitted.predict(query).label_pred, original["label"]) >= 0.9


def test_the_reference_maps_to_its_harmony_embedding(train):
    fitted = Symphony().fit(train)
    projected, _ = fitted._assigned(train)
    assert away(fitted.embed(train), fitted._reference) < 0.06
    assert away(projected, fitted._reference) > 0.2


def test_a_batch_of_the_reference_is_corrected_as_in_the_reference(train):
    fitted = Symphony().fit(train)
    cells = np.asarray(train.obs["batch"] == "donor1")
    alone = fitted.embed(train[cells].copy())
    assert away(alone, fitted._reference[cells]) < 0.06
    assert away(alone, fitted.embed(train)[cells]) < 0.04


def test_a_query_shifted_as_a_whole_comes_back(train, query):
    """Cells of one batch, measured again with a constant shift of every component."""
    fitted = Symphony(ridge=1e-6).fit(train)
    scores, assigned = fitted._assigned(query)
    batch = np.array(["q"] * query.n_obs)
    shift = np.linspace(-1, 1, scores.shape[1])
    plain, moved = (
        without_batches(cells, assigned, batch, fitted._clusters, ridge=1e-6)
        for cells in (scores, scores + shift)
    )
    np.testing.assert_allclose(moved, plain, atol=1e-3)


def test_batches_come_together_and_types_stay_apart(train, query):
    fitted = Symphony().fit(train)
    first = np.asarray(query.obs["batch"] == "donor1")

    def gap(embedding):
        gaps = [
            np.linalg.norm(
                embedding[first & (labels(query) == name)].mean(0)
                - embedding[~first & (labels(query) == name)].mean(0)
            )
            for name in np.unique(labels(query))
        ]
        return np.mean(gaps)

    embedding = fitted.embed(query)
    assert gap(embedding) < 0.6 * gap(fitted._assigned(query)[0])
    assert neighbor_accuracy(embedding, labels(query)) > 0.95


def test_a_reference_of_one_batch_is_not_corrected(train, query):
    fitted = Symphony().fit(one_batch(train))
    np.testing.assert_allclose(fitted._reference, fitted._components.scores(train.X), atol=1e-4)
    assert np.isfinite(fitted.embed(query)).all()


def test_labels_come_from_the_nearest_cells_of_the_reference(train, query):
    fitted = SymphonyKNN(n_neighbors=3).fit(train)
    distance = np.linalg.norm(fitted.embed(query)[7] - fitted._reference, axis=1)
    nearest = labels(train)[np.argsort(distance)[:3]]
    prediction = fitted.predict(query)
    expected = [np.mean(nearest == name) for name in prediction.labels]
    np.testing.assert_allclose(prediction.label_proba[7], expected)


def test_an_unseen_type_is_far_from_its_clusters_though_its_neighbours_agree(train, query):
    prediction = SymphonyKNN().fit(train[labels(train) != "delta"].copy()).predict(query)
    assert roc_auc_score(labels(query) == "delta", prediction.novelty) > 0.95


def test_embed_before_fit_and_other_genes_say_so(train, query):
    with pytest.raises(ContractError, match="Call fit first"):
        Symphony().embed(query)
    with pytest.raises(DataError, match="same genes in the same order"):
        Symphony().fit(train).embed(query[:, ::-1].copy())
