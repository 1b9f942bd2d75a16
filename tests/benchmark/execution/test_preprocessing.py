"""What methods are given at a setting of the preprocessing: scanpy's numbers, nothing of withheld cells."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.preparation import (
    genes_at,
    prepare_split,
    read_cells,
    why_missing,
    write_data,
    write_split,
)
from cellular_bench.benchmark.plan.identity import dataset_identity
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.types import GeneSelection, Preprocessing
from cellular_bench.datasets import splits
from cellular_bench.workflows.reproduce import only, suite_of

SETTINGS = (
    Preprocessing(genes=60, flavor="seurat", scale=True),
    Preprocessing(genes=60, flavor="seurat_v3"),
    Preprocessing(genes=60, flavor="batch_aware"),
    Preprocessing(genes="all", scale=True),
)


@pytest.fixture(scope="module")
def dataset(small):
    return small["simulated_small"]


@pytest.fixture(scope="module")
def split(dataset):
    label, batch = (np.asarray(dataset.adata.obs[key], dtype=str) for key in ("label", "batch"))
    names = np.asarray(dataset.adata.obs_names, dtype=str)
    made = splits.make("kfold", label=label, batch=batch, names=names, options={"n_splits": 3})
    return next(iter(made))


def prepared(dataset, split, folder, settings=SETTINGS):
    folder.mkdir()
    write_data(dataset, folder / "data.h5ad")
    write_split(split, dataset_identity(dataset), folder / "split.npz")
    views = {
        ("all" if setting.genes == "all" else "hvg", setting): folder / f"view{place}"
        for place, setting in enumerate(settings)
    }
    prepare_split(folder / "data.h5ad", folder / "split.npz", folder, views=views)
    return [
        {name: ad.read_h5ad(path / f"{name}.h5ad") for name in ("train", "query")} for path in views.values()
    ]


def test_methods_are_given_the_genes_and_values_of_scanpy(dataset, split, tmp_path):
    scaled, by_counts, by_batches, every = prepared(dataset, split, tmp_path / "s")
    train = dataset.adata[split.train_obs].copy()
    sc.pp.filter_genes(train, min_cells=1)

    def wanted(adata, **options):
        table = sc.pp.highly_variable_genes(adata, n_top_genes=60, inplace=False, **options)
        return table.index[table["highly_variable"]].tolist()

    assert scaled["train"].var_names.tolist() == wanted(train, flavor="seurat")
    assert by_counts["train"].var_names.tolist() == wanted(train, flavor="seurat_v3", layer="counts")
    by_batch = wanted(train, flavor="cell_ranger", batch_key="batch")
    assert sorted(by_batches["train"].var_names) == sorted(by_batch)
    # In the view, cells have another order and other names; genes keep theirs.
    dense = sc.pp.scale(train[:, scaled["train"].var_names].X.toarray(), max_value=10)
    ours = scaled["train"].X
    np.testing.assert_allclose(np.sort(ours, axis=0), np.sort(dense, axis=0), atol=2e-5)
    assert np.abs(ours.mean(axis=0)).max() < 1e-5
    assert ours.std(axis=0, ddof=1).max() == pytest.approx(1.0, abs=1e-4)
    assert every["train"].n_vars == dataset.adata.n_vars
    assert every["train"].var["highly_variable"].dtype == bool
    assert sparse.issparse(by_counts["train"].X), "genes that are not scaled stay as they were"
    assert (by_counts["train"].X.data > 0).all()


def test_scored_cells_are_scaled_by_the_training_cells(dataset, split, tmp_path):
    scaled, *_ = prepared(dataset, split, tmp_path / "s", SETTINGS[:1])
    genes = scaled["train"].var_names
    train, query = (
        dataset.adata[cells, genes].X.toarray().astype(float) for cells in (split.train_obs, split.test_obs)
    )
    wanted = np.clip((query - train.mean(axis=0)) / train.std(axis=0, ddof=1), -10, 10)
    np.testing.assert_allclose(np.sort(scaled["query"].X, axis=0), np.sort(wanted, axis=0), atol=1e-4)
    assert "counts" in scaled["query"].layers
    assert (scaled["query"].layers["counts"].toarray() % 1 == 0).all()


def test_withheld_cells_change_no_gene_and_no_scale(dataset, split, tmp_path):
    adata = dataset.adata.copy()
    changed, counts = adata.X.tolil(), adata.layers["counts"].tolil()
    rng = np.random.default_rng(0)
    for matrix in (changed, counts):
        matrix[split.test_obs] = rng.poisson(3.0, size=(len(split.test_obs), adata.n_vars))
    adata.X, adata.layers["counts"] = changed.tocsr(), counts.tocsr()
    other = replace(dataset, adata=adata, digest="other")
    before, after = prepared(dataset, split, tmp_path / "a"), prepared(other, split, tmp_path / "b")
    for one, two in zip(before, after, strict=True):
        assert one["train"].var_names.tolist() == two["train"].var_names.tolist()
        first, second = (cells["train"].X for cells in (one, two))
        assert abs(first - second).max() == 0
    assert abs(before[0]["query"].X - after[0]["query"].X[:, :]).max() > 1
    default = GeneSelection()
    everything = np.arange(adata.n_obs)
    leaky = [genes_at(SETTINGS[0], one.adata, everything, default).tolist() for one in (dataset, other)]
    assert leaky[0] != leaky[1], "a selection on all cells would show it"


def test_metrics_keep_the_default_genes(dataset, split, tmp_path):
    prepared(dataset, split, tmp_path / "with")
    prepared(dataset, split, tmp_path / "without", ())
    masks = [read_cells(tmp_path / name / "cells.npz").highly_variable for name in ("with", "without")]
    assert masks[0].tolist() == masks[1].tolist()
    truths = [(tmp_path / name / "truth.npz").read_bytes() for name in ("with", "without")]
    assert truths[0] == truths[1]


def test_a_selection_that_fails_is_a_reason_for_its_own_runs(dataset, split, tmp_path):
    adata = dataset.adata.copy()
    adata.layers["counts"] = sparse.csr_matrix(np.ones(adata.shape))  # no curve goes through one point
    folder = tmp_path / "s"
    with pytest.raises(FileNotFoundError):
        prepared(replace(dataset, adata=adata), split, folder, SETTINGS[1:3])
    assert "need genes of 20 different means" in why_missing(folder / "view0").read_text()
    assert (folder / "view1" / "train.h5ad").exists()


@pytest.mark.slow
def test_runs_at_settings_are_recorded_found_again_and_reproduced(small, silent, tmp_path):
    block = {
        "task": "annotation",
        "datasets": ["simulated_small"],
        "methods": ["nearest_centroid"],
        "splits": [{"kind": "kfold", "n_splits": 2}],
    }
    suite = Suite(
        suite_id="t", title="T", blocks=[block], leak_canary=False, genes=[40, "all"], scale=[True, False]
    )
    planned = plan(suite, datasets=small, methods=registry.methods())
    store = Store.create(tmp_path / "out", suite)
    executor = Executor(store=store)
    records = list(executor.execute(planned, datasets=small, progress=silent))
    assert [(record.status, record.reason) for record in records] == [("ok", None)] * 8
    assert {record.method.preprocessing for record in records} == {
        None,
        Preprocessing(genes=40),
        Preprocessing(genes=40, scale=True),
        Preprocessing(scale=True),
    }, "all genes are the default of data with 200 genes"
    assert len({record.outputs.sha256 for record in records}) == 8, "each was given something else"
    assert executor.missing(planned) == []
    assert [store.record(record.run_id) for record in records] == records
    one = next(
        record for record in records if record.method.preprocessing == Preprocessing(genes=40, scale=True)
    )
    again = only(plan(suite_of(one), datasets=small, methods=registry.methods()), one)
    assert [run.run_id for run in again.runs] == [one.run_id]
