"""Recipes: worked by hand, and against scanpy."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.core.errors import UserError
from cellular_bench.core.layers import named_layers
from cellular_bench.datasets.catalog import from_h5ad, load, specs
from cellular_bench.datasets.preparation import recipes
from cellular_bench.datasets.preparation.recipes import NONE, RECIPES, SCANPY, STUDY, Recipe, prepare


@pytest.fixture(scope="module")
def baron() -> ad.AnnData:
    adata = load(specs()["baron"]).adata
    return ad.AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var)


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
    recipe = Recipe(name="mine", min_genes=1000, min_cells=3)
    made = prepare(baron, recipe).adata
    expected = baron.copy()
    sc.pp.filter_cells(expected, min_genes=1000)
    sc.pp.filter_genes(expected, min_cells=3)
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    assert made.obs_names.tolist() == expected.obs_names.tolist()
    assert made.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_allclose(made.X.data, expected.X.data, rtol=1e-5)


def test_a_recipe_says_what_it_did_in_words_that_can_be_recorded(baron, tmp_path):
    made = prepare(baron, STUDY, sample=baron.obs["batch"])
    made.adata.write_h5ad(tmp_path / "x.h5ad")
    said = json.loads(ad.read_h5ad(tmp_path / "x.h5ad").uns["recipe"])
    assert said == {**STUDY.describe_values(), "steps": [dict(step) for step in made.steps]}
    # Runs select genes, and a file is no run.
    assert STUDY.describe().keys() - said.keys() == {"flavor", "n_top_genes"}
    n_dropped = sum(step["dropped"] for step in said["steps"] if "genes in" not in step["step"])
    assert made.adata.n_obs == baron.n_obs - n_dropped
    # What was prepared meets the data contract, and its counts are taken.
    loaded = load(from_h5ad(tmp_path / "x.h5ad", batch_key="batch", label_key="label")).adata
    assert (loaded.layers["counts"] != made.adata.layers["counts"]).nnz == 0


def test_recipes_leave_their_input(baron):
    before = baron.copy()
    prepare(baron, STUDY)
    assert (baron.X != before.X).nnz == 0
    assert not named_layers(baron)
    assert not baron.uns


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
            r"The recipe 'x' leaves no cell: 5 cells with fewer than 9",
        ),
        (HAND, Recipe(name="x", min_cells=6), r"0 genes are left, and 5 cells have no counts"),
    ],
)
def test_recipes_that_cannot_be_followed(values, recipe, message):
    with pytest.raises(UserError, match=message):
        prepare(ad.AnnData(values.astype(float), var=pd.DataFrame(index=GENES)), recipe)
