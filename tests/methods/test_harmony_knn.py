"""kNN on Harmony: a vote in the joint embedding."""

import numpy as np

from cellular_bench.benchmark.conformance.data import one_batch
from cellular_bench.methods.harmony import Harmony
from cellular_bench.methods.harmony_knn import HarmonyKNN
from cellular_bench.methods.knn import KNearestNeighbours


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def test_it_is_the_vote_in_the_harmony_embedding_of_all_cells(train, query):
    import anndata
    from sklearn.neighbors import KNeighborsClassifier

    embedding = Harmony(n_components=20, seed=4).fit_embed(anndata.concat([train, query]))
    voters = KNeighborsClassifier(7).fit(embedding[:240], labels(train))
    prediction = HarmonyKNN(n_neighbors=7, n_components=20, seed=4).fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, voters.predict_proba(embedding[240:]))


def test_a_batch_of_the_query_alone_is_named_where_plain_neighbours_fail(train, query):
    """A new batch whose second half of genes is hardly seen: kNN sees another place, Harmony mixes."""
    changed = query.copy()
    X = changed.X.toarray()
    X += 1.5 * np.random.default_rng(0).random(X.shape[1])
    from scipy.sparse import csr_matrix

    changed.X = csr_matrix(X)
    changed.obs["batch"] = changed.obs["batch"].cat.rename_categories(lambda name: f"new {name}")
    joint = HarmonyKNN().fit(train).predict(changed)
    plain = KNearestNeighbours().fit(train).predict(changed)
    assert np.mean(joint.label_pred == labels(query)) > 0.95
    assert joint.label_proba.max(axis=1).mean() > plain.label_proba.max(axis=1).mean() - 0.01


def test_with_one_batch_in_all_it_is_the_vote_in_joint_components(train, query):
    prediction = HarmonyKNN().fit(one_batch(train)).predict(one_batch(query))
    assert np.mean(prediction.label_pred == labels(query)) > 0.95
