"""CellTypist's majority voting: the library's clusters, and the shares of votes in them."""

import anndata
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods.celltypist.adapter import (
    CellTypist,
    CellTypistMajority,
    _expression,
    _library,
    shares_of_votes,
)


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def test_majority_voting_equals_the_library(train, query):
    import celltypist

    _library()
    # With hardly any training the labels of single cells are poor, so that the vote can improve them.
    train.obs["label"] = np.random.default_rng(0).permutation(labels(train))
    query = anndata.concat([query] * 2, index_unique="-")
    alone = CellTypist().fit(train)
    found = celltypist.annotate(_expression(query), model=alone._model, majority_voting=True)
    prediction = CellTypistMajority().fit(train).predict(query)
    voted = found.predicted_labels["majority_voting"].astype(str).to_numpy()
    np.testing.assert_array_equal(prediction.label_pred, voted)
    single = alone.predict(query)
    assert 0.1 < np.mean(voted != single.label_pred) < 0.9
    np.testing.assert_array_equal(prediction.novelty, single.novelty)


def test_votes_are_counted_per_cluster():
    clusters = np.array(["10", "2", "10", "2", "10"])
    votes = shares_of_votes(np.array(["a", "b", "b", "b", "b"]), clusters, labels=("a", "b", "c"))
    np.testing.assert_allclose(votes[[0, 2, 4]], [[1 / 3, 2 / 3, 0]] * 3)
    np.testing.assert_allclose(votes[[1, 3]], [[0, 1, 0]] * 2)


def test_a_small_query_is_named_cell_by_cell_and_few_genes_are_not_applicable(train, query):
    few = query[:50].copy()
    voted, alone = (method().fit(train).predict(few) for method in (CellTypistMajority, CellTypist))
    np.testing.assert_array_equal(voted.label_proba, alone.label_proba)
    fitted = CellTypistMajority().fit(train)
    X = query.X.toarray()
    X[:, 50:] = 0
    query.X = csr_matrix(X)
    with pytest.raises(NotApplicableError, match="50 genes are expressed in 5 or more cells"):
        fitted.predict(query)


def test_cells_of_a_mixed_cluster_are_rejected_where_asked(train, query):
    shares = CellTypistMajority().fit(train).predict(query).label_proba.max(axis=1)
    assert CellTypistMajority().fit(train).predict(query).rejected is None
    prediction = CellTypistMajority(min_share=0.99).fit(train).predict(query)
    np.testing.assert_array_equal(prediction.rejected, shares < 0.99)
