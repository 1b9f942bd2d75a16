"""scPred's parts by hand: components of a label, the kernel's width, probabilities, rejection."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import chi2, norm

from cellular_bench.methods._components import ScaledComponents
from cellular_bench.methods._harmony_v1 import harmonise
from cellular_bench.methods.scpred import ScPred, UnalignedScPred, kernel_width, separating


def test_components_of_a_label_by_hand():
    # Eight cells, four of the label. First component: all four above the others, U = 16, mean 8, variance
    # 4 * 4 * 9 / 12 = 12, with continuity correction z = 7.5 / sqrt(12), p = 0.0304; the area under the ROC
    # curve is 1. Second: ranks 1, 4, 5, 8, U = 8, area 1/2, p = 1.
    is_label = np.array([True] * 4 + [False] * 4)
    scores = np.array([[5, 6, 7, 8, 1, 2, 3, 4], [1, 4, 5, 8, 2, 3, 6, 7]], dtype=float).T
    p = 2 * norm.sf(7.5 / np.sqrt(12))
    assert p == pytest.approx(0.0304, abs=1e-4)
    # Benjamini and Hochberg: 2 p for the lower of two.
    np.testing.assert_array_equal(separating(scores, is_label, significance=2 * p * 1.001), [0])
    np.testing.assert_array_equal(separating(scores, is_label, significance=1.0), [0, 1])
    # None is significant: the best alone.
    np.testing.assert_array_equal(separating(scores, is_label, significance=2 * p * 0.999), [0])
    np.testing.assert_array_equal(separating(scores[:, ::-1], is_label, significance=1e-9), [1])


def test_the_kernel_width_is_the_mean_of_two_inverse_quantiles():
    # Cells on a line, half at 0 and half at 1: standardised they are 2 apart, all distances that are
    # not zero are 4.
    X = np.repeat([[0.0], [1.0]], 50, axis=0)
    assert kernel_width(X, seed=0) == pytest.approx(0.25)
    assert kernel_width(np.ones((10, 4)), seed=0) == 0.25
    normal = np.random.default_rng(0).normal(size=(20_000, 3))
    low, high = 2 * chi2(3).ppf([0.1, 0.9])
    assert kernel_width(normal, seed=1) == pytest.approx((1 / low + 1 / high) / 2, rel=0.05)


def test_probabilities_are_those_of_the_machines_over_their_sum(train, query):
    fitted = ScPred(n_folds=2).fit(train)
    scores = fitted._scores(query)
    raw = np.column_stack([m.predict_proba(scores[:, chosen])[:, 1] for chosen, m in fitted._machines])
    prediction = fitted.predict(query)
    np.testing.assert_allclose(prediction.novelty, 1 - raw.max(axis=1))
    np.testing.assert_allclose(prediction.label_proba, raw / raw.sum(axis=1, keepdims=True))


def test_rejected_is_what_is_not_above_the_threshold(train, query):
    highest = 1 - ScPred(n_folds=2).fit(train).predict(query).novelty
    threshold = float(np.sort(highest)[40])
    rejected = ScPred(n_folds=2, reject_below=threshold).fit(train).predict(query).rejected
    np.testing.assert_array_equal(rejected, highest <= threshold)
    assert rejected.sum() == 41


def test_components_are_those_of_scaled_genes(train):
    X = train.X.toarray().astype(np.float64)
    Z = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    left, singular, _ = np.linalg.svd(Z, full_matrices=False)
    scores = ScaledComponents(train.X, n_components=5, seed=0).scores(train.X)
    np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :5] * singular[:5]), atol=1e-3)


def columns(table, name):
    """Return the columns ``name.1``, ``name.2`` and so on of a table of the original."""
    return table.filter(regex=rf"^{name}\.").to_numpy()


def test_the_query_is_aligned_as_in_the_original(fidelity):
    """Initial clusters are random in both. The distance is relative to the spread of the cells."""
    reference, query = (fidelity.small_table(f"scpred_{part}") for part in ("reference", "query"))
    fixed, scores, wanted = columns(reference, "pc"), columns(query, "pc"), columns(query, "aligned")
    is_query = np.arange(len(fixed) + len(scores)) >= len(fixed)
    aligned, shares = harmonise(
        np.concatenate([fixed, scores]), is_query.astype(str), fixed=~is_query, max_iter=20, seed=0
    )
    np.testing.assert_array_equal(aligned[~is_query], fixed)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    spread = np.linalg.norm(wanted - wanted.mean(axis=0))
    assert np.linalg.norm(scores - wanted) > 0.13 * spread
    assert np.linalg.norm(aligned[is_query] - wanted) < 0.08 * spread


def test_components_are_those_of_the_original(fidelity):
    reference, query = (fidelity.small_table(f"scpred_{part}") for part in ("reference", "query"))
    train, cells = (fidelity.of_variable_genes(cells) for cells in fidelity.small_split())
    components = ScaledComponents(train.X, n_components=10, seed=0, clip=10.0)
    for found, table in (
        (components.scores(train.X), reference),
        (components.scores(cells.X, clipped=False), query),
    ):
        np.testing.assert_allclose(np.abs(found), np.abs(columns(table, "pc")), atol=1e-3)


@pytest.mark.slow
def test_labels_agree_with_the_original(fidelity):
    train, cells = (fidelity.of_variable_genes(cells) for cells in fidelity.small_split())
    prediction = ScPred(n_components=10).fit(train).predict(cells)
    original = fidelity.small_table("scpred_query")
    assert fidelity.equal_share(prediction.label_pred, original["label"]) >= 0.96


def test_alignment_does_not_depend_on_the_order_of_cells(query):
    scores = ScaledComponents(query.X, n_components=5, seed=0).scores(query.X)
    fixed = np.arange(len(scores)) < 60
    order = np.random.default_rng(1).permutation(len(scores))
    plain, other = (
        harmonise(scores[rows], fixed[rows].astype(str), fixed=fixed[rows], max_iter=5, seed=0)[0]
        for rows in (np.arange(len(scores)), order)
    )
    np.testing.assert_array_equal(plain[order], other)


def test_only_without_alignment_a_cell_is_predicted_alone(train, query):
    some = query[:30].copy()
    for method, is_alone in ((UnalignedScPred, True), (ScPred, False)):
        fitted = method(n_folds=2).fit(train)
        together, apart = (fitted.predict(cells).label_proba for cells in (query, some))
        assert np.allclose(together[:30], apart, atol=1e-6) == is_alone
        assert method.spec.inductive == is_alone


def test_genes_that_do_not_vary_are_no_trouble(train, query):
    for adata in (train, query):
        X = adata.X.toarray()
        X[:, 3] = 0.0
        adata.X = csr_matrix(X)
    prediction = ScPred(n_folds=2).fit(train).predict(query)
    assert np.isfinite(prediction.label_proba).all()
