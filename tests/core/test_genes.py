"""Variable genes: scanpy's, gene for gene, and cases worked by hand where scanpy fails."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.core import genes
from cellular_bench.core.errors import UserError
from cellular_bench.core.genes import expressed_genes, moments, normalised_dispersion, variable_genes
from cellular_bench.core.types import GeneSelection
from cellular_bench.datasets.catalog import load, specs

FLAVORS = ("cell_ranger", "seurat")


@pytest.fixture(scope="module")
def lognorm():
    X = load(specs()["baron"]).adata.X[:1500]
    return X[:, expressed_genes(X)]


def dispersions_of_scanpy(X, flavor, n_top_genes=500):
    table = sc.pp.highly_variable_genes(ad.AnnData(X), flavor=flavor, n_top_genes=n_top_genes, inplace=False)
    return table["dispersions_norm"].to_numpy(), table["highly_variable"].tolist()


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("n_top_genes", [1, 20, 500])
@pytest.mark.parametrize("as_stored", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_matrix.toarray])
def test_genes_are_those_of_scanpy(lognorm, flavor, n_top_genes, as_stored):
    selection = GeneSelection(flavor=flavor, n_top_genes=n_top_genes)
    chosen = variable_genes(as_stored(lognorm), selection)
    assert chosen.dtype == bool
    assert chosen.tolist() == dispersions_of_scanpy(lognorm, flavor, n_top_genes)[1]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_dispersions_are_those_of_scanpy(lognorm, flavor):
    found = normalised_dispersion(*moments(lognorm, linear=flavor == "seurat"), flavor=flavor)
    # To the last bits: additions in another order must not change which genes a run uses.
    np.testing.assert_allclose(found, dispersions_of_scanpy(lognorm, flavor)[0], rtol=1e-9, atol=1e-12)


def test_moments_by_hand():
    X = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 6.0]])
    for given in (X, sparse.csr_matrix(X)):
        mean, variance = moments(given)
        assert mean.tolist() == [2.0, 2.0]
        # Deviations -1 1 0 and -2 -2 4; over n - 1 = 2.
        np.testing.assert_allclose(variance, [1.0, 12.0])
        np.testing.assert_allclose(moments(np.log1p(given), linear=True), [[2.0, 2.0], [1.0, 12.0]])


def test_moments_do_not_depend_on_the_blocks(lognorm, monkeypatch):
    whole = moments(lognorm)
    monkeypatch.setattr(genes, "BLOCK_CELLS", 7)
    np.testing.assert_allclose(moments(lognorm), whole, rtol=1e-9)


def test_a_gene_alone_in_its_bin_stands_out_by_one():
    # 20 bins over log1p of the means 0.6 and 1.5 to 1.8: the first gene is alone in the lowest one.
    X = np.log1p(np.array([[0, 0, 3.1, 0.2], [1.2, 3, 0.1, 3.4]]))
    values = normalised_dispersion(*moments(X, linear=True), flavor="seurat")
    np.testing.assert_allclose(values, dispersions_of_scanpy(X, "seurat", 2)[0])
    assert values[0] == 1


@pytest.mark.parametrize("flavor", FLAVORS)
def test_genes_without_expression_do_not_count(lognorm, flavor):
    selection = GeneSelection(flavor=flavor, n_top_genes=30)
    padded = sparse.hstack([lognorm, sparse.csr_matrix(lognorm.shape)], format="csr")
    chosen = variable_genes(padded, selection)
    assert not chosen[lognorm.shape[1] :].any()
    assert chosen[: lognorm.shape[1]].tolist() == variable_genes(lognorm, selection).tolist()


def test_scanpy_fails_on_genes_without_expression(lognorm):
    padded = sparse.hstack([lognorm, sparse.csr_matrix(lognorm.shape)], format="csr")
    with pytest.raises(ValueError, match="Bin edges must be unique"):
        dispersions_of_scanpy(padded, "cell_ranger")


def test_fewer_genes_than_asked_gives_all_expressed_genes(lognorm):
    values = lognorm[:, :300].toarray()
    values[:, 3] = 0
    assert np.flatnonzero(~variable_genes(values)).tolist() == [3]


def test_genes_of_one_mean_are_compared_without_bins():
    # Every gene has one 1 per two cells; one gene has the same mean and more spread.
    values = np.tile([[0.0, 1.0], [1.0, 0.0]], (10, 20)).astype(np.float32)
    values[:, 7] = [10.0] + [0.0] * 19
    assert np.flatnonzero(variable_genes(values, GeneSelection(n_top_genes=1))).tolist() == [7]
    three = variable_genes(sparse.csr_matrix(values), GeneSelection(n_top_genes=3))
    assert np.flatnonzero(three).tolist() == [0, 1, 7]


def test_bins_of_equal_dispersions_are_compared_without_bins():
    # Three genes of different mean and no or little spread: scanpy has no dispersion to compare.
    values = np.log1p(np.array([[1e4, 0, 0], [1e4, 0, 0], [5e3, 5e3, 0]]))
    assert variable_genes(values, GeneSelection(n_top_genes=1)).tolist() == [False, True, False]


def test_selection_leaves_its_input_and_repeats(lognorm):
    before = lognorm.copy()
    for flavor in FLAVORS:
        selection = GeneSelection(flavor=flavor, n_top_genes=50)
        assert variable_genes(lognorm, selection).tolist() == variable_genes(lognorm, selection).tolist()
    assert (lognorm != before).nnz == 0


@pytest.mark.parametrize(
    ("values", "selection", "message"),
    [
        (np.ones((3, 3)), GeneSelection(n_top_genes=0), "n_top_genes must be at least 1, got 0"),
        (np.ones((3, 3)), GeneSelection(flavor="serrat"), "Unknown flavor .* Did you mean 'seurat'"),
        (np.zeros((3, 3)), GeneSelection(), "No gene is expressed in the training cells"),
    ],
)
def test_impossible_selections(values, selection, message):
    with pytest.raises(UserError, match=message):
        variable_genes(values, selection)


@pytest.fixture(scope="module")
def pancreas():
    adata = load(specs()["baron"]).adata[::3]
    return adata[:, expressed_genes(adata.X)].copy()


@pytest.mark.parametrize("n_top_genes", [20, 500])
def test_genes_of_seurat_v3_are_those_of_scanpy(pancreas, n_top_genes):
    wanted = sc.pp.highly_variable_genes(
        pancreas, flavor="seurat_v3", layer="counts", n_top_genes=n_top_genes, inplace=False
    )
    selection = GeneSelection(flavor="seurat_v3", n_top_genes=n_top_genes)
    chosen = variable_genes(pancreas.X, selection, counts=pancreas.layers["counts"])
    assert chosen.tolist() == wanted["highly_variable"].tolist()
    assert chosen.tolist() != variable_genes(pancreas.X, GeneSelection(n_top_genes=n_top_genes)).tolist()


@pytest.mark.parametrize("n_top_genes", [20, 500])
def test_genes_of_several_batches_are_those_of_scanpy(pancreas, n_top_genes):
    wanted = sc.pp.highly_variable_genes(
        pancreas, flavor="cell_ranger", batch_key="batch", n_top_genes=n_top_genes, inplace=False
    )
    batch = np.asarray(pancreas.obs["batch"], dtype=str)
    assert len(np.unique(batch)) > 1
    selection = GeneSelection(flavor="batch_aware", n_top_genes=n_top_genes)
    chosen = variable_genes(pancreas.X, selection, batch=batch)
    assert chosen.tolist() == wanted.loc[pancreas.var_names, "highly_variable"].tolist()
    shuffled = np.random.default_rng(0).permutation(pancreas.n_obs)
    assert variable_genes(pancreas.X[shuffled], selection, batch=batch[shuffled]).tolist() == chosen.tolist()
    renamed = variable_genes(pancreas.X, selection, batch=np.char.add("x", batch))
    assert renamed.tolist() == chosen.tolist()
    assert chosen.tolist() != variable_genes(pancreas.X, GeneSelection(n_top_genes=n_top_genes)).tolist()


def test_a_gene_of_both_batches_comes_before_one_of_a_single_batch():
    # All means are 4, so that variances are compared: 1 for gene 3 in both batches, 9 for gene 8 in one.
    spread = np.full((2, 30), 0.1)
    spread[:, 3], spread[0, 8], spread[1, 5] = 1.0, 3.0, 0.2
    values = 4.0 + np.repeat(spread, 20, axis=0) * np.tile([[-1.0], [1.0]], (20, 1))
    batch = np.repeat(["a", "b"], 20)
    assert genes._by_batches(values, batch, 2)[:3].tolist() == [3, 8, 5]
    one = GeneSelection(flavor="batch_aware", n_top_genes=1)
    assert np.flatnonzero(variable_genes(values[:20], one, batch=batch[:20])).tolist() == [8]


def test_flavors_without_what_they_read(pancreas):
    few = GeneSelection(flavor="seurat_v3", n_top_genes=2)
    with pytest.raises(UserError, match="seurat_v3 need raw counts"):
        variable_genes(pancreas.X, few)
    with pytest.raises(UserError, match="genes of 20 different means that vary, got 0"):
        variable_genes(pancreas.X[:, :4], few, counts=np.tile([1.0, 2.0, 1.0, 2.0], (pancreas.n_obs, 1)))
    with pytest.raises(UserError, match="batch_aware need batches"):
        variable_genes(pancreas.X, GeneSelection(flavor="batch_aware", n_top_genes=2))
