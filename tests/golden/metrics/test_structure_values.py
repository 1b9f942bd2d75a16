"""Structure metrics give the values of reference implementations: scGraph's, and independent ones."""

import json

import numpy as np
import pytest
from scipy import sparse

from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.metrics import cell_depth, evaluate, structure_reference
from cellular_bench.metrics.structure.reference import STRUCTURE_METRICS

FILES = {"baron": "baron_human_pancreas", "kang": "kang_pbmc_ifnb", "multi": "pbmc_multistudy"}
N_DRAWN = {"kang": 3000, "multi": 4000}


@pytest.fixture(scope="module")
def folder(shared):
    if not (shared / "golden" / "structure").is_dir():
        pytest.skip("the reference data hold no values of structure metrics")
    return shared / "golden" / "structure"


def read(path):
    arrays = dict(np.load(path))
    parts = arrays.pop("data").astype(np.float32), arrays.pop("indices"), arrays.pop("indptr")
    return sparse.csr_matrix(parts, shape=tuple(arrays.pop("shape"))), arrays


def reference_of(counts, batch, label):
    X = normalise(counts)
    depth = cell_depth(counts, are_counts=True)
    return structure_reference(X, batch, label, highly_variable=variable_genes(X), depth=depth)


def values(X_emb, reference):
    return evaluate(STRUCTURE_METRICS, {"X_emb": X_emb, "structure": reference})


def collapsed(X_emb, label, factor):
    centres = np.stack([X_emb[label == name].mean(axis=0) for name in label])
    return centres + factor * (X_emb - centres)


def check(found, expected, where):
    """Compare with expected values, of which some are stored under other names."""
    names = {"spread_ratio": "spread_kept"}
    for name, value in expected.items():
        metric_id = names.get(name, name)
        if metric_id in STRUCTURE_METRICS and value is not None:
            value = min(1.0, value) if name == "spread_ratio" else value
            assert found[metric_id] == pytest.approx(value, abs=1e-4), (where, metric_id)


def test_a_simulated_gradient(folder):
    counts, arrays = read(folder / "structure_input.npz")
    expected = json.loads((folder / "structure_expected.json").read_text())["simulated"]
    label, pca = arrays["label"], arrays["pca"]
    reference = reference_of(counts, arrays["batch"], label)
    assert reference.label_groups.n_signal.tolist() == [n for *_, n in expected["groups"]]
    made = {
        "pca10": pca[:, :10],
        "shuffled_in_type": pca[arrays["shuffle"]],
        "collapse_10": collapsed(pca, label, 0.1),
    }
    for name, wanted in expected["values"].items():
        check(values(made[name] if name in made else arrays[name], reference), wanted, name)


def test_scgraph_of_few_types(folder):
    counts, arrays = read(folder / "scgraph_input.npz")
    stored = json.loads((folder / "scgraph_expected.json").read_text())
    reference = reference_of(counts, arrays["batch"], arrays["label"])
    names = np.unique(arrays["label"])[reference.types]
    consensus = [[stored["consensus"][column][row] for column in names] for row in names]
    np.testing.assert_allclose(reference.consensus, consensus, atol=1e-4)
    for name, wanted in stored["expected"].items():
        found = values(arrays[name], reference)
        assert found["scgraph"] == pytest.approx(wanted["weighted"], abs=1e-4), name
        assert "needs 6 types; there are 5" in str(found["type_geometry"])


@pytest.mark.parametrize(
    "name", ["baron", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kang", "multi"))]
)
def test_real_data(shared, folder, name):
    anndata = pytest.importorskip("anndata")
    path = shared / "data" / f"{FILES[name]}.h5ad"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    adata = anndata.read_h5ad(path)
    if name in N_DRAWN:
        adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, N_DRAWN[name], replace=False))]
    label, batch = (np.asarray(adata.obs[key], dtype=str) for key in ("cell_type", "batch"))
    counts = sparse.csr_matrix(adata.X)
    reference = reference_of(counts, batch, label)
    X = normalise(counts)
    _, codes = np.unique(label, return_inverse=True)
    jitter = 0.01 * np.random.default_rng(0).normal(size=(len(label), codes.max() + 1))
    embeddings = {
        "pca": principal_components(X[:, variable_genes(X)]),
        "perfect_labels": np.eye(codes.max() + 1)[codes] + jitter,
    }
    structure = json.loads((folder / "structure_expected.json").read_text())["real"]
    geometry = json.loads((folder / "type_geometry_expected.json").read_text())[name]
    if name in structure:
        counted = [n for *_, n in structure[name]["signal_pcs"]]
        assert reference.label_groups.n_signal.tolist() == counted
    for method, X_emb in embeddings.items():
        found = values(X_emb, reference)
        raw, _, corrected = geometry[method]
        check(found, {"scgraph": raw, "type_geometry": corrected}, method)
        check(found, structure.get(name, {"values": {}})["values"].get(method, {}), method)
