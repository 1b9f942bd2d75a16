"""The label-free scores of two methods on real cells, against independent values."""

import json

import numpy as np
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.tasks import INTEGRATION
from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.keys import COUNTS
from cellular_bench.datasets import catalog
from cellular_bench.metrics import METRICS, cell_depth, evaluate, structure_reference

FREE = INTEGRATION.without_labels
#: Names of the stored values.
STORED = {"ilisi": "ilisi", "kbet": "kbet", "pcr_comparison": "pcr", "state_kept_clusters": "sfree"}


@pytest.mark.slow
def test_pancreas_without_labels(shared, make):
    path, stored = shared / "data" / "baron_human_pancreas.h5ad", shared / "golden" / "structure"
    if not (path.exists() and (stored / "label_free_expected.json").exists()):
        pytest.skip("the reference data hold no label-free scores")
    expected = json.loads((stored / "label_free_expected.json").read_text())["baron"]
    adata = catalog.load(catalog.from_h5ad(path, batch_key="batch")).adata
    batch, genes = np.asarray(adata.obs["batch"], dtype=str), variable_genes(adata.X)
    depth = cell_depth(adata.layers[COUNTS], are_counts=True)
    inputs = {
        "batch": batch,
        "X_pre": principal_components(adata.X[:, genes]),
        "structure": structure_reference(adata.X, batch, highly_variable=genes, depth=depth),
    }
    records = []
    for name in ("pca", "harmony"):
        method = registry.methods()[name].factory(seed=0)
        cells = adata[:, genes].copy()
        X_emb = method.fit_embed(cells) if hasattr(method, "fit_embed") else method.fit(cells).embed(cells)
        found = evaluate(FREE.metric_ids, {**inputs, "X_emb": X_emb})
        for metric_id, key in STORED.items():
            # Clusters of k-means differ between its versions; the rest is exact.
            tolerance = 2e-3 if metric_id == "state_kept_clusters" else 1e-6
            assert found[metric_id] == pytest.approx(expected[name][key], abs=tolerance), (name, metric_id)
        scores = [
            {"metric_id": metric_id, "aspect": METRICS[metric_id].aspect, "value": value}
            for metric_id, value in found.items()
        ]
        run = make(name, 0, {})
        dataset = run.dataset.model_dump() | {"n_labels": 0}
        records.append(type(run).model_validate(run.model_dump() | {"scores": scores, "dataset": dataset}))
    (board,) = build_boards(records, METRICS.values())
    for row in board.rows:
        one = expected[row.method.name]
        assert row.aspects["batch_correction"].mean == pytest.approx(one["free_batch"], abs=1e-6)
        assert row.overall.mean == pytest.approx((one["free_batch"] + one["sfree"]) / 2, abs=1e-3)
    assert [row.method.name for row in board.rows] == ["harmony", "pca"]
