"""Quality, recipes and figures: worked by hand, and against scanpy."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.core.errors import UserError
from cellular_bench.datasets.catalog import from_h5ad, load, specs
from cellular_bench.datasets.preparation import quality, recipes
from cellular_bench.datasets.preparation import quality_figures as figures
from cellular_bench.datasets.preparation.recipes import NONE, RECIPES, SCANPY, STUDY, Recipe, prepare


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
    adata = baron.copy()
    adata.var["mt"] = adata.var_names.str.startswith("MT-")
    expected, _ = sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=[20], log1p=True)
    found = quality.measure(adata.X, adata.var_names)
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


def test_size_factors_by_hand():
    counts = [[1, 1], [2, 4], [0, 4]]
    assert recipes.size_factors(counts, kind="mean").tolist() == [0.5, 1.5, 1.0]
    assert recipes.size_factors(counts, kind="target").tolist() == [2e-4, 6e-4, 4e-4]


GENES = ["A", "B", "C", "MT-1"]
#: Five cells of sample s1: the last has 1000 times the counts of the others. Gene C is in one cell.
HAND = np.array([[2, 2, 0, 0], [4, 0, 0, 0], [1, 2, 1, 0], [3, 1, 0, 0], [2000, 2000, 0, 0]])


def hand() -> ad.AnnData:
    obs = pd.DataFrame({"sample": "s1"}, index=[f"c{i}" for i in range(5)])
    return ad.AnnData(sparse.csr_matrix(HAND), obs=obs, var=pd.DataFrame(index=GENES))


def test_the_recipe_of_the_study_by_hand():
    recipe = Recipe(name="hand", n_mads=5, min_cells=2, size_factor="mean")
    # log1p counts of the first four are equal (4 counts): the deviation is 0 and the fifth is dropped.
    # log1p genes: 2 1 3 2 2: median 2, distances 0 log(3/2) log(4/3) 0 0, median 0: cells 1 and 2 too.
    made = prepare(hand(), recipe)
    assert made.adata.obs_names.tolist() == ["c0", "c3"]
    assert made.adata.var_names.tolist() == ["A", "B"]
    np.testing.assert_array_equal(made.adata.layers["counts"].toarray(), [[2, 2], [3, 1]])
    # Totals 4 and 4, mean 4: size factors 1 and 1.
    np.testing.assert_allclose(made.adata.X.toarray(), np.log1p([[2, 2], [3, 1]]), rtol=1e-6)
    assert [(step["step"], step["dropped"]) for step in made.steps] == [
        ("cells without counts", 0),
        ("outliers in log1p counts", 1),
        ("outliers in log1p genes", 2),
        ("outliers in share of top 20 genes", 0),
        ("outliers in mitochondrial share", 0),
        ("genes in fewer than 2 cells", 2),
        ("log1p of counts / size factor (mean)", 0),
    ]
    assert (len(made.before.n_counts), len(made.after.n_counts)) == (5, 2)


def test_the_size_factor_is_of_the_genes_and_cells_that_stay():
    recipe = Recipe(name="hand", min_cells=2, size_factor="mean")
    made = prepare(hand()[:4].copy(), recipe)
    # Without gene C totals are 4 4 3 4, mean 3.75.
    expected = np.log1p(np.array([[2, 2], [4, 0], [1, 2], [3, 1]]) * 3.75 / np.array([[4], [4], [3], [4]]))
    np.testing.assert_allclose(made.adata.X.toarray(), expected, rtol=1e-6)


def test_the_recipe_of_scanpy_gives_what_scanpy_gives(baron):
    recipe = Recipe(name="mine", min_genes=1000, min_cells=3, flavor="seurat")
    made = prepare(baron, recipe).adata
    expected = baron.copy()
    sc.pp.filter_cells(expected, min_genes=1000)
    sc.pp.filter_genes(expected, min_cells=3)
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    assert made.obs_names.tolist() == expected.obs_names.tolist()
    assert made.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_allclose(made.X.data, expected.X.data, rtol=1e-5)
    sc.pp.highly_variable_genes(expected, n_top_genes=300, flavor="seurat")
    chosen = Recipe(name="mine", flavor="seurat", n_top_genes=300).select_genes(made.X)
    assert chosen.tolist() == expected.var["highly_variable"].tolist()


def test_variable_genes_are_those_of_the_training_cells(baron):
    made = prepare(baron, NONE).adata
    train = np.arange(made.n_obs) % 2 == 0
    chosen = STUDY.select_genes(made.X[train])
    changed = made.X.tolil()
    changed[1] = 9.0  # a cell that is not for training
    assert STUDY.select_genes(changed.tocsr()[train]).tolist() == chosen.tolist()
    assert chosen.sum() == 2000


def test_a_recipe_says_what_it_did_in_words_that_can_be_recorded(baron, tmp_path):
    made = prepare(baron, STUDY, sample=baron.obs["batch"])
    made.adata.write_h5ad(tmp_path / "x.h5ad")
    said = recipes.recorded(ad.read_h5ad(tmp_path / "x.h5ad"))
    assert said == {**STUDY.describe(), "steps": [dict(step) for step in made.steps]}
    assert json.loads(json.dumps(said)) == said
    n_dropped = sum(step["dropped"] for step in said["steps"] if "genes in" not in step["step"])
    assert made.adata.n_obs == baron.n_obs - n_dropped
    # What was prepared meets the data contract, and its counts are taken.
    loaded = load(from_h5ad(tmp_path / "x.h5ad", batch_key="batch", label_key="label")).adata
    assert (loaded.layers["counts"] != made.adata.layers["counts"]).nnz == 0


def test_files_that_do_not_say_how_they_were_made(baron):
    assert recipes.recorded(baron) is None
    odd = ad.AnnData(np.ones((1, 1)))
    for value in ("not json", "[1]", 3):
        odd.uns["recipe"] = value
        assert recipes.recorded(odd) is None


def test_recipes_leave_their_input(baron):
    before = baron.copy()
    prepare(baron, STUDY)
    assert (baron.X != before.X).nnz == 0
    assert list(baron.layers) == list(baron.uns) == []


def test_recipes_are_told_apart():
    assert list(RECIPES) == ["study", "study_annotated", "scanpy", "none"]
    assert STUDY.describe()["n_mads"] == 5
    assert STUDY.describe()["min_cells"] == 20
    assert (STUDY.describe()["size_factor"], SCANPY.describe()["size_factor"]) == ("mean", "target")


@pytest.mark.parametrize(
    ("values", "recipe", "message"),
    [
        (HAND + 0.5, NONE, "not all whole numbers of at least 0"),
        (HAND - 1, NONE, "not all whole numbers of at least 0"),
        (
            HAND,
            Recipe(name="x", min_genes=9),
            r"No cell is left by the recipe 'x': 5 cells with fewer than 9",
        ),
        (HAND, Recipe(name="x", min_cells=6), r"0 genes are left, and 5 cells have no counts"),
    ],
)
def test_recipes_that_cannot_be_followed(values, recipe, message):
    with pytest.raises(UserError, match=message):
        prepare(ad.AnnData(values.astype(float), var=pd.DataFrame(index=GENES)), recipe)


def test_wrong_numbers_of_names_and_groups():
    with pytest.raises(UserError, match="2 names for 4 genes"):
        quality.measure(HAND, ["a", "b"])
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
