"""CellID's steps against their definitions: correspondence analysis, signatures, tests of overlap."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import DataError, NotApplicableError
from cellular_bench.methods.cellid.adapter import (
    CellIDCell,
    CellIDGroup,
    best_match,
    overlap_p,
    tail_table,
)
from cellular_bench.methods.cellid.correspondence import correspondence, nearest_genes

SMALL = {"n_genes": 20, "n_components": 10}


def expression(*, n_obs=40, n_vars=30, seed=0):
    """Sparse expression; gene 0 is above 0 in every cell, gene 1 is constant, gene 2 is in two cells."""
    X = np.random.default_rng(seed).poisson(1.0, size=(n_obs, n_vars)).astype(float)
    X[:, 0] += 1.5
    X[:, 1] = 2.0
    X[:, 2] = 0.0
    X[3:5, 2] = 1.0
    return X


def by_definition(X, *, n_components):
    """Cells and genes from the decomposition of the whole table, genes twice over."""
    n_obs, n_vars = X.shape
    M = ((X - X.min(axis=0)) / (X.max(axis=0) - X.min(axis=0))).T
    F = np.vstack([M, 1 - M])
    Z = F / np.sqrt(F.sum(axis=1, keepdims=True)) / np.sqrt(n_vars)
    _, value, V = np.linalg.svd(Z, full_matrices=False)
    assert value[0] == pytest.approx(1.0)
    V = V[1 : n_components + 1].T
    genes = np.sqrt(n_obs * n_vars / M.sum(axis=1))[:, None] * (Z[:n_vars] @ V)
    return np.sqrt(n_obs) * V, genes


def space(X, **changes):
    return correspondence(
        X, **{"n_components": 5, "min_cells": 1, "seed": 0, "method_id": "cellid_cell", **changes}
    )


@pytest.mark.parametrize(("n_obs", "n_vars"), [(40, 30), (520, 510)], ids=["full solver", "iterative solver"])
def test_correspondence_equals_its_definition(n_obs, n_vars):
    X = expression(n_obs=n_obs, n_vars=n_vars)
    if n_obs > 500:  # two groups, so that the leading components are well apart
        X[: n_obs // 3, 10:40] *= 6
        X[n_obs // 2 :, 60:120] *= 4
    kept = np.flatnonzero(np.ptp(X, axis=0) > 0)
    n_components = 5 if n_obs < 500 else 2
    cells, genes = by_definition(X[:, kept], n_components=n_components)
    found = space(csr_matrix(X), n_components=n_components)
    np.testing.assert_array_equal(found.kept, kept)
    sign = np.sign((cells * found.cells).sum(axis=0))
    np.testing.assert_allclose(found.cells * sign, cells, atol=1e-11 if n_obs < 500 else 1e-9)
    np.testing.assert_allclose(found.genes * sign, genes, atol=1e-11 if n_obs < 500 else 1e-8)


def test_a_gene_is_the_mean_of_its_cells_by_weight():
    X = expression()
    found = space(csr_matrix(X))
    # Gene 2 is expressed alike in cells 3 and 4 alone: it lies half way between them.
    position = found.kept.tolist().index(2)
    np.testing.assert_allclose(found.genes[position], found.cells[3:5].mean(axis=0), atol=1e-12)
    # Gene 0 has a smallest value above 0, which counts as nothing.
    weight = X[:, 0] - X[:, 0].min()
    np.testing.assert_allclose(found.genes[0], weight @ found.cells / weight.sum(), atol=1e-12)


def test_dense_and_sparse_give_the_same_space_and_rare_genes_can_be_left_out():
    X = expression()
    np.testing.assert_allclose(space(X).genes, space(csr_matrix(X)).genes)
    assert 2 in space(X, min_cells=2).kept
    assert 2 not in space(X, min_cells=3).kept


def test_negative_values_are_refused():
    with pytest.raises(DataError, match="lowest value is -1"):
        space(expression() - 1.0)


def test_nearest_genes_across_chunks():
    generator = np.random.default_rng(0)
    points, genes = generator.normal(size=(1203, 4)), generator.normal(size=(50, 4))
    found = nearest_genes(points, genes, n_genes=7).toarray()
    distance = np.linalg.norm(points[:, None] - genes[None], axis=2)
    expected = np.zeros_like(found)
    np.put_along_axis(expected, np.argsort(distance, axis=1)[:, :7], 1.0, axis=1)
    np.testing.assert_array_equal(found, expected)


def test_overlap_by_hand():
    # Ten genes, three of them the cell's. A signature of four genes that holds two of them:
    # P(>= 2) = (6 x 6 + 4) / 120.
    own = csr_matrix([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
    signatures = csr_matrix(
        [[1, 1, 0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
        dtype=np.float32,
    )
    (p,) = overlap_p(own, signatures)
    np.testing.assert_allclose(p, [[40 / 120, 1 / 120, 1.0]])


def test_tails_by_counting_and_never_zero():
    table = tail_table(n_universe=20_000, n_drawn=200, largest=200)
    assert table.shape == (201, 201)
    assert table[200, 200] == 1e-320
    np.testing.assert_allclose(table[:, 0], 1.0)
    # One gene in the signature: it is drawn with chance 200 / 20,000.
    assert table[1, 1] == pytest.approx(0.01)


def test_best_match_takes_the_first_of_those_that_adjustment_makes_equal():
    # Ranks 1, 2 and 3 of 4 lift .02, .021 and .022 to .08, .042 and .0293: all three become .0293.
    p = np.array([[0.5, 0.022, 0.02, 0.021]])
    position, adjusted = best_match(p)
    assert position.tolist() == [1]
    assert adjusted[0] == pytest.approx(0.022 * 4 / 3)
    # Nothing better than chance: the first signature, at 1.
    position, adjusted = best_match(np.array([[1.0, 0.9, 1.0]]))
    assert (position.tolist(), adjusted.tolist()) == ([0], [1.0])


def test_best_match_equals_the_adjustment_of_all():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).choice(tail_table(n_universe=900, n_drawn=50, largest=40)[40, 1:], (300, 25))
    position, adjusted = best_match(p)
    every = false_discovery_control(p, axis=1)
    np.testing.assert_allclose(adjusted, every.min(axis=1))
    first = np.isclose(every, every.min(axis=1, keepdims=True), rtol=1e-12, atol=0).argmax(axis=1)
    np.testing.assert_array_equal(position, first)


def as_adata(X, label):
    obs = pd.DataFrame({"label": pd.Categorical(label)}, index=[f"cell{i}" for i in range(len(label))])
    return AnnData(csr_matrix(X), obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(X.shape[1])]))


def test_signatures_are_of_cells_and_of_centroids(train):
    cell = CellIDCell(**SMALL).fit(train)
    group = CellIDGroup(**SMALL).fit(train)
    assert cell._signatures.shape == (240, 80)
    assert group._labels.tolist() == ["acinar", "beta", "delta"]
    here = space(train.X, n_components=10, min_cells=5)
    centroid = here.cells[train.obs["label"].to_numpy() == "beta"].mean(axis=0)
    nearest = here.kept[np.argsort(np.linalg.norm(here.genes - centroid, axis=1))[:20]]
    np.testing.assert_array_equal(group._signatures[1].indices, np.sort(nearest))


def test_cells_at_chance_are_rejected_and_the_study_rejects_none(train, query):
    noise = train.copy()
    rng = np.random.default_rng(0)
    noise.X = csr_matrix(rng.permuted(train.X.toarray(), axis=0))
    prediction = CellIDGroup(**SMALL).fit(train).predict(noise)
    np.testing.assert_array_equal(prediction.rejected, prediction.novelty >= -2)
    assert prediction.rejected.mean() > 0.5
    assert CellIDGroup(**SMALL).fit(train).predict(query).rejected.mean() < 0.2
    assert CellIDGroup(preset="paper", **SMALL).fit(train).predict(noise).rejected is None


@pytest.mark.parametrize("method", [CellIDCell, CellIDGroup])
def test_a_query_of_few_cells_is_not_applicable(method, train, query):
    with pytest.raises(NotApplicableError, match="more than 51 cells at a time, got 51"):
        method(n_genes=20).fit(train).predict(query[:51].copy())
    assert method(n_genes=20).fit(train).predict(query[:52].copy()).label_pred.shape == (52,)


def test_too_few_genes_are_not_applicable(train):
    with pytest.raises(NotApplicableError, match="80 genes vary; more than the 200"):
        CellIDCell(n_components=10).fit(train)
    with pytest.raises(NotApplicableError, match=r"80 genes vary .* more than 100 are needed"):
        CellIDCell(n_components=100).fit(train)


def test_a_query_without_the_genes_of_the_reference_is_not_applicable():
    generator = np.random.default_rng(0)
    X = generator.poisson(2.0, size=(60, 60)).astype(float)
    first, second = X.copy(), X.copy()
    first[:, 30:] = 0
    second[:, :30] = 0
    label = ["a", "b"] * 30
    fitted = CellIDCell(**SMALL).fit(as_adata(first, label))
    with pytest.raises(NotApplicableError, match="no signature of the reference has 10 genes or more"):
        fitted.predict(as_adata(second, label))
