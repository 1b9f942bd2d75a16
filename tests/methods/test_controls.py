"""Controls score at the ends of the scale that they declare."""

import numpy as np
import pytest

from cellular_bench.benchmark.conformance.data import neighbor_accuracy, pairwise_distances
from cellular_bench.methods.controls import (
    MajorityLabel,
    PerfectLabels,
    RandomLabel,
    Shuffled,
    ShuffledWithinBatch,
    TrueLabels,
)
from cellular_bench.methods.pca import PCA


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def rows(embedding):
    return sorted(map(tuple, np.asarray(embedding).tolist()))


def test_shuffled_has_the_rows_of_pca_in_other_places(query):
    scores, shuffled = PCA().fit_embed(query), Shuffled(seed=3).fit_embed(query)
    assert rows(shuffled) == rows(scores)
    assert np.mean((shuffled == scores).all(axis=1)) < 0.05
    assert neighbor_accuracy(scores, labels(query)) == 1.0
    assert neighbor_accuracy(shuffled, labels(query)) < 0.5


def test_shuffled_depends_on_the_seed(query):
    first, again, other = (Shuffled(seed=seed).fit_embed(query) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shuffled_within_batch_keeps_every_row_in_its_batch(query):
    scores, shuffled = PCA().fit_embed(query), ShuffledWithinBatch().fit_embed(query)
    batch = np.asarray(query.obs["batch"])
    for name in np.unique(batch):
        assert rows(shuffled[batch == name]) == rows(scores[batch == name])
    assert neighbor_accuracy(shuffled, labels(query)) < 0.5


def test_perfect_labels_without_jitter_are_indicators(query):
    embedding = PerfectLabels(jitter=0.0).fit_embed(query)
    names = np.unique(labels(query))
    np.testing.assert_array_equal(names[embedding.argmax(axis=1)], labels(query))
    np.testing.assert_array_equal(np.unique(embedding), [0.0, 1.0])


def test_perfect_labels_keep_types_apart_and_cells_distinct(query):
    embedding = PerfectLabels(seed=1).fit_embed(query)
    distances = pairwise_distances(embedding)
    same = labels(query)[:, None] == labels(query)[None, :]
    assert distances[~same].mean() == pytest.approx(np.sqrt(2), abs=0.01)
    assert distances[same].max() < 0.1
    assert len(set(rows(embedding))) == query.n_obs


def test_majority_label_is_the_most_frequent_with_its_share(train, query):
    prediction = MajorityLabel().fit(train).predict(query)
    names, counts = np.unique(labels(train), return_counts=True)
    assert set(prediction.label_pred) == {names[counts.argmax()]}
    assert prediction.labels == tuple(names)
    np.testing.assert_allclose(prediction.label_proba[7], counts / train.n_obs)
    assert prediction.novelty is None


def test_random_label_draws_with_the_training_frequencies(train, query):
    drawn = [RandomLabel(seed=seed).fit(train).predict(query) for seed in range(100)]
    pooled = np.concatenate([prediction.label_pred for prediction in drawn])
    for name in np.unique(labels(train)):
        assert np.mean(pooled == name) == pytest.approx(np.mean(labels(train) == name), abs=0.02)
    novelty = np.concatenate([prediction.novelty for prediction in drawn])
    assert novelty.mean() == pytest.approx(0.5, abs=0.02)
    assert np.unique(novelty).size == novelty.size


def test_random_label_repeats_with_its_seed(train, query):
    first, again = (RandomLabel(seed=5).fit(train).predict(query) for _ in range(2))
    np.testing.assert_array_equal(first.label_pred, again.label_pred)
    np.testing.assert_array_equal(first.novelty, again.novelty)


def test_true_labels_are_right_and_know_what_was_not_in_training(train, query):
    without_delta = train[labels(train) != "delta"].copy()
    prediction = TrueLabels().fit(without_delta).predict(query)
    np.testing.assert_array_equal(prediction.label_pred, labels(query))
    np.testing.assert_array_equal(prediction.novelty, labels(query) == "delta")
    np.testing.assert_array_equal(
        np.asarray(prediction.labels)[prediction.label_proba.argmax(axis=1)], labels(query)
    )
    np.testing.assert_array_equal(prediction.label_proba.sum(axis=1), 1.0)
