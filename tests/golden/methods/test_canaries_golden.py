"""Canary embeddings of Kang 2018 have the scores that were found for them elsewhere."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.metrics import evaluate

#: Method -> row, and the largest difference: rows that draw noise or a permutation differ by the draw.
ROWS = {
    "harmony": ("harmony", 0.001),
    "perfect_labels": ("C:islands", 0.001),
    "collapsed": ("C:collapse.1", 0.001),
    "types_merged": ("C:types merged", 0.001),
    "collapsed_jitter": ("C:collapse.1+jit", 0.03),
    "shuffled_within_type": ("C:shuffle in type", 0.03),
    "noise_dimensions": ("C:noise dims x50", 0.03),
    "random_projection": ("C:random projection", 0.12),
}
METRIC_IDS = ("silhouette_label", "clisi", "graph_connectivity", "bras", "ilisi", "cilisi", "pcr_comparison")


@pytest.mark.slow
def test_canaries_have_the_scores_of_their_rows(shared) -> None:
    golden = json.loads((shared / "golden" / "structure" / "canary_matrix.json").read_text(encoding="utf-8"))
    raw = anndata.read_h5ad(shared / "data" / "kang_pbmc_ifnb.h5ad")
    raw = raw[np.sort(np.random.default_rng(0).choice(raw.n_obs, 3000, replace=False))]
    X = normalise(raw.X)
    X = X[:, variable_genes(X)]
    obs = pd.DataFrame({"label": raw.obs["cell_type"].astype(str), "batch": raw.obs["batch"].astype(str)})
    cells = anndata.AnnData(X, obs=obs.astype("category"))
    inputs = {name: np.asarray(obs[name], dtype=str) for name in ("label", "batch")}
    inputs["X_pre"] = principal_components(X)
    for name, (row, most) in ROWS.items():
        X_emb = registry.method(name).factory(seed=0).fit_embed(cells.copy())
        found = evaluate(METRIC_IDS, {**inputs, "X_emb": X_emb})
        expected = {metric: golden["kang"][row]["metrics"][metric] for metric in METRIC_IDS}
        assert dict(found) == pytest.approx(expected, abs=most), name
