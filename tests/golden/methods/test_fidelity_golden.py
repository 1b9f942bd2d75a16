"""Our methods give what the authors' own code gave on pancreas and blood; the recorded figures are those."""

import numpy as np
import pandas as pd
import pytest

from cellular_bench.methods.cellid.adapter import CellIDCell, CellIDGroup
from cellular_bench.methods.chetah import Chetah
from cellular_bench.methods.fastmnn import FastMNN
from cellular_bench.methods.scibet import SciBet
from cellular_bench.methods.scmap import ScmapCluster


@pytest.fixture(scope="module", params=["baron", "pbmc"])
def name(request):
    return request.param


@pytest.fixture
def cells(fidelity, shared, name):
    return fidelity.golden_split(name, shared)


def test_scibet(fidelity, shared, name, cells):
    worst = []
    for scale, n_genes in (("cpm", 1000), ("log1p", 2000)):
        original = fidelity.golden_table(f"{name}.scibet_{scale}", shared)
        found = SciBet(n_genes=n_genes, input_scale=scale).fit(cells[0]).predict(cells[1])
        assert list(found.labels) == list(original.columns[2:])
        np.testing.assert_array_equal(found.label_pred, original["pred"])
        worst.append(fidelity.largest_difference(found.label_proba, original.iloc[:, 2:]))
    assert max(worst) < 1e-6
    fidelity.assert_recorded("scibet", name, labels=1.0, scores=max(worst))


def test_scmap_cluster(fidelity, shared, name, cells):
    original = fidelity.golden_table(f"{name}.scmap1", shared)
    found = ScmapCluster().fit(cells[0]).predict(cells[1])
    labels = np.where(found.rejected, "unassigned", found.label_pred)
    np.testing.assert_array_equal(labels, original["cluster"])
    # Where no two similarities agree, the original has none.
    similarity = pd.to_numeric(original["csim"], errors="coerce").to_numpy()
    there = ~np.isnan(similarity)
    assert there.mean() > 0.9
    assert fidelity.largest_difference(1 - found.novelty[there], similarity[there]) < 1e-6
    fidelity.assert_recorded("scmap_cluster", name, labels=1.0)


@pytest.mark.slow
def test_chetah(fidelity, shared, name, cells):
    original = fidelity.golden_table(f"{name}.chetah", shared)
    found = Chetah().fit(cells[0]).predict(cells[1])
    stopped = ~original["pred"].isin(cells[0].obs["label"].cat.categories)
    np.testing.assert_array_equal(found.rejected, stopped)
    np.testing.assert_array_equal(found.label_pred[~stopped], original["pred"][~stopped])
    fidelity.assert_recorded("chetah", name, labels=1.0)
    # The leaf of a cell that stopped is not a call; ties between leaves are broken in another way.
    assert fidelity.equal_share(found.label_pred, original["pred0"]) >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [("cell", CellIDCell), ("group", CellIDGroup)])
def test_cellid(fidelity, shared, name, cells, kind, method):
    found = method().fit(cells[0]).predict(cells[1])
    # The second seed is there for one data set.
    for run in {"baron": ["cellid"], "pbmc": ["cellid", "cellid_2def"]}[name]:
        original = fidelity.golden_table(f"{name}.{run}", shared)
        share = fidelity.equal_share(found.label_pred, original[kind])
        fidelity.assert_recorded(f"cellid_{kind}", name, "default", labels=share)
    if name == "pbmc":
        original = fidelity.golden_table("pbmc.cellid_1tight", shared)
        np.testing.assert_array_equal(found.label_pred, original[kind])
        assert fidelity.largest_difference(-found.novelty, original[f"{kind}_score"]) < 1e-6
        fidelity.assert_recorded(f"cellid_{kind}", name, "exact", labels=1.0)


@pytest.mark.slow
def test_fastmnn(fidelity, shared, name, cells):
    original = fidelity.golden_table(f"{name}.fastmnn", shared)
    assert original.iloc[:, 0].tolist() == cells[0].obs_names.tolist()
    original = original.iloc[:, 1:].to_numpy()
    found = FastMNN().fit_embed(fidelity.of_variable_genes(cells[0])).astype(np.float64)
    # The file holds five decimals.
    assert fidelity.largest_difference(fidelity.without_signs(found, original), original) < 5.1e-6
    fidelity.assert_recorded("fastmnn", name, neighbours=fidelity.shared_neighbours(found, original))
