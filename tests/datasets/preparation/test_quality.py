"""Quality and its figures: worked by hand, and against scanpy."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.core.errors import UserError
from cellular_bench.datasets.catalog import load, specs
from cellular_bench.datasets.preparation import quality
from cellular_bench.datasets.preparation import quality_figures as figures
from cellular_bench.datasets.preparation.recipes import STUDY, prepare


@pytest.fixture(scope="module")
def baron() -> ad.AnnData:
    adata = load(specs()["baron"]).adata
    return ad.AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var)


def test_the_four_quantities_by_hand():
    # 22 genes, the last two mitochondrial. First cell: 22 counts of 1. Second: 10 and 30 in two genes.
    names = [f"G{i}" for i in range(20)] + ["MT-CO1", "mt-Nd1"]
    counts = np.ones((2, 22))
    counts[1] = 0
    counts[1, [0, 21]] = [10, 30]
    for given in (counts, sparse.csr_matrix(counts), sparse.csc_matrix(counts)):
        found = quality.measure(given, names)
        assert found.n_counts.tolist() == [22, 40]
        assert found.n_genes.tolist() == [22, 2]
        assert found.top_share.tolist() == [20 / 22, 1]
        assert found.mito_share.tolist() == [2 / 22, 0.75]


def test_the_four_quantities_are_those_of_scanpy(baron):
    # Dense, because scanpy compiles for 20 s for sparse matrices.
    adata = ad.AnnData(baron.X.toarray(), var=baron.var[[]])
    adata.var["mt"] = adata.var_names.str.startswith("MT-")
    expected, _ = sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=[20], log1p=True)
    found = quality.measure(baron.X, baron.var_names)
    compared = found.compared()
    for name, column in (
        ("log1p counts", "log1p_total_counts"),
        ("log1p genes", "log1p_n_genes_by_counts"),
        ("share of top 20 genes", "pct_counts_in_top_20_genes"),
        ("mitochondrial share", "pct_counts_mt"),
    ):
        scale = 100 if "share" in name else 1
        np.testing.assert_allclose(compared[name] * scale, expected[column], rtol=1e-5, atol=1e-6)


def test_explicit_zeros_are_no_expression():
    stored = sparse.csr_matrix((np.array([0.0, 2.0]), ([0, 0], [0, 1])), shape=(1, 3))
    assert quality.measure(stored, ["a", "b", "c"]).n_genes.tolist() == [1]
    assert quality.cells_per_gene(stored).tolist() == [0, 1, 0]


def test_deviation_from_the_median_by_hand():
    # Median 3, distances 2 1 0 1 2 8 -> sorted 0 1 1 2 2 8, median 1.5; five of them are 7.5.
    values = [1, 2, 3, 4, 5, 11]
    # Median 3.5, distances 2.5 1.5 0.5 0.5 1.5 7.5, median 1.5.
    assert quality.far_from_median(values, n_mads=5).tolist() == [False] * 6
    assert quality.far_from_median(values, n_mads=4.9).tolist() == [False] * 5 + [True]


def test_outliers_are_outliers_of_their_sample():
    values = [1, 2, 3, 1, 2, 3, 101, 102, 103]
    one = quality.far_from_median(values, n_mads=5)
    two = quality.far_from_median(values, n_mads=5, group=["a"] * 6 + ["b"] * 3)
    assert one.tolist() == [False] * 6 + [True] * 3
    assert not two.any()


def test_where_most_are_equal_every_other_is_an_outlier():
    assert quality.far_from_median([0, 0, 0, 0, 0.01]).tolist() == [False] * 4 + [True]


def test_each_quantity_marks_its_own_outlier():
    rng = np.random.default_rng(0)
    names = [f"G{i}" for i in range(200)] + ["MT-1"]
    counts = rng.poisson(5, (100, 201)).astype(float)
    counts[0] *= 100
    counts[1, 100:200] = 0
    counts[2, 0] = 2000
    counts[3, 200] = 900
    marked = quality.outliers(quality.measure(counts, names))
    assert marked["log1p counts"][0]
    assert marked["log1p genes"][1]
    assert marked["share of top 20 genes"][2]
    assert marked["mitochondrial share"][3]
    assert sum(hits[4:].sum() for hits in marked.values()) < 10


def test_wrong_numbers_of_names_and_groups():
    with pytest.raises(UserError, match="2 names for 4 genes"):
        quality.measure(np.ones((5, 4)), ["a", "b"])
    with pytest.raises(UserError, match="one group per value"):
        quality.far_from_median([1, 2], group=["a"])


def test_figures_show_cells_before_and_after(tmp_path, baron):
    import matplotlib as mpl

    made = prepare(baron, STUDY, sample=baron.obs["batch"])
    backend = mpl.get_backend()
    paths = figures.save_quality(made.before, made.after, tmp_path / "figures", title="Baron")
    assert [path.name for path in paths] == ["quality.png", "quality.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text(encoding="utf-8")
    assert mpl.get_backend() == backend
    figure = figures.quality_figure(made.before, made.after, title="Baron")
    bars = [sum(patch.get_height() for patch in container) for container in figure.axes[0].containers]
    assert bars == [baron.n_obs, made.adata.n_obs]
    labels = [axis.get_xlabel() for axis in figure.axes[:5]]
    assert labels == [*made.before.compared(), "counts"]
