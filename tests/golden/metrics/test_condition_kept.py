"""What is kept of a condition against an independent implementation, on donors under both conditions.

962 cells of two donors without and with interferon beta (Kang et al. 2018, doi:10.1038/nbt.4042).
"""

import json
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import GeneSelection
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.metrics import condition_kept
from cellular_bench.metrics.structure.conditions import condition_figures

GRID = ("donor", "sample", "stim")


@pytest.fixture(scope="module")
def kang(shared):
    from anndata import read_h5ad
    from scipy.sparse import csr_matrix

    folder = shared / "golden" / "structure"
    cells = np.load(folder / "kang_crossed_cells.npz")
    adata = read_h5ad(shared / "data" / "kang_pbmc_ifnb.h5ad", backed="r")[cells["obs_names"]].to_memory()
    X = normalise(csr_matrix(adata.X, dtype=np.float32))
    expected = json.loads((folder / "keep_condition_expected.json").read_text())
    return SimpleNamespace(
        X=X,
        counts=csr_matrix(adata.X, dtype=np.float32),
        genes=adata.var_names,
        pca=principal_components(X[:, variable_genes(X, GeneSelection())]).astype(np.float64),
        label=cells["cell_type"],
        donor=cells["donor"],
        stim=cells["condition"],
        kept=expected["kept"],
        raw=expected["raw"],
    )


def value(kang, X_emb):
    return condition_kept(X_emb, kang.pca, kang.label, kang.donor, {"stim": kang.stim})


def of_types(kang, X_emb):
    found = defaultdict(list)
    for one in condition_figures(X_emb, kang.pca, kang.label, kang.donor, kang.stim):
        found[one.label].append(one.auc)
    return {label: float(np.mean(values)) for label, values in found.items()}


@pytest.mark.parametrize("batch", GRID)
def test_principal_components_agree_in_every_type(kang, batch):
    expected = kang.raw[f"batch={batch}|knn|pca"]
    assert of_types(kang, kang.pca) == pytest.approx(expected["auc"], abs=1e-4)
    assert value(kang, kang.pca) == pytest.approx(kang.kept[f"batch={batch}|knn|pca"], abs=1e-4)


def test_islands_agree_in_every_type(kang):
    _, code = np.unique(kang.label, return_inverse=True)
    noise = np.random.default_rng(0).normal(size=(len(code), code.max() + 1))
    islands = 100.0 * np.eye(code.max() + 1)[code] + noise
    assert of_types(kang, islands) == pytest.approx(kang.raw["batch=donor|knn|C:islands"]["auc"], abs=1e-4)
    # Rounded to three decimals there.
    assert value(kang, islands) == pytest.approx(kang.kept["batch=donor|knn|C:islands"], abs=5.1e-4)


def test_a_leaked_axis_keeps_all_and_cells_shuffled_within_types_nothing(kang):
    leaked = np.column_stack([kang.pca, 100.0 * (kang.stim == "stim")])
    assert value(kang, leaked) == kang.kept["batch=donor|knn|C:cond leaked"] == 1.0
    values = []
    for seed in range(5):
        rng, shuffled = np.random.default_rng(seed), kang.pca.copy()
        for name in np.unique(kang.label):
            rows = np.flatnonzero(kang.label == name)
            shuffled[rows] = kang.pca[rng.permutation(rows)]
        values.append(value(kang, shuffled))
    # Single draws: chance is 0 of 1 with a spread of about 0.05, clipped at 0.
    assert np.median(values) == pytest.approx(kang.kept["batch=donor|knn|C:shuffle in type"], abs=0.02)
    assert max(values) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("batch", GRID)
@pytest.mark.parametrize("method_id", ["harmony", "scanorama", "combat"])
def test_methods_keep_as_much_as_there(kang, method_id, batch):
    from anndata import AnnData
    from pandas import DataFrame

    from cellular_bench.benchmark import registry

    chosen = registry.methods()[method_id]
    if missing := chosen.missing_modules():
        pytest.skip(f"{method_id} needs {', '.join(missing)}")
    batches = {"donor": kang.donor, "stim": kang.stim, "sample": np.char.add(kang.donor, kang.stim)}[batch]
    mask = variable_genes(kang.X, GeneSelection())
    adata = AnnData(kang.X[:, mask], obs=DataFrame({"batch": batches}).astype("category"))
    adata.layers["counts"] = kang.counts[:, mask]
    returned = chosen.factory(seed=0).fit_embed(adata)
    X_emb = getattr(returned, "X_emb", returned)
    if X_emb is None:
        X_emb = principal_components(returned.X)
    expected = kang.kept[f"batch={batch}|knn|{method_id}"]
    # Equal to the three decimals there where the same versions of the libraries ran.
    assert value(kang, X_emb) == pytest.approx(expected, abs=0.02)
