"""One stray cell of a fourth donor: no split, and no batch in the scores of mixing."""

import anndata
import numpy as np
import pandas as pd
import pytest

import cellular_bench
from cellular_bench.benchmark.analysis.folder_comparison import compare
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.results.store import Store
from cellular_bench.metrics import METRICS, evaluate
from cellular_bench.metrics.spec import reads_batches
from cellular_bench.workflows.reproduce import ReproduceRequest, reproduce
from cellular_bench.workflows.rescore import rescore_folder

KEYS = {"batch_key": "donor", "label_key": "cell_type"}
QUIET = {"quiet": True, "jobs": 1}


@pytest.fixture(scope="module")
def stray():
    """301 cells of three donors and one of a fourth, whose label it alone has there; a mixed embedding."""
    rng = np.random.default_rng(0)
    label, donor = (
        np.array(names, dtype=object)[rng.integers(0, 3, 301)]
        for names in (["A", "B", "C"], ["d1", "d2", "d3"])
    )
    donor[0], label[0] = "d4", "B" if label[0] == "A" else "A"
    mean = rng.gamma(1.0, 2.0, 60) * np.exp(rng.normal(0, 1, (3, 60)))[[*map("ABC".index, label)]]
    obs = pd.DataFrame({"cell_type": label, "donor": donor}, index=[f"c{i}" for i in range(301)])
    adata = anndata.AnnData(rng.poisson(mean).astype(np.float32), obs=obs)
    adata.obsm["X_mixed"] = np.random.default_rng(0).normal(size=(301, 5))
    adata.obsm["X_mixed"][:, 0] += 6 * (label == "A")
    return adata


def scores(adata, **options):
    frame = cellular_bench.score(adata, obsm="X_mixed", **KEYS, **options)
    return frame.set_index("metric_id").value


def test_a_stray_cell_takes_no_share_of_mixing(stray):
    with_all, usual, without = scores(stray, min_cells=1), scores(stray), scores(stray[1:].copy())
    assert with_all.ilisi == pytest.approx(0.562, abs=0.001)
    assert usual.ilisi == pytest.approx(0.832, abs=0.001)
    reading = [name for name in usual.index if reads_batches(METRICS[name])]
    assert {"ilisi", "kbet", "kbet_per_label", "bras", "silhouette_batch", "isolated_labels"} <= set(reading)
    pd.testing.assert_series_equal(usual[reading], without[reading])
    others = usual.index.difference(reading)
    pd.testing.assert_series_equal(usual[others], with_all[others])
    X, batch = stray.obsm["X_mixed"], stray.obs.donor.to_numpy(dtype=str)
    assert evaluate(["ilisi"], {"X_emb": X, "batch": batch})["ilisi"] == with_all.ilisi, "a plain definition"


def test_scores_say_what_they_leave_out(stray):
    frame = cellular_bench.score(stray, obsm="X_mixed", **KEYS).set_index("metric_id")
    assert frame.left_out["ilisi"] == {"d4": 1}
    assert pd.isna(frame.left_out["clisi"])
    assert "left_out" not in cellular_bench.score(stray, obsm="X_mixed", min_cells=1, **KEYS)


def test_batches_that_are_all_small_are_all_scored(stray):
    few = stray[1:].copy()
    few.obs["donor"] = [f"p{i // 8}" for i in range(300)]  # the last of them has four cells
    frame = cellular_bench.score(few, obsm="X_mixed", metrics="ilisi", **KEYS)
    assert "left_out" not in frame
    inputs = {"X_emb": few.obsm["X_mixed"], "batch": few.obs.donor.to_numpy(dtype=str)}
    assert frame.value.item() == evaluate(["ilisi"], inputs)["ilisi"]


def test_a_graph_loses_the_stray_cell_too():
    from scipy.sparse import csr_matrix

    from cellular_bench.metrics import nearest_neighbors

    X = np.random.default_rng(1).normal(size=(200, 3))
    near = nearest_neighbors(X, 60)
    lengths = csr_matrix(
        (near.distances.ravel(), near.indices.ravel(), np.arange(0, 12001, 60)), shape=(200, 200)
    )
    batch = np.array([*["a", "b"] * 99, "c", "a"])
    inputs = {
        "batch": batch,
        "graph_distances": lengths,
        "graph": lengths,
        "labels": batch,
    }
    inputs["cell_cycle_before"] = {"a": 0.5, "c": 0.1}
    found = scoring.without_batches(inputs, {"c": 1})
    assert found["graph"].shape == found["graph_distances"].shape == (199, 199)
    assert found["cell_cycle_before"] == {"a": 0.5}
    assert len(found["labels"]) == 200, "names of columns are not cells"


@pytest.fixture(scope="module")
def annotated(stray, tmp_path_factory):
    """Result folders of leave one batch out, by default and with every cell."""
    out = tmp_path_factory.mktemp("lobo")
    run = {
        "adata": stray,
        "tasks": "annotation",
        "split": "leave-one-batch-out",
        "methods": "nearest_centroid",
    }
    usual = cellular_bench.run(**run, **KEYS, **QUIET, out=out / "usual")
    every = cellular_bench.run(**run, **KEYS, **QUIET, out=out / "every", min_cells=1)
    return usual, every


def test_a_stray_cell_is_no_split(annotated):
    usual, every = annotated
    assert sorted(r.split.split_id for r in usual.records) == ["lobo.d1", "lobo.d2", "lobo.d3"]
    assert sorted(r.split.split_id for r in every.records) == ["lobo.d1", "lobo.d2", "lobo.d3", "lobo.d4"]
    note = (
        "1 of 4 splits leave_one_batch_out of adata left out, with fewer than 10 scored cells: "
        "'lobo.d4' (1). With --min-cells 1, all are run."
    )
    assert all(note in record.warnings for record in usual.records)
    assert not any("left out" in text for record in every.records for text in record.warnings)
    assert {record.min_cells for record in usual.records} == {10}
    assert all(record.split.n_train == 301 - record.split.n_test for record in usual.records), "it trains"
    assert {r.run_id for r in usual.records} < {r.run_id for r in every.records}


def test_a_split_of_one_cell_can_be_reproduced(annotated, stray):
    _, every = annotated
    store = Store.open(every.folder)
    (record,) = [r for r in every.records if r.split.split_id == "lobo.d4"]
    file = store.run_folder(record.run_id) / "record.json"
    again = reproduce(ReproduceRequest.of(record_file=file, adata=stray, **KEYS))
    assert again.differences == []
    assert again.record.min_cells == 1


def test_scores_that_leave_out_other_batches_are_not_compared(stray, tmp_path, capsys):
    run = {"adata": stray, "tasks": "integration", "split": "all", "methods": "pca", **KEYS, "jobs": 1}
    (first,) = cellular_bench.run(**run, out=tmp_path / "r").records
    assert (
        "Metrics that read batches leave out those of adata with few scored cells: 'd4' (1)."
        in capsys.readouterr().out
    )
    assert (first.evaluation.min_cells, score_of(first, "ilisi").left_out) == (10, {"d4": 1})
    (kept,) = cellular_bench.run(**run, out=tmp_path / "r", min_cells=1).records
    said = capsys.readouterr().out
    assert kept == first
    remedy = f"To recompute them: run-benchmark rescore {tmp_path / 'r'} --min-cells 1"
    assert f"1 runs keep scores that leave out other small batches than --min-cells 1 does. {remedy}" in said
    assert rescore_folder(tmp_path / "r").n_changed == 0, "as in the record"
    assert rescore_folder(tmp_path / "r", min_cells=1).n_changed == 1
    (every,) = Store.open(tmp_path / "r").records()
    assert (every.evaluation.min_cells, score_of(every, "ilisi").left_out) == (1, {})
    assert every.value("ilisi") < first.value("ilisi") - 0.1
    found = compare([first], [every], METRICS)
    (why,) = {one.reason for one in found.not_compared if one.metric_id == "ilisi"}
    assert why == "small batches left out: d4 before, none after"
    assert "clisi" not in {one.metric_id for one in found.not_compared}
    assert rescore_folder(tmp_path / "r", min_cells=10).n_changed == 1
    assert next(Store.open(tmp_path / "r").records()).scores == first.scores


def score_of(record, metric_id):
    return next(score for score in record.scores if score.metric_id == metric_id)
