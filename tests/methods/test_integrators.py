"""Integrators give the numbers of the libraries they wrap, each in the row of its cell."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse import random as sparse_random

from cellular_bench.benchmark.conformance.data import neighbor_accuracy, one_batch
from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods import _components
from cellular_bench.methods._components import fit_pca, pca_scores, project
from cellular_bench.methods.bbknn import BBKNN
from cellular_bench.methods.combat import ComBat
from cellular_bench.methods.harmony import Harmony
from cellular_bench.methods.pca import PCA
from cellular_bench.methods.scanorama import Scanorama, ScanoramaCorrected
from cellular_bench.methods.unintegrated import Unintegrated


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def batch_gap(embedding, adata):
    """Distance between batch means within types, relative to the spread of the embedding."""
    first = np.asarray(adata.obs["batch"] == "donor1")
    gaps = [
        np.linalg.norm(
            embedding[first & (labels(adata) == name)].mean(0)
            - embedding[~first & (labels(adata) == name)].mean(0)
        )
        for name in np.unique(labels(adata))
    ]
    return np.mean(gaps) / np.linalg.norm(embedding.std(axis=0))


def test_unintegrated_is_the_matrix_itself(query):
    embedding = Unintegrated().fit_embed(query)
    np.testing.assert_array_equal(embedding, query.X.toarray())
    assert embedding.dtype == np.float32


def test_unintegrated_does_not_share_memory_with_a_dense_input(query):
    query.X = query.X.toarray()
    embedding = Unintegrated().fit_embed(query)
    assert not np.shares_memory(embedding, query.X)


def test_pca_has_the_singular_values_and_vectors_of_the_centred_matrix(query):
    X = query.X.toarray().astype(np.float64)
    left, singular, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    scores = PCA(n_components=10).fit_embed(query)
    np.testing.assert_allclose(np.linalg.norm(scores, axis=0), singular[:10], rtol=1e-5)
    np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :10] * singular[:10]), atol=1e-4)


def test_all_components_together_keep_every_distance(query):
    X = query.X.toarray()
    scores = PCA(n_components=1000).fit_embed(query)
    assert scores.shape == (120, 80)
    np.testing.assert_allclose(scores.var(axis=0).sum(), X.var(axis=0).sum(), rtol=1e-5)
    assert np.linalg.norm(scores[0] - scores[1]) == pytest.approx(np.linalg.norm(X[0] - X[1]), rel=1e-5)


def test_both_solvers_give_the_same_components():
    generator = np.random.default_rng(0)
    X = generator.poisson(0.3, size=(620, 8)) @ generator.poisson(0.3, size=(8, 530)) + 0.0
    few_genes, many_genes = X[:, :400], X
    for matrix in (few_genes, many_genes):
        left, singular, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
        sparse = csr_matrix(matrix)
        scores = project(fit_pca(sparse, n_components=5, seed=1), sparse)
        np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :5] * singular[:5]), atol=1e-3)


def test_pca_is_capped_by_the_number_of_cells_and_needs_two(query):
    assert PCA().fit_embed(query[:5].copy()).shape == (5, 4)
    with pytest.raises(NotApplicableError, match="at least 2 cells, got 1"):
        PCA().fit_embed(query[:1].copy())


def test_combat_equals_scanpy_followed_by_pca(query):
    import scanpy as sc

    corrected = query.copy()
    corrected.X = corrected.X.toarray()
    sc.pp.combat(corrected, key="batch")
    X = corrected.X - corrected.X.mean(axis=0)
    left, singular, _ = np.linalg.svd(X, full_matrices=False)
    returned = ComBat(n_components=5).fit_embed(query)
    np.testing.assert_allclose(returned.X, corrected.X, atol=1e-5)
    np.testing.assert_allclose(np.abs(returned.X_emb), np.abs(left[:, :5] * singular[:5]), atol=1e-3)


def test_combat_refuses_a_batch_of_one_cell_by_name(query):
    batch = np.asarray(query.obs["batch"]).astype(str)
    batch[3] = "lonely"
    query.obs["batch"] = pd.Categorical(batch)
    with pytest.raises(NotApplicableError, match="batch 'lonely' has one cell"):
        ComBat().fit_embed(query)


def test_harmony_equals_harmonypy_called_directly(query):
    import harmonypy

    scores = PCA(n_components=20).fit_embed(query)
    direct = harmonypy.run_harmony(scores, query.obs, ["batch"], random_state=7, verbose=False)
    embedding = Harmony(n_components=20, seed=7).fit_embed(query)
    assert embedding.shape == (120, 20)
    np.testing.assert_allclose(embedding, direct.Z_corr, atol=1e-4)


def test_harmony_copes_with_fewer_cells_than_its_rule_for_clusters_expects(query):
    embedding = Harmony().fit_embed(query[:12].copy())
    assert embedding.shape == (12, 11)
    assert np.isfinite(embedding).all()


def test_scanorama_puts_every_row_where_its_cell_stands(query):
    import scanorama

    parts = [query[query.obs["batch"] == name].copy() for name in ("donor1", "donor2")]
    with contextlib.redirect_stdout(io.StringIO()):
        scanorama.integrate_scanpy(parts, dimred=30, seed=4)
    by_name = pd.concat([pd.DataFrame(part.obsm["X_scanorama"], index=part.obs_names) for part in parts])
    assert list(by_name.index) != list(query.obs_names)
    embedding = Scanorama(n_components=30, seed=4).fit_embed(query)
    np.testing.assert_allclose(embedding, by_name.loc[query.obs_names].to_numpy(), atol=1e-5)


def test_corrected_expression_has_cells_and_genes_where_they_were(query):
    import scanorama

    parts = [query[query.obs["batch"] == name].copy() for name in ("donor1", "donor2")]
    with contextlib.redirect_stdout(io.StringIO()):
        found = scanorama.correct_scanpy(parts, dimred=30, seed=4)
    by_name = pd.concat([part.to_df() for part in found])
    assert list(by_name.columns) == sorted(query.var_names) != list(query.var_names)
    returned = ScanoramaCorrected(n_components=30, seed=4).fit_embed(query)
    expected = by_name.loc[query.obs_names, query.var_names].to_numpy()
    np.testing.assert_allclose(returned.X, expected, atol=1e-5)


def test_bbknn_links_every_cell_to_its_nearest_in_each_batch(query):
    returned = BBKNN(n_components=10).fit_embed(query)
    scores = PCA(n_components=10).fit_embed(query).astype(np.float64)
    batch = np.asarray(query.obs["batch"]).astype(str)
    far = np.linalg.norm(scores[:, None] - scores, axis=2)
    lengths = returned.distances.toarray()
    for cell in (0, 17, 119):
        for name in ("donor1", "donor2"):
            # The cell itself is among the three of its own batch, at distance 0, and so no link.
            nearest = np.argsort(np.where(batch == name, far[cell], np.inf))[:3]
            linked = np.flatnonzero((lengths[cell] > 0) & (batch == name))
            assert set(linked) == set(nearest) - {cell}
            np.testing.assert_allclose(lengths[cell, linked], far[cell, linked], rtol=1e-5)
    weights = returned.connectivities.toarray()
    np.testing.assert_allclose(weights, weights.T)
    assert (weights[lengths > 0] > 0).all()
    assert weights.max() <= 1.0


def test_bbknn_refuses_a_batch_with_fewer_cells_than_neighbours(query):
    batch = np.asarray(query.obs["batch"]).astype(str)
    batch[:2] = "small"
    query.obs["batch"] = pd.Categorical(batch)
    with pytest.raises(NotApplicableError, match=r"batch 'small' has 2 cell\(s\)"):
        BBKNN().fit_embed(query)


def test_scanorama_prints_nothing(query, capsys):
    Scanorama().fit_embed(query)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("method", [ComBat, Harmony, Scanorama])
def test_integration_brings_batches_together_and_keeps_types_apart(method, query):
    before, after = PCA().fit_embed(query), method().fit_embed(query)
    after = getattr(after, "X_emb", after)
    assert batch_gap(after, query) < 0.6 * batch_gap(before, query)
    assert neighbor_accuracy(after, labels(query)) > 0.95


@pytest.mark.parametrize("method", [BBKNN, ComBat, Harmony, Scanorama, ScanoramaCorrected])
def test_one_batch_is_not_applicable(method, query):
    with pytest.raises(NotApplicableError, match="all 120 cells that it sees come from one batch"):
        method().fit_embed(one_batch(query))


def test_a_large_sparse_matrix_is_never_dense_and_components_are_the_librarys(monkeypatch):
    from sklearn import decomposition

    X = sparse_random(700, 600, density=0.1, format="csr", random_state=0, dtype=np.float32)
    given = (X.data.copy(), X.indices.copy())
    rows = []
    monkeypatch.setattr(_components, "BLOCK_CELLS", 90)
    monkeypatch.setattr(
        _components,
        "dense",
        lambda matrix: rows.append(matrix.shape[0]) or matrix.toarray().astype(np.float32),
    )
    scores = pca_scores(X, n_components=10, seed=0)
    assert rows == [90] * 7 + [70]
    reference = decomposition.PCA(10, svd_solver="arpack", random_state=0).fit(X.astype(np.float64))
    expected = reference.transform(X.toarray().astype(np.float64))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_array_equal(X.data, given[0])
    np.testing.assert_array_equal(X.indices, given[1])
