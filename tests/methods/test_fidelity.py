"""Our methods give what the authors' own code gave on the same few hundred pancreas cells.

Outputs of the originals are in ``tests/data/fidelity``; the scripts in ``benchmarks/fidelity`` made them.
"""

import numpy as np
import pytest

from cellular_bench.methods.cellid.adapter import CellIDCell, CellIDGroup
from cellular_bench.methods.chetah import Chetah
from cellular_bench.methods.fastmnn import FastMNN
from cellular_bench.methods.scibet import SciBet
from cellular_bench.methods.scmap import ScmapCluster


@pytest.fixture(scope="module")
def cells(fidelity):
    return fidelity.small_split()


def test_the_cells_are_those_that_the_originals_had(cells):
    """Outputs are stored by position: other cells, or another order, would compare nothing."""
    train, query = cells
    assert (train.n_obs, query.n_obs, train.n_vars) == (323, 104, 4078)
    assert train.obs["label"].value_counts().min() == 9
    assert train.obs_names[0] == "human1_lib1.final_cell_0009"
    assert query.obs_names[-1] == "human2_lib2.final_cell_0137"
    assert train.var["highly_variable"].sum() == 2000
    np.testing.assert_allclose(np.expm1(train.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)


def test_scibet(fidelity, cells):
    worst = []
    for scale, n_genes in (("cpm", 1000), ("log1p", 2000)):
        original = fidelity.small_table(f"scibet_{scale}")
        found = SciBet(n_genes=n_genes, input_scale=scale).fit(cells[0]).predict(cells[1])
        assert list(found.labels) == list(original.columns[1:])
        np.testing.assert_array_equal(found.label_pred, original["label"])
        worst.append(fidelity.largest_difference(found.label_proba, original.iloc[:, 1:]))
    fidelity.assert_recorded("scibet", "small", labels=1.0, scores=max(worst))


def test_scmap_cluster(fidelity, cells):
    original = fidelity.small_table("scmap_cluster")
    found = ScmapCluster().fit(cells[0]).predict(cells[1])
    labels = np.where(found.rejected, "unassigned", found.label_pred)
    assert 10 < found.rejected.sum() < 60
    np.testing.assert_array_equal(labels, original["label"])
    scores = fidelity.largest_difference(1 - found.novelty, original["similarity"])
    fidelity.assert_recorded("scmap_cluster", "small", labels=1.0, scores=scores)


def test_chetah(fidelity, cells):
    """Cells that stop at a node of the tree are rejected; the others have the original's call.

    One cell scores 0 in both branches of a fork. The original then follows the order of types in the data,
    which has no influence here.
    """
    original = fidelity.small_table("chetah")
    found = Chetah().fit(cells[0]).predict(cells[1])
    stopped = ~original["label"].isin(cells[0].obs["label"].cat.categories)
    assert 10 < stopped.sum() < 30
    calls = np.where(found.rejected, "stopped", found.label_pred)
    differ = np.flatnonzero(calls != original["label"].mask(stopped, "stopped"))
    assert differ.tolist() == [20]
    fidelity.assert_recorded("chetah", "small", labels=1 - len(differ) / len(calls))


@pytest.mark.parametrize(("kind", "method"), [("cell", CellIDCell), ("group", CellIDGroup)])
def test_cellid(fidelity, cells, kind, method):
    """Labels and scores are those of an exact decomposition; the package's own depends on its seed."""
    original = fidelity.small_table("cellid")
    found = method().fit(cells[0]).predict(cells[1])
    np.testing.assert_array_equal(found.label_pred, original[kind])
    scores = fidelity.largest_difference(-found.novelty, original[f"{kind}_score"])
    fidelity.assert_recorded(f"cellid_{kind}", "small", "exact", labels=1.0, scores=scores)
    for seed in (1, 2):
        run = fidelity.small_table(f"cellid_irlba_{seed}")[kind]
        labels = fidelity.equal_share(found.label_pred, run)
        fidelity.assert_recorded(f"cellid_{kind}", "small", "default", labels=labels)


def test_fastmnn(fidelity, cells):
    original = fidelity.small_table("fastmnn").to_numpy()
    found = FastMNN().fit_embed(fidelity.of_variable_genes(cells[0])).astype(np.float64)[::5]
    assert found.shape == original.shape == (65, 50)
    difference = fidelity.largest_difference(fidelity.without_signs(found, original), original)
    neighbours = fidelity.shared_neighbours(found, original)
    fidelity.assert_recorded("fastmnn", "small", difference=difference, neighbours=neighbours)
