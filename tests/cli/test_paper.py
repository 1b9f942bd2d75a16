"""The study's suite on files as its deposit has them, made small."""

import json
from pathlib import Path

import numpy as np
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.registry import metrics
from cellular_bench.benchmark.results.store import Store
from cellular_bench.datasets.simulator import simulate
from cellular_bench.workflows import tailor
from cellular_bench.workflows.requests import RunRequest


@pytest.fixture(scope="module")
def deposit(tmp_path_factory) -> Path:
    """Two files: integration data with counts in a layer, annotated data without counts or names of cells."""
    folder = tmp_path_factory.mktemp("deposit")
    adata = simulate(n_obs=240, n_vars=150, n_labels=3, n_batches=2, seed=0)
    adata.obs["patientID"], adata.obs["cell_type"] = adata.obs["batch"], adata.obs["label"]
    adata.layers["pp_counts"] = adata.X.copy()
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    adata.X = adata.X.multiply((totals.mean() / totals)[:, None]).tocsr().astype(np.float32)
    adata.X.data = np.log1p(adata.X.data)
    place = folder / "processed" / "immune_cells"
    place.mkdir(parents=True)
    adata.write_h5ad(place / "Oetjen_merged.h5ad")
    del adata.layers["pp_counts"]
    adata.obs_names = [str(number % 120) for number in range(adata.n_obs)]
    adata.write_h5ad(folder / "processed" / "MacParland.h5ad")
    return folder


@pytest.fixture(scope="module")
def results(run_benchmark, deposit: Path) -> Path:
    """The suite's own rows of two methods that take no time."""
    suite = ["--suite", "paper", "--data-dir", str(deposit), "--method", "pca,unintegrated"]
    suite += ["--dataset", "bone_marrow,macparland,kidney", "--task", "integration"]
    done = run_benchmark("run", *suite, "--no-figures", "--jobs", 2, "--out", deposit / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing data set kidney. It is not here." in done.stdout
    assert "bone_marrow: 240 cells" in done.stdout
    return deposit / "out"


@pytest.mark.slow
def test_the_files_are_run_by_the_studys_protocol(results: Path) -> None:
    records = list(Store.open(results).records())
    assert {record.dataset.dataset_id for record in records} == {"bone_marrow", "macparland"}
    assert all(record.status == "ok" for record in records)
    assert all(record.split.scheme == "kfold-5-42" for record in records)
    counts = next(r.dataset for r in records if r.dataset.dataset_id == "bone_marrow")
    assert counts.recipe["size_factor"] == "mean"
    assert counts.recipe["min_cells"] == 20
    deposited = next(r.dataset for r in records if r.dataset.dataset_id == "macparland")
    assert deposited.recipe == {"name": "study_annotated", "values": "as they came"}


@pytest.mark.slow
def test_embeddings_have_the_nine_scores_of_the_study(results: Path) -> None:
    records = [r for r in Store.open(results).records() if r.dataset.dataset_id == "bone_marrow"]
    boards = build_boards(records, metrics().values())
    (board,) = boards
    for row in board.rows:
        for name in ("nmi_scib", "ari_scib", "pcr_scib", "graph_connectivity_scib", "silhouette_batch"):
            assert 0 <= row.metrics[name].mean <= 1
            assert row.metrics[name].n == 5
    missing = json.loads((results / "suite.json").read_text())["missing"]
    assert [(item["kind"], item["name"]) for item in missing] == [("data set", "kidney")]


def tailored(suite_id: str, *method_ids: str) -> list[tuple[str, list[tuple[str, str | None, dict]]]]:
    request = RunRequest(methods=method_ids)
    suite = tailor.tailored(tailor.find_suite(suite_id), request, dataset_ids=(), known=registry.methods())
    return [
        (block.task, [(one.method_id, one.features, one.params) for one in block.methods])
        for block in suite.blocks
    ]


def test_a_named_method_runs_as_and_where_the_suite_runs_it() -> None:
    paper = {"preset": "paper"}
    assert tailored("paper", "scibet") == [
        ("annotation", [("scibet", "all", paper), ("scibet", "hvg", paper)]),
    ]
    assert [methods for _, methods in tailored("paper", "cellular")] == [[("cellular", None, paper)]] * 5
    assert tailored("quickstart", "cellular")[0] == ("integration", [("cellular", None, {"max_epochs": 20})])
    # A method that the suite does not name runs wherever it can, as it is by itself.
    assert [task for task, _ in tailored("paper", "knn")] == ["annotation", "novelty", "annotation"]
    assert tailored("paper", "knn")[0][1] == [("knn", None, {})]
