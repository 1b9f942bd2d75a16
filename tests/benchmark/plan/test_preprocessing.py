"""Settings of the preprocessing: which are planned, which are not, and how their runs are named."""

from dataclasses import replace

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.plan.identity import question
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.types import GeneSelection, Preprocessing


def planned(dataset, *methods, task="integration", split="all", **settings):
    block = {"task": task, "datasets": ["simulated_small"], "methods": methods, "splits": [split]}
    suite = Suite(suite_id="s", title="S", blocks=[block], **settings)
    return plan(suite, datasets={"simulated_small": dataset}, methods=registry.methods())


def settings_of(found, method_id):
    return [run.method.preprocessing for run in found.runs if run.method.method_id == method_id]


@pytest.fixture(scope="module")
def dataset(small):
    # 300 cells of 200 genes with counts, in batches
    return replace(small["simulated_small"], gene_selection=GeneSelection(n_top_genes=100))


GRID = {
    "genes": [50, "all"],
    "hvg": ["cell_ranger", "seurat", "seurat_v3", "batch_aware"],
    "scale": [True, False],
}


def test_the_default_setting_keeps_its_runs_and_their_names(dataset):
    bare = planned(dataset, "pca", "scvi", "unintegrated")
    found = planned(dataset, "pca", "scvi", "unintegrated", **GRID)
    assert [run.run_id for run in found.runs[:3]] == [run.run_id for run in bare.runs]
    assert {run.method.preprocessing for run in bare.runs} == {None}
    assert planned(dataset, "pca", genes=[100], hvg=["cell_ranger"], scale=[False]).runs == bare.runs[:1]
    assert bare.runs[0].run_id.startswith("integration-simulated_small-all-pca-s0-")


def test_a_setting_is_in_the_name_of_a_run_and_in_what_it_asks(dataset):
    default, other = planned(dataset, "pca", genes=[50], hvg=["seurat"], scale=[True]).runs
    assert other.method.preprocessing == Preprocessing(genes=50, flavor="seurat", scale=True)
    assert other.run_id.startswith("integration-simulated_small-all-pca-50-genes-seurat-scaled-s0-")
    assert (other.method.name, other.method.base_name) == ("PCA, 50 genes seurat scaled", "PCA")
    assert question(other) != question(default)
    assert other.method_seed == default.method_seed, "a difference is not one of seeds"


def test_every_combination_that_changes_something_is_planned_once(dataset):
    found = planned(dataset, "pca", "symphony", "scvi", "unintegrated", **GRID)
    # 4 x 2 for 50 genes; of all genes, whatever the flavor: scaled or not.
    assert len(settings_of(found, "pca")) == 1 + 8 + 2
    assert len(settings_of(found, "symphony")) == 1 + 4 + 1
    assert len(settings_of(found, "scvi")) == 1 + 4 + 1
    assert settings_of(found, "unintegrated").count(None) == 1
    assert len({run.run_id for run in found.runs}) == len(found.runs)
    of_all = [run for run in found.runs if run.method.preprocessing == Preprocessing(genes="all")]
    assert {run.method.features for run in of_all} == {"all"}
    assert {one.scale for one in settings_of(found, "symphony") if one} == {None}


def test_a_setting_that_cannot_be_had_is_a_note_and_no_run(dataset):
    found = planned(dataset, "symphony", "scvi", genes=[200], scale=[True, False])
    assert [run.method.preprocessing for run in found.runs] == [None, None]
    assert sum("200 variable genes, as there are 200 genes" in note for note in found.notes) == 1
    found = planned(dataset, "symphony", "scvi", scale=[True, False])
    (own,) = [note for note in found.notes if "(of Symphony)" in note]
    assert own == (
        "Not run on simulated_small: genes as they are with methods that scale them themselves (of Symphony)."
    )
    assert any(
        "scaled genes with methods that read counts" in note and "scVI" in note for note in found.notes
    )


def test_methods_that_read_all_genes_get_the_variable_ones_where_a_number_is_given(dataset):
    asked = {"task": "annotation", "split": "all", "hvg": ["seurat"]}
    found = planned(dataset, "singler", "knn", genes=[50], **asked)
    for name in ("singler", "knn"):
        assert settings_of(found, name) == [None, Preprocessing(genes=50, flavor="seurat")]
    features = {run.method.features for run in found.runs if run.method.preprocessing}
    assert features == {"hvg"}
    found = planned(dataset, "singler", genes=["all"], **asked)
    assert settings_of(found, "singler") == [None]


def test_data_without_counts_or_batches(dataset):
    bare = dataset.adata.copy()
    del bare.layers["counts"]
    bare.obs["batch"] = bare.obs["batch"].cat.set_categories(bare.obs["batch"].cat.categories[:1])
    bare.obs["batch"] = bare.obs["batch"].fillna(bare.obs["batch"].cat.categories[0])
    found = planned(replace(dataset, adata=bare), "knn", task="annotation", hvg=["seurat_v3", "batch_aware"])
    assert settings_of(found, "knn") == [None]
    assert len([note for note in found.notes if note.startswith("Not run on simulated_small")]) == 2


def test_what_is_the_default_depends_on_the_data(dataset):
    other = replace(dataset, gene_selection=GeneSelection(flavor="seurat", n_top_genes=50))
    found = planned(other, "pca", genes=[50, 20], hvg=["cell_ranger", "seurat"])
    assert settings_of(found, "pca") == [
        None,
        Preprocessing(flavor="cell_ranger"),
        Preprocessing(genes=20, flavor="cell_ranger"),
        Preprocessing(genes=20),
    ]


def test_all_genes_are_the_default_of_data_with_few(small):
    found = planned(small["simulated_small"], "pca", genes=["all", 2000], hvg=["seurat"], scale=[True, False])
    assert settings_of(found, "pca") == [None, Preprocessing(scale=True)]


def test_leak_canaries_test_the_default_setting_alone(dataset):
    kfold = {"kind": "kfold", "n_splits": 2}
    bare = planned(dataset, "knn", task="annotation", split=kfold)
    found = planned(dataset, "knn", task="annotation", split=kfold, scale=[True])
    assert len(bare.canaries) > 0
    assert [run.run_id for run in found.canaries] == [run.run_id for run in bare.canaries]
