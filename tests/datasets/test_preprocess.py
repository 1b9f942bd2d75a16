"""Normalisation, by hand and against scanpy."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.core.errors import UserError
from cellular_bench.datasets.catalog import load, specs
from cellular_bench.datasets.preprocess import normalise


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
