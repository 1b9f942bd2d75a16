"""Time of the structure metrics, on pancreas cells that are drawn with replacement and thinned.

``pytest benchmarks/test_structure.py`` measures processor time, on one thread with ``OMP_NUM_THREADS=1``.
scgraph-eval, if installed, and plain numpy are the peers, on the same cells.
"""

import importlib.util
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.metrics import METRICS, cell_depth, evaluate, nearest_neighbors, structure_reference
from cellular_bench.metrics.structure.reference import STRUCTURE_METRICS, consensus_of_types
from cellular_bench.metrics.structure.state import state_kept

BARON = Path(__file__).parents[1] / "datasets" / "bundled" / "baron_human_pancreas.h5ad"
MANY = (30_000, 100_000)
#: Required speed-up over scgraph-eval for the consensus and one embedding, and over numpy for the states.
SCGRAPH, NUMPY = 2, 1.5


@pytest.fixture(scope="module")
def cells():
    """Return a function that makes cells: expression, batches, labels, variable genes and depths."""
    adata = anndata.read_h5ad(BARON)

    def make(n_obs):
        rng = np.random.default_rng(0)
        drawn = np.sort(rng.integers(0, adata.n_obs, n_obs))
        counts = sparse.csr_matrix(adata.X)[drawn]
        counts.data = rng.binomial(counts.data.astype(int), 0.7).astype(np.float32)
        counts.eliminate_zeros()
        batch, label = (np.asarray(adata.obs[key], dtype=str)[drawn] for key in ("batch", "cell_type"))
        X, depth = normalise(counts), cell_depth(counts, are_counts=True)
        return X, batch, label, {"highly_variable": variable_genes(X), "depth": depth}

    nearest_neighbors(np.random.default_rng(0).normal(size=(9_000, 30)))  # compiles for single precision
    X, batch, label, genes = make(600)
    reference = structure_reference(X, batch, label, **genes)
    evaluate(STRUCTURE_METRICS, {"X_emb": principal_components(X), "structure": reference})
    return make


def seconds(function, *arguments, **options):
    start = time.process_time()
    found = function(*arguments, **options)
    return time.process_time() - start, found


def test_reference(benchmark, cells):
    X, batch, label, genes = cells(3_600)
    found = benchmark.pedantic(structure_reference, args=(X, batch, label), kwargs=genes, rounds=3)
    assert found.label_groups.n_signal.any()


def test_metrics_of_an_embedding(benchmark, cells):
    X, batch, label, genes = cells(3_600)
    inputs = {"structure": structure_reference(X, batch, label, **genes)}
    inputs["X_emb"] = principal_components(X[:, genes["highly_variable"]])
    found = benchmark.pedantic(evaluate, args=(STRUCTURE_METRICS, inputs), rounds=3)
    assert found["state_kept"] > 0.7


@pytest.fixture(scope="module")
def many(cells):
    """Return a function that makes many cells, the same ones for a number: as above, and an embedding."""
    made = {}

    def make(n_obs):
        if n_obs not in made:
            X, batch, label, genes = cells(n_obs)
            made[n_obs] = X, batch, label, genes, principal_components(X[:, genes["highly_variable"]])
        return made[n_obs]

    return make


@pytest.mark.parametrize("n_obs", MANY)
def test_reference_of_many_cells(benchmark, many, n_obs):
    X, batch, label, genes, _ = many(n_obs)
    found = benchmark.pedantic(structure_reference, args=(X, batch, label), kwargs=genes, rounds=1)
    assert found.label_groups.n_signal.any()


@pytest.fixture(scope="module")
def inputs_of_many(many):
    X, batch, label, genes, X_emb = many(MANY[-1])
    return {"structure": structure_reference(X, batch, label, **genes), "X_emb": X_emb}


@pytest.mark.parametrize("metric_id", STRUCTURE_METRICS)
def test_embedding_of_many_cells(benchmark, inputs_of_many, metric_id):
    inputs = inputs_of_many
    found = benchmark.pedantic(evaluate, args=([metric_id], inputs), rounds=1)
    assert found[metric_id] > 0.3


def plain_state_kept(X_emb, reference):
    """Compute state_kept from its definition with numpy alone."""
    by_label = {}
    for group in reference.label_groups:
        n, k, found = len(group.cells), group.n_neighbours, []
        for X in (X_emb[group.cells].astype(float), group.scores):
            squared = (X**2).sum(axis=1)
            distances = squared[:, None] + squared - 2 * X @ X.T
            np.fill_diagonal(distances, np.inf)
            near = np.argsort(distances, axis=1)[:, :k]
            rest = group.scores - group.scores[near].mean(axis=1)
            found.append(1 - (rest**2).sum() / (group.scores**2).sum())
        by_chance = 1 - (1 + 1 / k) * n / (n - 1)
        value = (found[0] - by_chance) / (found[1] - by_chance)
        by_label.setdefault(group.label, []).append((n, value))
    return np.mean(
        [np.average([v for _, v in one], weights=[n for n, _ in one]) for one in by_label.values()]
    )


def test_ratio_to_numpy(cells):
    X, batch, label, genes = cells(10_000)
    reference = structure_reference(X, batch, label, **genes)
    X_emb = principal_components(X[:, genes["highly_variable"]])
    peer, expected = min(seconds(plain_state_kept, X_emb, reference) for _ in range(3))
    ours, value = min(seconds(state_kept, X_emb, reference) for _ in range(3))
    print(f"\nstate_kept: numpy {peer:.2f} s, ours {ours:.2f} s")
    assert value == pytest.approx(expected, abs=1e-3)  # cells that were drawn twice are equally near
    assert peer / ours > NUMPY


@pytest.mark.skipif(importlib.util.find_spec("scgraph") is None, reason="scgraph-eval is not installed")
def test_ratio_to_scgraph(cells):
    import pandas as pd
    from scgraph import scGraph

    X, batch, label, genes = cells(3_600)
    X_emb = principal_components(X[:, genes["highly_variable"]])
    reference = structure_reference(X, batch, label, **genes)
    obs = pd.DataFrame({"batch": batch, "label": label}, dtype="category")
    obs.index = [f"cell {i}" for i in range(len(obs))]
    adata = anndata.AnnData(X=X, obs=obs, obsm={"X": X_emb})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        adata.write_h5ad(path)
        peer, table = seconds(lambda: scGraph(str(path), "batch", "label", only_umap=False).main())

    parts = [np.flatnonzero(batch == name) for name in np.unique(batch)]
    names, codes = np.unique(label, return_inverse=True)
    consensus, _ = seconds(consensus_of_types, X, parts, codes, len(names))
    metric, value = seconds(METRICS["scgraph"].function, X_emb, reference)
    print(f"\nscgraph-eval {peer:.2f} s; consensus and scgraph {consensus + metric:.2f} s")
    assert value == pytest.approx(float(table.loc["X", "Corr-Weighted"]), abs=1e-4)
    assert peer / (consensus + metric) > SCGRAPH
