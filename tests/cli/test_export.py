"""Results for other programs: tables, and cells with what each method made of them."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import cellular_bench
from cellular_bench import Results, UserError
from cellular_bench.cli import group
from cellular_bench.datasets.simulator import simulate
from cellular_bench.metrics.per_cell import CELL_QUANTITIES


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """An embedding of all cells, and predictions of two folds."""
    out = tmp_path_factory.mktemp("export") / "out"
    common = {"datasets": "simulated_small", "out": out, "quiet": True}
    cellular_bench.run(methods=["pca", "shuffled"], tasks="integration", split="all", **common)
    return cellular_bench.run(
        methods="knn", tasks="annotation", split="kfold", n_splits=2, seeds=[0, 1], **common
    )


def export(results: Results, kind: str, out: Path) -> list[Path]:
    group.main(["export", str(results.folder), "--format", kind, "--out", str(out)], standalone_mode=False)
    return sorted(out.iterdir())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_hold_every_score(results, kind, tmp_path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    (path,) = export(results, kind, tmp_path)
    found = pd.read_csv(path, float_precision="round_trip") if kind == "csv" else pd.read_parquet(path)
    expected = results.to_frame()
    assert list(found) == list(expected)
    np.testing.assert_array_equal(found.value, expected.value)
    assert list(found.metric_id) == list(expected.metric_id)
    assert set(found.group_by.dropna()) == {"label", "batch"}
    # What reads the scores of a metric reads no means of labels and batches, too.
    of_groups = found[found.group_by.notna()]
    assert set(of_groups.metric_id).isdisjoint(found.metric_id[found.group_by.isna()])
    assert not of_groups.duplicated(["run_id", "metric_id", "group"]).any()


def test_cells_come_with_embeddings_and_predictions(results, tmp_path) -> None:
    paths = export(results, "h5ad", tmp_path)
    assert len(paths) == 3
    whole, *folds = (anndata.read_h5ad(path) for path in paths)
    assert whole.n_obs == 300
    assert set(whole.obsm) == {"X_pca", "X_shuffled"}
    assert whole.X is not None
    # The scores of the exported embedding are those of the record: rows belong to their cells.
    record = next(r for r in results.records if r.method.method_id == "pca")
    found = cellular_bench.score(
        whole, obsm="X_pca", batch_key="batch", label_key="label", metrics="silhouette_label"
    )
    assert found.value.item() == pytest.approx(record.value("silhouette_label"), abs=1e-6)
    own = [name for name in whole.obs if name.startswith("pca_")]
    assert own == [f"pca_{name}" for name in CELL_QUANTITIES]
    assert {whole.obs[name].dtype for name in own} == {np.dtype(np.float32)}
    assert whole.obs.pca_ilisi.median() == pytest.approx(record.value("ilisi"), abs=1e-6)
    assert whole.obs.pca_kbet.mean() == pytest.approx(record.value("kbet"), abs=1e-6)
    for one in record.per_group:
        of_cells = whole.obs[whole.obs[one.by] == one.name]
        for name in ("label_purity", "clisi", "state_kept", "neighbours_kept"):
            found = of_cells[f"pca_{name}"].mean()
            assert found == pytest.approx(one.values.get(name, np.nan), abs=1e-4, nan_ok=True), (one, name)
    assert {"state_kept", "neighbours_kept"} <= set().union(*(one.values for one in record.per_group))
    assert not any(name.startswith("knn_ilisi") for fold in folds for name in fold.obs)
    assert sum(fold.n_obs for fold in folds) == 300
    for fold in folds:
        names = dict(fold.uns["cellular_bench"])
        assert len(names) == 2
        for run_id, name in names.items():
            record = next(r for r in results.records if r.run_id == run_id)
            right = np.mean(fold.obs[f"{name}_label"].astype(str) == fold.obs["label"].astype(str))
            assert right == pytest.approx(record.value("accuracy"))


def test_files_of_the_same_cells_with_other_labels_do_not_replace_each_other(tmp_path) -> None:
    adata = simulate(n_obs=200, n_vars=60, n_labels=4, n_batches=2, seed=0)
    adata.obs["coarse"] = np.where(adata.obs["label"] == adata.obs["label"].iloc[0], "one", "rest")
    for label_key in ("label", "coarse"):
        found = cellular_bench.run(
            adata=adata, batch_key="batch", label_key=label_key, methods="knn", tasks="annotation",
            split="leave_one_batch_out", out=tmp_path / "out", quiet=True,
        )  # fmt: skip
    paths = export(found, "h5ad", tmp_path / "export")
    assert len(paths) == 4
    assert sorted(anndata.read_h5ad(path).obs["label"].nunique() for path in paths) == [2, 2, 4, 4]


def test_cells_come_without_expression_where_the_data_were_deleted(results, tmp_path) -> None:
    files = list((results.folder / "data").iterdir())
    for file in files:
        file.rename(tmp_path / file.name)
    try:
        whole = anndata.read_h5ad(export(results, "h5ad", tmp_path / "out")[0])
        assert whole.X is None
        assert whole.obsm["X_pca"].shape[0] == 300
    finally:
        for file in files:
            (tmp_path / file.name).rename(file)


def test_a_folder_without_the_structure_of_its_cells_gives_other_values_of_cells(results, tmp_path) -> None:
    files = list((results.folder / "splits").rglob("structure*.npz"))
    assert files
    for file in files:
        file.rename(file.with_suffix(".away"))
    try:
        whole = anndata.read_h5ad(export(results, "h5ad", tmp_path)[0])
    finally:
        for file in files:
            file.with_suffix(".away").rename(file)
    assert whole.obs.pca_state_kept.isna().all()
    assert whole.obs.pca_neighbours_kept.isna().all()
    assert whole.obs.pca_batch_mixing.notna().all()


def test_a_long_list_of_references_gives_names_of_files_that_fit(tmp_path) -> None:
    from cellular_bench.datasets import catalog

    adata = catalog.load(catalog.specs()["simulated_small"]).adata
    donors = [f"donor_{i:03d}_hospital" for i in range(24)]
    adata.obs["donor"] = [donors[i % 24] for i in range(adata.n_obs)]
    results = cellular_bench.run(
        adata=adata, batch_key="donor", label_key="label", tasks="annotation", methods="random_label",
        split="reference-query", reference=donors[:20], seeds=0, out=tmp_path / "out", quiet=True,
        figures=False,
    )  # fmt: skip
    assert len(results.records[0].split.split_id) > 255
    (path,) = export(results, "h5ad", tmp_path / "cells")
    assert anndata.read_h5ad(path).n_obs == results.records[0].split.n_test
    figures = tmp_path / "figures"
    group.main(
        ["report", str(results.folder), "--format", "svg", "--out", str(figures)], standalone_mode=False
    )
    names = sorted(file.name for file in (figures / "paper").iterdir())
    assert names
    assert {name.rpartition("-")[2] for name in names} <= {"ranking.svg", "metrics.svg", "cost.svg"}


def test_parquet_without_its_package_says_what_to_do(results, tmp_path, monkeypatch) -> None:
    from cellular_bench.workflows import export as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"cellular-bench\[parquet\]"):
        export(results, "parquet", tmp_path)
