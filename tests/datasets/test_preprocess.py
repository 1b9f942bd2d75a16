"""Normalisation and highly variable genes, by hand and against scanpy."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.core.errors import UserError
from cellular_bench.datasets.catalog import load, specs
from cellular_bench.datasets.preprocess import highly_variable, normalise


@pytest.fixture(scope="module")
def lognorm() -> ad.AnnData:
    return load(specs()["simulated_small"]).adata


def test_normalise_by_hand():
    counts = np.array([[1, 0, 3], [0, 10, 0]])
    expected = np.log1p([[2500, 0, 7500], [0, 10000, 0]])
    for given in (counts, sparse.csr_matrix(counts), sparse.csc_matrix(counts)):
        result = normalise(given)
        assert (result.format, result.dtype, result.nnz) == ("csr", np.float32, 3)
        np.testing.assert_allclose(result.toarray(), expected, rtol=1e-7)


def test_normalise_agrees_with_scanpy(lognorm):
    reference = ad.AnnData(lognorm.layers["counts"].astype(np.float64))
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    np.testing.assert_allclose(lognorm.X.toarray(), reference.X.toarray(), rtol=1e-6)


def test_normalise_leaves_its_input():
    counts = sparse.csr_matrix(np.array([[1.0, 3.0]]))
    normalise(counts)
    assert counts.toarray().tolist() == [[1.0, 3.0]]


def test_cells_without_counts_have_no_normalisation():
    with pytest.raises(UserError, match="2 cells have no counts; remove them before normalising"):
        normalise(np.array([[0, 0], [1, 0], [0, 0]]))


@pytest.mark.parametrize("n_top_genes", [1, 20, 150])
def test_highly_variable_genes_are_those_of_scanpy(lognorm, n_top_genes):
    expected = sc.pp.highly_variable_genes(
        lognorm.copy(), n_top_genes=n_top_genes, flavor="cell_ranger", inplace=False
    )["highly_variable"]
    chosen = highly_variable(lognorm, n_top_genes=n_top_genes)
    assert chosen.dtype == bool
    assert chosen.tolist() == expected.tolist()


def test_genes_without_expression_do_not_count(lognorm):
    # scanpy itself fails on such data: that is the trap.
    silent = lognorm.X.toarray()
    silent[:, 100:] = 0
    padded, cut = ad.AnnData(sparse.csr_matrix(silent)), ad.AnnData(sparse.csr_matrix(silent[:, :100]))
    with pytest.raises(ValueError, match="Bin edges must be unique"):
        sc.pp.highly_variable_genes(padded, n_top_genes=30, flavor="cell_ranger", inplace=False)
    chosen = highly_variable(padded, n_top_genes=30)
    assert chosen.sum() == 30
    assert chosen[:100].tolist() == highly_variable(cut, n_top_genes=30).tolist()


def test_fewer_genes_than_asked_gives_all_expressed_genes(lognorm):
    values = lognorm.X.toarray()
    values[:, 3] = 0
    chosen = highly_variable(ad.AnnData(values), n_top_genes=2000)
    assert np.flatnonzero(~chosen).tolist() == [3]


def test_genes_of_one_mean_are_compared_without_bins():
    # Every gene has one 1 per two cells; one gene has the same mean and more spread.
    values = np.tile([[0.0, 1.0], [1.0, 0.0]], (10, 20)).astype(np.float32)
    values[:, 7] = [10.0] + [0.0] * 19
    assert np.flatnonzero(highly_variable(ad.AnnData(values), n_top_genes=1)).tolist() == [7]
    assert np.flatnonzero(highly_variable(ad.AnnData(sparse.csr_matrix(values)), n_top_genes=3)).tolist() == [
        0,
        1,
        7,
    ]


def test_bins_of_equal_dispersions_are_compared_without_bins():
    # Three genes of different mean and no or little spread: scanpy has no dispersion to compare.
    values = np.log1p(np.array([[1e4, 0, 0], [1e4, 0, 0], [5e3, 5e3, 0]]))
    assert highly_variable(ad.AnnData(values), n_top_genes=1).tolist() == [False, True, False]


def test_selection_leaves_its_input_and_repeats(lognorm):
    before = lognorm.copy()
    first = highly_variable(lognorm, n_top_genes=50)
    assert highly_variable(lognorm, n_top_genes=50).tolist() == first.tolist()
    assert (lognorm.X != before.X).nnz == 0
    assert list(lognorm.var) == list(lognorm.uns) == []


@pytest.mark.parametrize(
    ("values", "n_top_genes", "message"),
    [
        (np.ones((3, 3)), 0, "n_top_genes must be at least 1, came 0"),
        (np.zeros((3, 3)), 2, "No gene is expressed in the training cells"),
    ],
)
def test_impossible_selections(values, n_top_genes, message):
    with pytest.raises(UserError, match=message):
        highly_variable(ad.AnnData(values), n_top_genes=n_top_genes)
