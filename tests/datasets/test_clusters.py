"""Labels made of expression: clusters within batches, matched between them."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.datasets.clusters import cluster_labels
from cellular_bench.datasets.simulator import simulate


@pytest.fixture(scope="module")
def cells():
    """Three clear types in two batches, the second of which is shifted, and lacks the third type."""
    rng = np.random.default_rng(1)
    kind = np.concatenate([np.repeat([0, 1, 2], 130), np.repeat([0, 1], 120)])
    batch = np.repeat(["x", "y"], [390, 240])
    mean = np.ones((3, 60)) + 5 * np.kron(np.eye(3, 4), np.ones(15))
    X = rng.poisson(mean[kind]).astype(float)
    X[batch == "y", 45:] += 4
    return np.log1p(X), batch, kind, np.array([f"c{i:03}" for i in range(len(kind))])


def partition(labels):
    return {frozenset(np.flatnonzero(labels == name).tolist()) for name in np.unique(labels)}


def test_types_are_found_again_across_a_shift(cells):
    X, batch, kind, names = cells
    made = cluster_labels(X, batch, names)
    assert len(np.unique(made[batch == "x"])) == 3, "one cluster per hundred cells"
    assert partition(made) == partition(kind)
    assert np.array_equal(cluster_labels(csr_matrix(X), batch, names), made)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_cells_and_the_names_of_batches_make_no_difference(cells, seed):
    X, batch, _, names = cells
    order = np.random.default_rng(seed).permutation(len(names))
    made = cluster_labels(X, batch, names)
    renamed = np.where(batch == "x", "zebra", "ape")
    assert np.array_equal(cluster_labels(X[order], renamed[order], names[order]), made[order])


def test_small_and_single_batches():
    adata = simulate(n_obs=60, n_vars=50, n_labels=3, n_batches=2, seed=1)
    X, names = adata.X, np.asarray(adata.obs_names, dtype=str)
    X = np.log1p(np.asarray(X.todense() if hasattr(X, "todense") else X))
    batch = np.array(["x"] * 57 + ["y"] * 2 + ["z"])
    made = cluster_labels(X, batch, names)
    assert len(made) == 60
    assert len(set(made[batch == "y"])) == 1
    assert set(cluster_labels(X, np.array(["x"] * 60), names)) == {"cluster 1", "cluster 2"}
