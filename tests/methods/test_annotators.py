"""Annotators give the numbers of the libraries they wrap, and say how sure they are."""

import logging

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from scipy.special import expit

from cellular_bench.core.errors import (
    ContractError,
    DataError,
    NotApplicableError,
    UnknownNameError,
)
from cellular_bench.methods import singler as singler_adapter
from cellular_bench.methods.actinn import ACTINN
from cellular_bench.methods.cellid import CellIDCell, CellIDGroup
from cellular_bench.methods.celltypist import CellTypist
from cellular_bench.methods.chetah import Chetah
from cellular_bench.methods.gradient_boosting import GradientBoosting
from cellular_bench.methods.harmony_knn import HarmonyKNN
from cellular_bench.methods.hierarchical import Hierarchical
from cellular_bench.methods.knn import KNearestNeighbours
from cellular_bench.methods.linear_svm import LinearSVM
from cellular_bench.methods.logistic_regression import LogisticRegression
from cellular_bench.methods.naive_bayes import NaiveBayes
from cellular_bench.methods.nearest_centroid import NearestCentroid
from cellular_bench.methods.random_forest import RandomForest
from cellular_bench.methods.scibet import SciBet
from cellular_bench.methods.scmap import ScmapCell, ScmapCluster
from cellular_bench.methods.scnym import ScNym, ScNymMixMatch
from cellular_bench.methods.scpred import ScPred
from cellular_bench.methods.singler import SingleR
from cellular_bench.methods.svm_rejection import SVMRejection
from cellular_bench.methods.symphony import SymphonyKNN

ALL = [
    ACTINN,
    CellIDCell,
    CellIDGroup,
    CellTypist,
    Chetah,
    GradientBoosting,
    HarmonyKNN,
    Hierarchical,
    KNearestNeighbours,
    LinearSVM,
    LogisticRegression,
    NaiveBayes,
    NearestCentroid,
    RandomForest,
    SVMRejection,
    ScNym,
    ScNymMixMatch,
    ScPred,
    SciBet,
    ScmapCell,
    ScmapCluster,
    SingleR,
    SymphonyKNN,
]
NEED_TWO_LABELS = [method for method in ALL if method is not NearestCentroid]


def short(method):
    """Return a method with its parameters for small data and a short time."""
    return method(**method.spec.check_params)


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def small(X, label, genes=None):
    """Cells with given values, which are counts and expression alike."""
    X = csr_matrix(np.asarray(X, dtype=np.float32))
    obs = pd.DataFrame({"label": pd.Categorical(label)}, index=[f"cell{i}" for i in range(X.shape[0])])
    var = pd.DataFrame(index=genes or [f"gene{i}" for i in range(X.shape[1])])
    return AnnData(X, obs=obs, var=var, layers={"counts": X.copy()})


@pytest.mark.parametrize("method", ALL)
def test_obvious_types_are_named(method, train, query):
    del query.obs["batch"]
    prediction = short(method).fit(train).predict(query)
    assert np.mean(prediction.label_pred == labels(query)) > 0.95


@pytest.mark.parametrize("method", ALL)
def test_an_unseen_type_is_more_novel_than_a_seen_one(method, train, query):
    from sklearn.metrics import roc_auc_score

    prediction = short(method).fit(train[labels(train) != "delta"].copy()).predict(query)
    assert roc_auc_score(labels(query) == "delta", prediction.novelty) > 0.75


@pytest.mark.parametrize("method", NEED_TWO_LABELS)
def test_one_label_is_not_applicable(method, train):
    with pytest.raises(NotApplicableError, match=r"have 1 label\(s\) \(beta\); at least 2 are needed"):
        short(method).fit(train[labels(train) == "beta"].copy())


@pytest.mark.parametrize("method", ALL)
def test_genes_in_another_order_are_an_error(method, train, query):
    fitted = short(method).fit(train)
    with pytest.raises(DataError, match="same genes in the same order"):
        fitted.predict(query[:, ::-1].copy())


@pytest.mark.parametrize("method", ALL)
def test_predict_before_fit_says_so(method, query):
    with pytest.raises(ContractError, match="predict was called before fit"):
        short(method).predict(query)


def test_knn_equals_scikit_learn_on_its_own_components(train, query):
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    pca = PCA(20, svd_solver="full").fit(train.X.toarray())
    voters = KNeighborsClassifier(7).fit(pca.transform(train.X.toarray()), labels(train))
    expected = voters.predict_proba(pca.transform(query.X.toarray()))
    prediction = KNearestNeighbours(n_neighbors=7, n_components=20).fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, expected)
    np.testing.assert_allclose(prediction.novelty, 1 - expected.max(axis=1))


def test_knn_has_no_more_voters_than_cells(train, query):
    few = train[
        np.r_[np.flatnonzero(labels(train) == "beta")[:3], np.flatnonzero(labels(train) == "delta")[:2]]
    ]
    prediction = KNearestNeighbours(n_neighbors=15).fit(few.copy()).predict(query)
    np.testing.assert_allclose(prediction.label_proba, np.tile([0.6, 0.4], (120, 1)))


def test_logistic_regression_equals_scikit_learn(train, query):
    from sklearn.linear_model import LogisticRegression as Reference

    reference = Reference(max_iter=1000).fit(train.X.toarray(), labels(train))
    prediction = LogisticRegression().fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, reference.predict_proba(query.X.toarray()), atol=1e-6)
    assert prediction.labels == ("acinar", "beta", "delta")


def test_random_forest_equals_scikit_learn(train, query):
    from sklearn.ensemble import RandomForestClassifier

    reference = RandomForestClassifier(20, random_state=9).fit(train.X.toarray(), labels(train))
    prediction = RandomForest(n_estimators=20, seed=9).fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, reference.predict_proba(query.X.toarray()))


def test_svm_rejects_cells_between_two_types_and_few_others(train, query):
    fitted = SVMRejection().fit(train)
    X = query.X.toarray()
    beta, delta = X[labels(query) == "beta"].mean(axis=0), X[labels(query) == "delta"].mean(axis=0)
    shares = np.linspace(0.0, 1.0, 21)[:, None]
    between = small(shares * beta + (1 - shares) * delta, ["beta"] * 21, genes=list(query.var_names))
    rejected = fitted.predict(between).rejected
    assert rejected[8:13].any()
    assert not rejected[[0, 1, 2, 18, 19, 20]].any()
    assert fitted.predict(query).rejected.mean() < 0.05


def test_svm_rejects_exactly_below_its_threshold(train, query):
    highest = SVMRejection().fit(train).predict(query).label_proba.max(axis=1)
    threshold = float(np.median(highest))
    prediction = SVMRejection(reject_below=threshold).fit(train).predict(query)
    np.testing.assert_array_equal(prediction.rejected, highest < threshold)
    assert prediction.rejected.sum() == 60
    np.testing.assert_allclose(prediction.novelty, 1 - highest)


def test_svm_equals_scikit_learn_where_no_label_is_rare(train, query):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import LinearSVC

    machine = LinearSVC(random_state=0, dual=True, max_iter=10_000)
    reference = CalibratedClassifierCV(machine, cv=5).fit(train.X.astype(np.float64), labels(train))
    prediction = SVMRejection().fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, reference.predict_proba(query.X), atol=1e-6)


def test_svm_learns_a_label_with_one_cell(train, query):
    rare = np.flatnonzero(labels(train) == "delta")[1:]
    prediction = SVMRejection().fit(train[np.setdiff1d(np.arange(240), rare)].copy()).predict(query)
    assert prediction.labels == ("acinar", "beta", "delta")
    known = labels(query) != "delta"
    assert np.mean(prediction.label_pred[known] == labels(query)[known]) > 0.95


def test_linear_svm_equals_scikit_learn(train, query):
    from sklearn.svm import LinearSVC

    reference = LinearSVC(random_state=0, dual=True, max_iter=10_000).fit(train.X, labels(train))
    margin = reference.decision_function(query.X)
    prediction = LinearSVM().fit(train).predict(query)
    np.testing.assert_array_equal(prediction.label_pred, reference.predict(query.X))
    np.testing.assert_allclose(prediction.novelty, 1 - margin.max(axis=1), atol=1e-3)


def test_linear_svm_of_two_labels_by_hand():
    # Every cell lies on its margin: f(x) = x - 1 for one gene that is 0 or 2. The cell at 1 is on the plane.
    train = small([[0], [2]] * 50, ["a", "b"] * 50)
    prediction = LinearSVM(C=100.0).fit(train).predict(small([[0], [0.9], [1.1], [3]], ["a"] * 4))
    assert prediction.label_pred.tolist() == ["a", "a", "b", "b"]
    np.testing.assert_allclose(prediction.novelty, [0.0, 0.9, 0.9, -1.0], atol=0.02)


def test_gradient_boosting_equals_scikit_learn_on_its_own_components(train, query):
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier

    pca = PCA(10, svd_solver="full").fit(train.X.toarray())
    trees = HistGradientBoostingClassifier(
        max_iter=5,
        max_features=0.5,
        min_samples_leaf=1,
        l2_regularization=2.0,
        early_stopping=False,
        random_state=3,
    )
    trees.fit(pca.transform(train.X.toarray()), labels(train))
    expected = trees.predict_proba(pca.transform(query.X.toarray()))
    prediction = (
        GradientBoosting(n_rounds=5, split_share=0.5, penalty=2.0, n_components=10, seed=3)
        .fit(train)
        .predict(query)
    )
    assert np.mean(np.abs(prediction.label_proba - expected).max(axis=1) < 1e-3) > 0.97


def test_gradient_boosting_learns_a_label_with_one_cell(train, query):
    rare = np.flatnonzero(labels(train) == "delta")[1:]
    cells = train[np.setdiff1d(np.arange(240), rare)].copy()
    prediction = GradientBoosting().fit(cells).predict(cells)
    np.testing.assert_array_equal(prediction.label_pred, labels(cells))


def test_nearest_centroid_correlates_with_mean_profiles(train, query):
    prediction = NearestCentroid().fit(train).predict(query)
    X, names = train.X.toarray(), np.unique(labels(train))
    profiles = [X[labels(train) == name].mean(axis=0) for name in names]
    expected = [np.corrcoef(query.X[5].toarray().ravel(), profile)[0, 1] for profile in profiles]
    assert prediction.novelty[5] == pytest.approx(1 - max(expected), abs=1e-6)
    assert prediction.label_pred[5] == names[np.argmax(expected)]


def test_a_cell_without_expression_is_fully_novel_to_the_nearest_centroid():
    train = small([[3, 0, 1], [0, 2, 1]], ["a", "b"])
    prediction = NearestCentroid().fit(train).predict(small([[0, 0, 0], [6, 0, 2]], ["a", "a"]))
    np.testing.assert_allclose(prediction.novelty, [1.0, 0.0], atol=1e-6)
    assert prediction.label_pred[1] == "a"


def test_naive_bayes_by_hand():
    # Two genes, equal priors. With one count added, "a" is (3/4, 1/4) and "b" is (1/4, 3/4).
    train = small([[2, 0], [0, 2]], ["a", "b"])
    prediction = NaiveBayes().fit(train).predict(small([[1, 0], [2, 1], [1, 1]], ["a", "a", "a"]))
    np.testing.assert_allclose(prediction.label_proba, [[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    np.testing.assert_allclose(np.exp(prediction.novelty), [0.25, 0.25, 0.5])


def test_naive_bayes_still_tells_doubt_apart_where_probabilities_round_to_one():
    train = small([[2, 0], [0, 2]], ["a", "b"])
    prediction = NaiveBayes().fit(train).predict(small([[500, 0], [400, 0]], ["a", "a"]))
    np.testing.assert_array_equal(prediction.label_proba.max(axis=1), [1.0, 1.0])
    np.testing.assert_allclose(prediction.novelty, [-500 * np.log(3), -400 * np.log(3)])


def test_naive_bayes_needs_counts(train):
    del train.layers["counts"]
    with pytest.raises(NotApplicableError, match='no layer "counts"'):
        NaiveBayes().fit(train)


def test_celltypist_equals_the_library_and_is_sure_of_what_fits(train, query):
    import celltypist

    fitted = CellTypist().fit(train)
    found = celltypist.annotate(query.copy(), model=fitted._model)
    prediction = fitted.predict(query)
    np.testing.assert_array_equal(
        prediction.label_pred, found.predicted_labels["predicted_labels"].astype(str)
    )
    raw = found.probability_matrix.to_numpy()
    np.testing.assert_allclose(prediction.novelty, 1 - raw.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(prediction.label_proba, raw / raw.sum(axis=1, keepdims=True), atol=1e-6)
    assert prediction.labels == tuple(found.probability_matrix.columns)


def test_celltypist_keeps_the_strongest_genes_where_there_are_enough(train, query):
    fitted = CellTypist(top_genes=10).fit(train)
    assert 10 <= len(fitted._model.features) <= 30
    assert np.mean(fitted.predict(query).label_pred == labels(query)) > 0.95
    assert len(CellTypist().fit(train)._model.features) == 80


def test_celltypist_gives_probabilities_where_no_type_fits_at_all():
    raw = np.array([[-2000.0, -2001.0], [3.0, -3.0]])
    assert expit(raw[0]).sum() == 0.0

    class Found:
        decision_matrix = pd.DataFrame(raw, columns=["a", "b"])

    class Library:
        @staticmethod
        def annotate(adata, *, model):
            return Found

    fitted = CellTypist()
    fitted._model, fitted._genes = object(), ["gene0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cellular_bench.methods.celltypist.adapter._library", lambda: Library)
        prediction = fitted.predict(small([[1], [1]], ["a", "a"]))
    np.testing.assert_allclose(prediction.label_proba[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    np.testing.assert_allclose(prediction.novelty, [1.0, 1 - expit(3.0)])


def test_celltypist_refuses_another_normalisation(train):
    train.X = train.X * 0.5
    with pytest.raises(NotApplicableError, match="log1p of counts per 10000"):
        CellTypist().fit(train)


@pytest.mark.parametrize(
    ("has_counts", "remedy"),
    [
        (True, "Genes were removed after normalisation .* Run it on all genes"),
        (False, "Use data with counts, or with all genes and this normalisation; the stress fewer_genes"),
    ],
)
def test_celltypist_says_why_values_do_not_add_up(train, has_counts, remedy):
    fewer = train[:, : train.n_vars // 2].copy()
    if has_counts:
        fewer.layers["counts"] = fewer.X.copy()
    else:
        fewer.layers.pop("counts", None)
    with pytest.raises(NotApplicableError, match=remedy) as caught:
        CellTypist().fit(fewer)
    assert not has_counts or "Use data with counts" not in str(caught.value)


def test_celltypist_leaves_the_root_logger_alone(train):
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    CellTypist().fit(train)
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before


@pytest.mark.parametrize("marker_method", ["auc", "cohens_d", "classic"])
def test_singler_equals_the_library(train, query, marker_method):
    import singler

    found = singler.annotate_single(
        query.X.T.toarray(),
        ref_data=train.X.T.toarray(),
        ref_labels=labels(train).tolist(),
        test_features=list(query.var_names),
        ref_features=list(train.var_names),
        train_args={"marker_method": marker_method},
    )
    prediction = SingleR(marker_method=marker_method).fit(train).predict(query)
    assert prediction.label_pred.tolist() == list(found["best"])
    scores = np.column_stack([found["scores"][name] for name in ("acinar", "beta", "delta")])
    np.testing.assert_allclose(
        prediction.novelty, 1 - scores.max(axis=1) + np.median(scores, axis=1), atol=1e-6
    )


def sparse_types(n_cells, seed):
    """Two types of which each has 20 genes that its cells hold more often, but most do not hold."""
    rng = np.random.default_rng(seed)
    label = np.repeat(["a", "b"], n_cells // 2)
    often = np.zeros((2, 60))
    often[0, :20] = often[1, 20:40] = 0.35
    chance = 0.05 + np.repeat(often, n_cells // 2, axis=0)
    held = rng.random(chance.shape) < chance
    # One gene that every cell holds, so that no cell is empty; it carries no information.
    held[:, -1] = True
    return small(np.log1p(held * rng.uniform(1, 3, size=held.shape)), label)


def test_singler_finds_the_markers_of_sparse_cells():
    from sklearn.metrics import roc_auc_score

    train, query = sparse_types(200, seed=0), sparse_types(100, seed=1)
    assert np.median(train.X.toarray(), axis=0)[:-1].max() == 0
    fitted = SingleR(marker_method="auc").fit(train)
    markers = fitted._reference.markers
    above = {"a": {f"gene{i}" for i in range(20)}, "b": {f"gene{i}" for i in range(20, 40)}}
    for one, other in (("a", "b"), ("b", "a")):
        found = list(markers[one][other])
        assert len(found) == 10 and set(found) <= above[one]
        # The ten that best rank the cells of one label above those of the other.
        rows = labels(train) == one
        area = {gene: roc_auc_score(rows, train[:, gene].X.toarray().ravel()) for gene in train.var_names}
        assert found == sorted(area, key=area.__getitem__, reverse=True)[:10]
    named = fitted.predict(query).label_pred == labels(query)
    by_medians = SingleR(marker_method="classic").fit(train).predict(query).label_pred == labels(query)
    assert named.mean() > 0.95 > 0.8 > by_medians.mean()


def test_singler_refuses_unknown_markers():
    with pytest.raises(UnknownNameError, match=r"Unknown marker method 'aux'\. Did you mean 'auc'\?"):
        SingleR(marker_method="aux")


def test_singler_rejects_outliers_of_each_label():
    # Label "a": median 0.48, median deviation 0.04, so the limit is 0.48 - 1.4826 x 0.04 = 0.4207.
    # Label "b": every cell alike, so none stands out.
    confidence = np.array([0.43, 0.48, 0.50, 0.52, 0.40, 0.52, 0.42, 0.1, 0.1])
    label = np.array(["a"] * 7 + ["b"] * 2)
    rejected = singler_adapter._outliers(confidence, label, n_mads=1.0)
    np.testing.assert_array_equal(np.flatnonzero(rejected), [4, 6])
    assert not singler_adapter._outliers(confidence, label, n_mads=2.0).any()
