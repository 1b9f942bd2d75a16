"""Markers by pairwise tests: statistics beside scipy's, and the lists and labels of SingleR in R."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import mannwhitneyu, ttest_ind

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods import _markers
from cellular_bench.methods._markers import rank_sum_tests, welch_tests
from cellular_bench.methods.singler import SingleR


@pytest.fixture
def counts():
    """Cells of three labels with many equal values, one gene nobody has, and one that all have alike."""
    rng = np.random.default_rng(7)
    code = rng.permutation(np.repeat([0, 1, 2], [11, 23, 6]))
    X = rng.poisson(0.4 + rng.random((3, 40))[code]).astype(float)
    X[:, 3], X[:, 4] = 0.0, 2.0
    return X, code


def test_rank_sums_are_those_of_scipy_whatever_is_in_memory_at_once(counts, monkeypatch):
    X, code = counts
    for chunk in (_markers._CHUNK, 100):
        monkeypatch.setattr(_markers, "_CHUNK", chunk)
        test = rank_sum_tests(csr_matrix(X), code)
        for a, b in ((1, 0), (2, 1), (0, 2)):
            found = np.exp(test(a, b))
            for log_p, which in zip(found, ("greater", "less"), strict=True):
                expected = mannwhitneyu(
                    X[code == a], X[code == b], alternative=which, method="asymptotic"
                ).pvalue
                varies = X[(code == a) | (code == b)].std(axis=0) > 0
                np.testing.assert_allclose(log_p[varies], expected[varies], rtol=1e-9)
            np.testing.assert_array_equal(found[:, [3, 4]], 1.0)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # scipy, where nothing varies
def test_t_tests_are_those_of_scipy(counts):
    X, code = counts
    test = welch_tests(csr_matrix(X), code)
    varies = np.array([X[code == c].var(axis=0) > 0 for c in range(3)]).all(axis=0)
    for log_p, which in zip(test(1, 0), ("greater", "less"), strict=True):
        expected = ttest_ind(X[code == 1], X[code == 0], equal_var=False, alternative=which).pvalue[varies]
        np.testing.assert_allclose(np.exp(log_p)[varies], expected, rtol=1e-9)


@pytest.mark.parametrize("tests", [rank_sum_tests, welch_tests])
def test_a_label_of_one_cell_is_not_compared_with_another(tests):
    X = np.array([[0.0, 5.0], [5.0, 0.0]])
    assert np.isnan(tests(csr_matrix(X), np.array([0, 1]))(0, 1)).all()


def test_significant_genes_in_the_order_of_their_p_values():
    # Adjusted by Benjamini and Hochberg: 5 p-values times 5 / rank are .005, .0125, .0667, .05, .9.
    # From the largest down, the least so far: .005, .0125, .05, .05, .9.
    log_p = np.log([0.04, 0.001, 0.9, 0.005, 0.04])
    np.testing.assert_array_equal(_markers._lowest(log_p, 10, 0.0501), [1, 3, 0, 4])
    np.testing.assert_array_equal(_markers._lowest(log_p, 3, 0.0501), [1, 3, 0])
    np.testing.assert_array_equal(_markers._lowest(log_p, 10, 0.0499), [1, 3])
    # Below the smallest number p-values are equal, and the order of the genes decides.
    np.testing.assert_array_equal(_markers._lowest(np.array([-900.0, -1000.0, -1.0]), 2, 0.05), [0, 1])


@pytest.mark.parametrize("marker_method", ["wilcox", "t"])
def test_lists_and_labels_are_those_of_r(fidelity, marker_method):
    train, query = fidelity.small_split()
    fitted = SingleR(marker_method=marker_method).fit(train)
    table = fidelity.small_table(f"singler_{marker_method}_markers")
    lists = {pair: list(rows) for pair, rows in table.groupby(["label", "other"])["gene"]}
    for one, others in fitted._reference.markers.items():
        for other, genes in others.items():
            assert list(genes) == lists.pop((one, other), []), (one, other)
    assert not lists
    original = fidelity.small_table(f"singler_{marker_method}")
    prediction = fitted.predict(query)
    assert original["cell"].tolist() == list(query.obs_names)
    assert prediction.label_pred.tolist() == original["label"].tolist()
    np.testing.assert_allclose(1 - prediction.novelty, original["confidence"], atol=1e-8)
    assert prediction.rejected.tolist() == original["rejected"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("data", ["baron", "pbmc"])
def test_lists_and_labels_of_whole_data_are_those_of_r(fidelity, shared, data):
    train, query = fidelity.golden_split(data, shared)
    fitted = SingleR().fit(train)
    table = fidelity.golden_table(f"singler_wilcox_markers_{data}", shared)
    lists = {pair: list(rows) for pair, rows in table.groupby(["a", "b"])["g"]}
    for one, others in fitted._reference.markers.items():
        for other, genes in others.items():
            assert list(genes) == lists.pop((one, other), []), (one, other)
    assert not lists
    original = fidelity.golden_table(f"{data}.singler_wilcox", shared)
    assert fitted.predict(query).label_pred.tolist() == original["pred"].tolist()


def test_where_nothing_differs_it_is_not_applicable(train):
    few = train[np.r_[0:6]].copy()
    few.obs["label"] = np.array(["a", "b"] * 3)
    few.obs["label"] = few.obs["label"].astype("category")
    with pytest.raises(NotApplicableError, match='marker_method="auc"'):
        SingleR().fit(few)
