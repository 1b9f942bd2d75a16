"""fastMNN's steps, worked by hand or against a plain version."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.benchmark.conformance.data import neighbor_accuracy, one_batch, pairwise_distances
from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods.fastmnn import (
    FastMNN,
    balanced_components,
    mean_corrections,
    merge,
    mutual_pairs,
    smoothed,
    tricube,
    unit_length,
    without_variation,
)


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def test_cells_have_length_one_and_keep_their_direction():
    X = unit_length(csr_matrix([[3.0, 4.0], [0.0, 2.0]]))
    np.testing.assert_allclose(X.toarray(), [[0.6, 0.8], [0.0, 1.0]])
    with pytest.raises(NotApplicableError, match="1 cells express none of the genes"):
        unit_length(csr_matrix([[3.0, 4.0], [0.0, 0.0]]))


def test_components_are_those_of_the_weighted_stack():
    generator = np.random.default_rng(0)
    X = generator.poisson(1.0, size=(90, 12)).astype(float)
    batch = np.repeat(["a", "b", "c"], [60, 20, 10])
    X[60:80] += 2.0
    centre = np.mean([X[batch == name].mean(axis=0) for name in "abc"], axis=0)
    stack = np.vstack([(X[batch == name] - centre) / np.sqrt(np.sum(batch == name)) for name in "abc"])
    _, _, vectors = np.linalg.svd(stack, full_matrices=False)
    expected = (X - centre) @ vectors[:5].T
    found = balanced_components(csr_matrix(X), batch, n_components=5)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)
    assert balanced_components(csr_matrix(X), batch, n_components=50).shape == (90, 12)


def test_every_batch_weighs_the_same_in_the_components():
    # Batch a varies along the first gene, batch b, a hundred times smaller, along the second one.
    generator = np.random.default_rng(1)
    X = np.zeros((505, 2))
    X[:500, 0], X[500:, 1] = generator.normal(size=500), [-3, -1, 0, 1, 3]
    X[:500] -= X[:500].mean(axis=0)
    found = balanced_components(csr_matrix(X), np.repeat(["a", "b"], [500, 5]), n_components=1)
    np.testing.assert_allclose(np.abs(found[500:, 0]), [3, 1, 0, 1, 3], atol=1e-8)


def test_pairs_by_hand():
    first = np.array([[0.0], [1.0], [5.0], [6.0]])
    second = np.array([[0.4], [5.4], [20.0]])
    # Nearest of second: 0, 2 and 3; nearest of first: 0, 0, 1 and 1.
    assert [found.tolist() for found in mutual_pairs(first, second, k=1)] == [[0, 2], [0, 1]]
    first_cells, second_cells = mutual_pairs(first, second, k=2)
    pairs = set(zip(first_cells.tolist(), second_cells.tolist(), strict=True))
    # In first, {0, 1} are nearest to cell 0 of second, {2, 3} to 1 and 2; all of first look for {0, 1}.
    assert pairs == {(0, 0), (1, 0), (2, 1), (3, 1)}


def test_corrections_of_a_cell_are_averaged_over_its_pairs():
    reference, current = np.array([[0.0, 0.0], [2.0, 2.0], [9.0, 0.0]]), np.array([[1.0, 0.0], [5.0, 5.0]])
    paired, corrections = mean_corrections(reference, current, np.array([0, 1, 2]), np.array([0, 0, 1]))
    assert paired.tolist() == [0, 1]
    np.testing.assert_allclose(corrections, [[0.0, 1.0], [4.0, -5.0]])


def test_variation_along_a_direction_is_removed_and_no_other():
    X = np.random.default_rng(0).normal(size=(30, 3))
    direction = np.array([1.0, 2.0, -2.0])
    found = without_variation(X, direction)
    np.testing.assert_allclose(found @ direction, np.full(30, (X @ direction).mean()))
    across = np.array([2.0, -1.0, 0.0])
    np.testing.assert_allclose(found @ across, X @ across)
    np.testing.assert_allclose(found.mean(axis=0), X.mean(axis=0))
    assert without_variation(X, np.zeros(3)) is X


def test_weights_by_hand():
    # The middle one of three is the second: h = 3 x 1. Weights (1 - (d / 3)^3)^3.
    raw = np.array([1.0, (1 - 1 / 27) ** 3, (1 - 8 / 27) ** 3])
    np.testing.assert_allclose(tricube(np.array([[0.0, 1.0, 2.0]]), bandwidth=3.0), [raw / raw.sum()])
    # Of four too: 4 / 2 = 2. What lies beyond h has no weight.
    found = tricube(np.array([[0.5, 1.0, 2.0, 3.5]]), bandwidth=3.0)[0]
    assert found[3] == 0.0
    assert found[0] / found[1] == pytest.approx(((1 - 1 / 216) / (1 - 1 / 27)) ** 3)
    np.testing.assert_allclose(tricube(np.zeros((1, 4)), bandwidth=3.0), [[0.25] * 4])


def test_a_cell_gets_the_corrections_of_its_neighbours():
    current = np.array([[0.0], [1.0], [10.0]])
    corrections = np.array([[4.0], [-2.0]])
    found = smoothed(current, np.array([0, 2]), corrections, k=1, bandwidth=3.0)
    np.testing.assert_allclose(found, [[4.0], [4.0], [-2.0]])


def test_a_pure_shift_is_undone_exactly():
    generator = np.random.default_rng(0)
    cells = 20 * generator.normal(size=(60, 4))
    shift = np.array([0.1, -0.2, 0.05, 0.0])
    reference, moved, direction = merge(cells, cells + shift, k=1, bandwidth=3.0)
    np.testing.assert_allclose(direction, -shift, atol=1e-12)
    np.testing.assert_allclose(moved, reference, atol=1e-10)
    np.testing.assert_allclose(reference, without_variation(cells, shift), atol=1e-10)


def test_a_type_of_one_batch_is_not_drawn_to_another_type():
    generator = np.random.default_rng(1)
    shared = generator.normal(size=(80, 3))
    private = generator.normal(loc=[30.0, 0.0, 0.0], size=(40, 3))
    current = np.vstack([shared[40:] + np.array([0.0, 3.0, 0.0]), private])
    _, moved, _ = merge(shared[:40], current, k=10, bandwidth=3.0)
    assert np.linalg.norm(moved[:40].mean(axis=0) - shared[:40].mean(axis=0)) < 1.0
    assert np.linalg.norm(moved[40:].mean(axis=0) - shared[:40].mean(axis=0)) > 25.0


def test_batches_are_merged_and_types_kept(query):
    first = np.asarray(query.obs["batch"] == "donor1")
    embedding = FastMNN().fit_embed(query)
    assert embedding.shape == (120, 50)
    assert neighbor_accuracy(embedding, labels(query)) > 0.95
    scores = balanced_components(
        unit_length(query.X), np.asarray(query.obs["batch"]).astype(str), n_components=50
    )
    for X, mixed in ((scores, False), (embedding, True)):
        near = pairwise_distances(X)
        np.fill_diagonal(near, np.inf)
        same = np.mean(first[np.argsort(near, axis=1)[:, :10]] == first[:, None])
        assert (same < 0.62) == mixed


def test_names_of_batches_do_not_matter(query):
    plain = FastMNN().fit_embed(query)
    query.obs["batch"] = query.obs["batch"].cat.rename_categories({"donor1": "z", "donor2": "a"})
    np.testing.assert_allclose(
        pairwise_distances(FastMNN().fit_embed(query)), pairwise_distances(plain), atol=1e-4
    )


def test_one_batch_is_not_applicable(query):
    with pytest.raises(NotApplicableError, match="all 120 cells that it sees come from one batch"):
        FastMNN().fit_embed(one_batch(query))
