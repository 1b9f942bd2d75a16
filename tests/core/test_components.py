"""Principal components: scikit-learn's full decomposition, from sparse and dense matrices."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from cellular_bench.core.components import N_COMPONENTS, principal_components


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return rng.normal(size=(80, 6)) @ rng.normal(size=(6, 70)) + rng.normal(scale=0.1, size=(80, 70))


def distances(points):
    return np.linalg.norm(points[:, None] - points[None, :], axis=-1)


@pytest.mark.parametrize("n_components", [3, 10])
def test_components_are_those_of_the_full_decomposition(cells, n_components):
    expected = PCA(n_components, svd_solver="full").fit_transform(cells)
    for given in (cells, sparse.csr_matrix(cells)):
        found = principal_components(given, n_components=n_components, seed=1)
        assert found.dtype == np.float32
        signs = np.sign((found * expected).sum(axis=0))
        np.testing.assert_allclose(found * signs, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(80, 70), (40, 70), (80, 40), (5, 3)])
def test_by_default_fifty_or_one_fewer_than_the_smaller_dimension(cells, shape):
    found = principal_components(cells[: shape[0], : shape[1]])
    assert found.shape == (shape[0], min(N_COMPONENTS, min(shape) - 1))


@pytest.mark.parametrize("shape", [(20, 70), (80, 20)])
def test_all_components_keep_all_distances(cells, shape):
    cut = cells[: shape[0], : shape[1]]
    for given in (cut, sparse.csr_matrix(cut)):
        found = principal_components(given, n_components=100)
        assert found.shape == (shape[0], 20)
        np.testing.assert_allclose(distances(found), distances(cut), atol=1e-3)


def test_one_cell_has_none_and_one_gene_is_its_own(cells):
    assert principal_components(cells[:1]).tolist() == [[0.0]]
    np.testing.assert_allclose(
        principal_components(cells[:, :1]), cells[:, :1] - cells[:, :1].mean(), atol=1e-6
    )


def test_components_repeat_for_a_seed(cells):
    first, again = (principal_components(sparse.csr_matrix(cells), n_components=5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
