"""Cells in pieces give what cells in one piece give, and what scanpy and scikit-learn give."""

import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.decomposition import PCA

from cellular_bench.core.errors import DataError, UnknownNameError, UserError
from cellular_bench.datasets import large, variable
from cellular_bench.datasets.catalog import load, specs
from cellular_bench.datasets.subsample import positions, subsample


@pytest.fixture(scope="module")
def baron() -> ad.AnnData:
    return load(specs()["baron"]).adata


@pytest.fixture(scope="module")
def stored(baron, tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "x.h5ad"
    baron.write_h5ad(path)
    return path


def test_pieces_make_up_the_whole(baron, stored):
    pieces = list(large.chunks(stored, n_obs=1000))
    assert [piece.shape[0] for piece in pieces] == [1000, 1000, 1000, 607]
    assert (sparse.vstack(pieces) != baron.X).nnz == 0
    counts = sparse.vstack(list(large.chunks(stored, layer="counts", n_obs=3000)))
    assert (counts != baron.layers["counts"]).nnz == 0


def test_backed_files_are_closed(stored):
    with large.open_backed(stored) as adata:
        assert adata.isbacked
        file = adata.file
    assert not file.is_open


def test_what_cannot_be_read_in_pieces(stored, tmp_path):
    with pytest.raises(
        UnknownNameError, match=r"Unknown layer 'count'. Did you mean 'counts'\? Known: X, counts"
    ):
        next(large.chunks(stored, layer="count"))
    with pytest.raises(UserError, match="at least 1 cell"):
        next(large.chunks(stored, n_obs=0))
    (tmp_path / "x.h5ad").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be opened in pieces"):
        next(large.chunks(tmp_path / "x.h5ad"))


def test_moments_by_hand():
    found = variable.moments([np.array([[1.0, 0.0]]), np.array([[3.0, 0.0], [2.0, 6.0]])])
    assert (found.n_obs, found.mean.tolist(), found.n_cells.tolist()) == (3, [2.0, 2.0], [3, 1])
    # Deviations -1 1 0 and -2 -2 4; over n - 1 = 2.
    np.testing.assert_allclose(found.variance, [1.0, 12.0])


def test_moments_do_not_depend_on_the_pieces_and_survive_a_large_mean():
    X = np.random.default_rng(0).normal(1e4, 1e-2, (100, 3))
    for size in (1, 7, 100):
        found = variable.moments(X[start : start + size] for start in range(0, 100, size))
        np.testing.assert_allclose(found.variance, X.var(axis=0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("flavor", ["cell_ranger", "seurat"])
def test_dispersions_are_those_of_scanpy(baron, stored, flavor):
    expected = sc.pp.highly_variable_genes(ad.AnnData(baron.X), flavor=flavor, n_top_genes=500, inplace=False)
    found = variable.moments(large.chunks(stored, n_obs=700), flavor=flavor)
    values = variable.normalised_dispersion(found, flavor=flavor)
    np.testing.assert_allclose(values, expected["dispersions_norm"], rtol=1e-3, atol=1e-4)
    chosen = variable.choose(found, n_top_genes=500, flavor=flavor)
    assert chosen.tolist() == expected["highly_variable"].tolist()


def test_genes_that_no_cell_expresses_are_never_chosen(baron):
    silent = baron.X[:, :300].tolil()
    silent[:, 5] = 0
    found = variable.moments([silent.tocsr()])
    assert not variable.choose(found, n_top_genes=100)[5]
    assert np.flatnonzero(~variable.choose(found, n_top_genes=300)).tolist() == [5]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: variable.moments([np.ones((1, 2))]), "at least two cells"),
        (lambda: variable.moments([np.ones((2, 2)), np.ones((2, 3))]), "The pieces differ: 2 genes, then 3"),
        (lambda: variable.moments([np.ones((2, 2))], flavor="x"), "Unknown flavour"),
        (lambda: variable.choose(variable.moments([np.ones((2, 2))]), n_top_genes=0), "at least 1"),
        (
            lambda: variable.choose(variable.moments([np.ones((3, 30))]), n_top_genes=2),
            "share one mean",
        ),
        (lambda: large.pca(np.ones((4, 3)), n_comps=3), "n_comps must lie between 1 and 2"),
        (lambda: large.pca_of_chunks(lambda: [np.ones((1, 3))], n_comps=1), "at least two cells"),
    ],
)
def test_impossible_requests(run, message):
    with pytest.raises(UserError, match=message):
        run()


def test_a_gene_alone_in_its_bin_stands_out_by_one():
    # 20 bins over log1p of the means 0.6 and 1.5 to 1.8: the first gene is alone in the lowest one.
    X = np.log1p(np.array([[0, 0, 3.1, 0.2], [1.2, 3, 0.1, 3.4]]))
    values = variable.normalised_dispersion(variable.moments([X], flavor="seurat"), flavor="seurat")
    expected = sc.pp.highly_variable_genes(ad.AnnData(X), flavor="seurat", inplace=False)["dispersions_norm"]
    np.testing.assert_allclose(values, expected)
    assert values[0] == 1


def test_components_are_those_of_scikit_learn(baron, stored):
    X = baron.X[:, :400]
    reference = PCA(10, svd_solver="full").fit(X.toarray().astype(np.float64))
    expected = reference.transform(X.toarray().astype(np.float64))
    path = stored.with_name("cut.h5ad")
    ad.AnnData(X).write_h5ad(path)
    for found in (
        large.pca(X, n_comps=10, seed=1),
        large.pca_of_chunks(lambda: large.chunks(path, n_obs=1000), n_comps=10),
    ):
        np.testing.assert_allclose(found.variance, reference.explained_variance_, rtol=1e-5)
        np.testing.assert_allclose(found.variance_ratio, reference.explained_variance_ratio_, rtol=1e-5)
        signs = np.sign((found.scores * expected).sum(axis=0))
        np.testing.assert_allclose(found.scores * signs, expected, atol=2e-3)
        np.testing.assert_allclose((X - found.mean) @ found.loadings, found.scores, atol=2e-3)
        largest = np.abs(found.loadings).argmax(axis=0)
        assert (found.loadings[largest, np.arange(10)] > 0).all()


def test_components_repeat_for_a_seed(baron):
    X = baron.X[:500, :200]
    first, again = (large.pca(X, n_comps=5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)


def test_no_dense_copy_is_made():
    X = sparse.random(20_000, 1000, density=0.01, format="csr", random_state=0, dtype=np.float32)
    dense = X.shape[0] * X.shape[1] * 4
    tracemalloc.start()
    large.pca(X, n_comps=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < dense / 2


def labelled(n: int) -> ad.AnnData:
    label = np.repeat(["common", "middling", "rare"], [n - 110, 100, 10])
    batch = np.where(np.arange(n) % 4 == 0, "b1", "b2")
    obs = pd.DataFrame({"label": label, "batch": batch}, index=np.arange(n).astype(str))
    return ad.AnnData(sparse.csr_matrix((n, 2)), obs=obs)


def test_fewer_cells_in_the_same_proportions():
    adata = labelled(1000)
    cut = subsample(adata, 100, 0)
    assert cut.n_obs == 100
    # Shares of the strata: 22.3 66.7 | 2.5 7.5 | 0.2 0.8, and 1 for those below 1: 22 67 | 2 7 | 1 1.
    assert cut.obs["label"].value_counts().to_dict() == {"common": 89, "middling": 9, "rare": 2}
    assert cut.obs["batch"].value_counts().to_dict() == {"b2": 75, "b1": 25}
    positions_of = cut.obs_names.astype(int).to_numpy()
    assert (np.diff(positions_of) > 0).all()


def test_draws_depend_on_the_seed_alone():
    adata = labelled(500)
    names = [subsample(adata, 50, seed).obs_names.tolist() for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    state = np.random.get_state()[1].tolist()  # noqa: NPY002  # the state that must not change
    subsample(adata, 50, 1)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_no_kind_of_cell_is_lost_where_there_is_room():
    label = ["a"] * 1000 + ["b"] + ["c"]
    kept = positions([label], 1002, n=3, seed=0)
    assert {label[i] for i in kept} == {"a", "b", "c"}
    assert len(positions([label], 1002, n=2, seed=0)) == 2


@pytest.mark.parametrize("n", [1, 2, 7, 50, 499, 500])
def test_exactly_so_many_cells_come(n):
    adata = labelled(500)
    assert subsample(adata, n, 0).n_obs == n


def test_all_cells_come_where_there_are_not_more():
    adata = labelled(200)
    assert subsample(adata, 1000, 0).obs_names.tolist() == adata.obs_names.tolist()


def test_impossible_draws():
    with pytest.raises(UserError, match="n must be a whole number of at least 1, came: 0"):
        subsample(labelled(200), 0, 0)
    with pytest.raises(UserError, match="seed must be a whole number of at least 0, came: -1"):
        subsample(labelled(200), 10, -1)
    with pytest.raises(UnknownNameError, match=r"Unknown column of obs 'donor'"):
        subsample(labelled(200), 10, 0, keys=("donor",))
