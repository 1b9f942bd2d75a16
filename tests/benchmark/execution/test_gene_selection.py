"""A record names the selection of variable genes that its run used: recomputed with scanpy, gene for gene."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.preparation import read_cells
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.store import CELLS, Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.types import GeneSelection
from cellular_bench.datasets import catalog
from cellular_bench.datasets.preparation.recipes import RECIPES


class Silent:
    def started(self, run: object) -> None: ...

    def finished(self, record: object) -> None: ...


@pytest.fixture(scope="module")
def cells():
    return catalog.subsampled(catalog.load(catalog.specs()["baron"]), 1200)


def carry_out(dataset, root):
    block = {
        "task": "annotation",
        "datasets": ["baron"],
        "methods": ["majority_label"],
        "splits": [{"kind": "reference_query", "reference": ["human1", "human2"]}],
    }
    suite = Suite(suite_id="test", title="Test", blocks=[block])
    datasets = {"baron": dataset}
    store = Store.create(root, suite)
    planned = plan(suite, datasets=datasets, methods=registry.methods())
    (record,) = Executor(store=store).execute(planned, datasets=datasets, progress=Silent())
    return record, store


def genes_of_scanpy(X, selection):
    train = ad.AnnData(X)
    # scanpy cannot bin genes that no training cell expresses.
    sc.pp.filter_genes(train, min_cells=1)
    sc.pp.highly_variable_genes(train, flavor=selection.flavor, n_top_genes=selection.n_top_genes)
    return set(train.var_names[train.var["highly_variable"]])


@pytest.mark.parametrize("name", [None, *RECIPES])
def test_the_selection_in_the_record_is_the_one_that_the_run_used(cells, name, tmp_path):
    dataset = cells if name is None else catalog.prepared(cells, name)
    record, store = carry_out(dataset, tmp_path / "out")
    assert record.status == "ok", record.reason
    named = store.record(record.run_id).dataset.gene_selection
    used = read_cells(store.split_folder(record.dataset, record.split) / CELLS)
    numbered = ad.AnnData(dataset.adata.X[used.train_obs])
    assert set(numbered.var_names[used.highly_variable]) == genes_of_scanpy(numbered.X, named)
    assert named == (GeneSelection() if name is None else RECIPES[name].gene_selection)
    if name is not None:
        assert (record.dataset.recipe["flavor"], record.dataset.recipe["n_top_genes"]) == (
            named.flavor,
            named.n_top_genes,
        )
    other = GeneSelection(flavor="seurat" if named.flavor == "cell_ranger" else "cell_ranger")
    assert genes_of_scanpy(numbered.X, other) != genes_of_scanpy(numbered.X, named), "flavors differ here"
    assert np.count_nonzero(used.highly_variable) == named.n_top_genes


def test_recipes_that_select_other_genes_give_other_runs(cells, tmp_path):
    ids = {carry_out(catalog.prepared(cells, name), tmp_path / name)[0].run_id for name in ("none", "scanpy")}
    assert len(ids) == 2
