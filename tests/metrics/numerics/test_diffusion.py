"""The eigenvectors behind kBET per label: equal to those of a full decomposition, however they are found."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, diags, random_array

from cellular_bench.metrics import kbet_per_label, nearest_neighbors
from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.numerics import diffusion
from cellular_bench.metrics.numerics.diffusion import leading_eigenpairs, magnitude_exceeded_by


def _transitions(n_obs, seed=0):
    """A symmetric matrix with eigenvalues up to 1, as of a diffusion map, of random cells."""
    X = np.random.default_rng(seed).normal(size=(n_obs, 4))
    graph = connectivities(nearest_neighbors(X), 50).astype(np.float64)
    root = diags(1 / np.sqrt(np.asarray(graph.sum(axis=0)).ravel()))
    return (root @ graph @ root).tocsr()


def _largest(matrix, k):
    values = np.linalg.eigvalsh(matrix.toarray())
    return values[np.argsort(-np.abs(values))[:k]]


def test_pairs_are_those_of_largest_magnitude():
    matrix = _transitions(800)
    values, vectors = leading_eigenpairs(matrix, 60)
    assert np.sort(values) == pytest.approx(np.sort(_largest(matrix, 60)), abs=1e-9)
    assert np.abs(matrix @ vectors - vectors * values).max() < 1e-4
    assert np.abs(vectors.T @ vectors - np.eye(60)).max() < 1e-4


def test_negative_eigenvalues_are_among_them():
    """Two kinds of cells with edges between kinds only: every eigenvalue comes with both signs."""
    half = random_array((400, 400), density=0.2, rng=np.random.default_rng(0))
    matrix = csr_matrix(
        np.block([[np.zeros((400, 400)), half.toarray()], [half.toarray().T, np.zeros((400, 400))]])
    )
    matrix /= np.abs(_largest(matrix, 1)[0])
    values, _ = leading_eigenpairs(matrix, 40)
    assert np.sort(values) == pytest.approx(np.sort(_largest(matrix, 40)), abs=1e-9)
    assert values.min() == pytest.approx(-1)


def test_the_bound_lies_below_the_wanted_eigenvalues():
    matrix = _transitions(1500)
    start = np.random.default_rng(0).standard_normal(1500).astype(np.float32)
    bound = magnitude_exceeded_by(matrix.astype(np.float32), start, 150)
    exceed = np.count_nonzero(np.abs(np.linalg.eigvalsh(matrix.toarray())) > bound)
    assert 100 < exceed < 250


def test_a_bound_that_is_too_high_is_noticed(monkeypatch):
    matrix = _transitions(800)
    values, _ = leading_eigenpairs(matrix, 60)
    high = float(np.sort(np.abs(values))[30])
    monkeypatch.setattr(diffusion, "magnitude_exceeded_by", lambda *arguments: high)
    again, _ = leading_eigenpairs(matrix, 60)
    assert np.sort(again) == pytest.approx(np.sort(values), abs=1e-9)


def test_a_start_in_few_directions_has_no_bound():
    assert (
        magnitude_exceeded_by(csr_matrix(np.eye(700, dtype=np.float32)), np.ones(700, np.float32), 100) == 0.0
    )


def test_many_cells_are_tested_as_few(monkeypatch):
    rng = np.random.default_rng(0)
    batch = rng.choice(["x", "y"], 700)
    X = rng.normal(size=(700, 6)) + (batch == "y")[:, None]
    near = nearest_neighbors(X)
    values = []
    for n_cells in (1000, 0):
        monkeypatch.setattr(diffusion, "DENSE_CELLS", n_cells)
        values.append(kbet_per_label(near, ["a"] * 700, batch))
    # In one go and iterated: a single cell may be on the border.
    assert 0 < values[0] < 1
    assert values[1] == pytest.approx(values[0], abs=1.5 / 700)
