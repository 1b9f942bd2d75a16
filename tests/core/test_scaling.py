"""Scaling of genes with the statistics of reference cells."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from cellular_bench.core.scaling import Scaling


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.5, 2.0, size=30), size=(5000, 30)).astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_genes_are_centred_and_have_unit_variance(cells, form):
    scaled = Scaling.fit(form(cells)).apply(form(cells))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0, dtype=np.float64), 0.0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0, ddof=1, dtype=np.float64), 1.0, atol=1e-5)
    expected = StandardScaler().fit_transform(cells.astype(np.float64)) * np.sqrt(4999 / 5000)
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


def test_other_cells_are_scaled_by_the_reference(cells):
    scaling = Scaling.fit(cells[:100])
    expected = (cells[100:] - cells[:100].mean(axis=0)) / cells[:100].std(axis=0, ddof=1)
    np.testing.assert_allclose(scaling.apply(cells[100:]), expected, rtol=1e-4, atol=1e-5)


def test_values_are_clipped_on_both_sides(cells):
    free, clipped = Scaling.fit(cells).apply(cells), Scaling.fit(cells, clip=0.9).apply(cells)
    assert free.max() > 0.9 and free.min() < -0.9
    np.testing.assert_allclose(clipped, free.clip(-0.9, 0.9))


@pytest.mark.parametrize("value", [0.0, 0.1, 7.3, -2.5])
def test_a_gene_without_variation_is_zero_in_every_cell(cells, value):
    reference = np.column_stack([cells[:99], np.full(99, value, dtype=np.float32)])
    other = np.column_stack([cells[:9], np.arange(9.0)])
    assert not Scaling.fit(reference).apply(other)[:, -1].any()
    assert not Scaling.fit(sparse.csr_matrix(reference)).apply(sparse.csr_matrix(other))[:, -1].any()


@pytest.mark.parametrize("clip", [None, 0.9])
def test_sparse_cells_stay_sparse(cells, clip):
    # Nearly always 7 and once 0, so that a value of 0 is far below the mean.
    constant = np.where(np.arange(300) == 5, 0.0, 7.0)
    cells = np.column_stack([cells[:300], constant, np.full(300, 2.0)])
    scaling = Scaling.fit(cells, clip=clip)
    for form in (np.asarray, sparse.csr_matrix, sparse.csc_matrix):
        values, zeros = scaling.apply_sparse(form(cells))
        assert values.nnz <= np.count_nonzero(cells)
        np.testing.assert_allclose(values.toarray() + zeros, scaling.apply(cells), atol=1e-5)


def test_one_cell_has_no_variation():
    assert Scaling.fit(np.array([[3.0, 4.0]])).apply(np.ones((2, 2))).tolist() == [[0.0, 0.0]] * 2
