"""The ensemble counts votes of methods that see what they would see alone."""

import numpy as np
import pytest

from cellular_bench.core.errors import NotApplicableError, UserError
from cellular_bench.methods import ensemble
from cellular_bench.methods.ensemble import Ensemble, member_classes, vote
from cellular_bench.methods.knn import KNearestNeighbours
from cellular_bench.methods.naive_bayes import NaiveBayes
from cellular_bench.methods.nearest_centroid import NearestCentroid
from cellular_bench.methods.scibet import SciBet


def test_votes_by_hand():
    given = np.array([["b", "b", "a", "b"], ["c", "a", "a", "c"], ["c", "b", "a", "a"], ["c", "b", "a", "d"]])
    prediction = vote(given, np.array(["a", "b", "c", "d"]), reject_below=0.5)
    # Second cell: two votes each, and "c" is the first member's. Fourth: one vote each, again "c".
    assert prediction.label_pred.tolist() == ["b", "c", "a", "c"]
    expected = [[1, 3, 0, 0], [2, 0, 2, 0], [2, 1, 1, 0], [1, 1, 1, 1]]
    np.testing.assert_allclose(prediction.label_proba, np.array(expected) / 4)
    np.testing.assert_allclose(prediction.novelty, [0.25, 0.5, 0.5, 0.75])
    np.testing.assert_array_equal(prediction.rejected, [False, False, False, True])
    assert vote(given, np.array(["a", "b", "c", "d"])).rejected is None


def test_it_is_the_vote_of_its_members(train, query):
    members = [method(seed=3).fit(train) for method in (KNearestNeighbours, NaiveBayes, NearestCentroid)]
    given = np.column_stack([member.predict(query).label_pred for member in members])
    alike = (given[:, :1] == given).mean(axis=1)
    prediction = (
        Ensemble(methods=["knn", "naive_bayes", "nearest_centroid"], seed=3).fit(train).predict(query)
    )
    agreed = alike == 1.0
    assert agreed.any()
    np.testing.assert_array_equal(prediction.label_pred[agreed], given[agreed, 0])
    np.testing.assert_array_equal(prediction.novelty[agreed], 0.0)


def test_a_single_member_is_that_member(train, query):
    alone = KNearestNeighbours().fit(train).predict(query)
    prediction = Ensemble(methods=["knn"]).fit(train).predict(query)
    np.testing.assert_array_equal(prediction.label_pred, alone.label_pred)
    np.testing.assert_array_equal(prediction.novelty, 0.0)


def test_members_see_the_genes_that_they_ask_for(train, query, monkeypatch):
    seen = {}
    for method in (KNearestNeighbours, SciBet):
        fit = method.fit

        def watched(self, adata, fit=fit):
            seen[self.spec.method_id] = list(adata.var_names)
            return fit(self, adata)

        monkeypatch.setattr(method, "fit", watched)
    train.var["highly_variable"] = np.arange(train.n_vars) % 2 == 0
    prediction = Ensemble(methods=["knn", "scibet"]).fit(train).predict(query)
    assert seen == {"knn": list(train.var_names[::2]), "scibet": list(train.var_names)}
    expected = KNearestNeighbours().fit(train[:, ::2].copy()).predict(query[:, ::2].copy()).label_pred
    np.testing.assert_array_equal(prediction.label_pred, expected)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["knnn"], "Unknown member of the ensemble 'knnn'. Did you mean 'knn'?"),
        (["ensemble"], "Unknown member of the ensemble 'ensemble'"),
        (["pca"], "Unknown member of the ensemble 'pca'"),
        (["true_labels"], "Unknown member of the ensemble 'true_labels'"),
        ([], "expected one or more different methods"),
        ("knn", "methods is 'knn'; expected"),
        (["knn", "knn"], "expected one or more different methods"),
    ],
)
def test_members_that_cannot_vote_are_refused(methods, message):
    with pytest.raises(UserError) as caught:
        Ensemble(methods=methods)
    assert message in str(caught.value)


def test_a_member_without_its_library_is_not_applicable(monkeypatch):
    monkeypatch.setattr(ensemble.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotApplicableError, match="member 'knn' needs sklearn, which is not installed"):
        member_classes(["knn"])


def test_a_member_that_is_not_applicable_is_not_left_out(train):
    del train.layers["counts"]
    with pytest.raises(NotApplicableError, match="naive_bayes: reads raw counts"):
        Ensemble(methods=["knn", "naive_bayes"]).fit(train)
