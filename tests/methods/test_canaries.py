"""Canary embeddings: what each of them damages, and what it leaves as it is."""

import numpy as np
import pandas as pd
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance.data import one_batch
from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods.canaries import (
    Collapsed,
    CollapsedJitter,
    NoiseDimensions,
    RandomProjection,
    ShuffledWithinType,
    TypesMerged,
    mean_deviation,
    nearest_pairs,
)
from cellular_bench.methods.harmony import Harmony

DAMAGED = (Collapsed, CollapsedJitter, NoiseDimensions, ShuffledWithinType, TypesMerged)
SEED = 3


@pytest.fixture
def whole(query):
    """Harmony's embedding, with the seed that the canaries get."""
    return Harmony(seed=SEED).fit_embed(query).astype(np.float64)


@pytest.fixture
def label(query):
    return np.asarray(query.obs["label"].astype(str))


def means(embedding, label):
    return {name: embedding[label == name].mean(axis=0) for name in np.unique(label)}


def within(embedding, label):
    """Return what is left after the mean of its type is taken from each cell."""
    found = means(embedding, label)
    return embedding - np.stack([found[name] for name in label])


def test_collapsed_types_keep_means_and_shapes_and_lose_size(query, whole, label):
    for factor in (0.0, 0.1, 0.7, 1.0):
        made = Collapsed(factor=factor, seed=SEED).fit_embed(query)
        np.testing.assert_allclose(within(made, label), factor * within(whole, label), atol=1e-4)
        for name, mean in means(made, label).items():
            np.testing.assert_allclose(mean, means(whole, label)[name], atol=1e-4)


def test_jitter_is_noise_of_a_tenth_of_the_mean_deviation(query, whole, label):
    made = CollapsedJitter(seed=SEED).fit_embed(query)
    noise = made - Collapsed(seed=SEED).fit_embed(query)
    assert noise.std() == pytest.approx(0.1 * mean_deviation(whole), rel=0.05)
    np.testing.assert_allclose(
        CollapsedJitter(jitter=0.0, seed=SEED).fit_embed(query), made - noise, atol=1e-5
    )


def test_rows_are_shuffled_within_types_alone(query, whole, label):
    made = ShuffledWithinType(seed=SEED).fit_embed(query)
    for name in np.unique(label):
        kept, shuffled = (np.sort(one[label == name], axis=0) for one in (whole, made))
        np.testing.assert_allclose(shuffled, kept, atol=1e-6)
    assert np.mean(np.isclose(made, whole).all(axis=1)) < 0.2


def test_noise_dimensions_come_after_those_of_harmony(query, whole):
    made = NoiseDimensions(n_dimensions=20, scale=2.0, seed=SEED).fit_embed(query)
    n_components = whole.shape[1]
    np.testing.assert_allclose(made[:, :n_components], whole, atol=1e-5)
    assert made.shape[1] == n_components + 20
    assert made[:, n_components:].std() == pytest.approx(2.0 * mean_deviation(whole), rel=0.05)


def test_types_of_a_pair_have_one_mean_and_keep_their_shapes(query, whole, label):
    made = TypesMerged(seed=SEED).fit_embed(query)
    np.testing.assert_allclose(within(made, label), within(whole, label), atol=1e-4)
    before, after = means(whole, label), means(made, label)
    names = list(before)
    merged = [
        (one, other)
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if np.allclose(after[one], after[other], atol=1e-4)
    ]
    assert len(merged) == len(names) // 2
    for one, other in merged:
        np.testing.assert_allclose(after[one], (before[one] + before[other]) / 2, atol=1e-4)
    alone = set(names) - {name for pair in merged for name in pair}
    for name in alone:
        np.testing.assert_allclose(after[name], before[name], atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_of_every_row_once_and_never_worse_than_the_first(seed):
    rows = np.random.default_rng(seed).normal(size=(2 * seed + 3, 4))
    pairs = nearest_pairs(rows)
    taken = [i for pair in pairs for i in pair]
    assert len(taken) == len(set(taken)) == len(rows) - 1
    lengths = [np.linalg.norm(rows[i] - rows[j]) for i, j in pairs]
    assert lengths == sorted(lengths)


def test_a_random_projection_is_linear(query):
    once, twice = query.copy(), query.copy()
    twice.X = 2 * twice.X
    first, second = (RandomProjection(n_components=7, seed=SEED).fit_embed(cells) for cells in (once, twice))
    np.testing.assert_allclose(second, 2 * first, rtol=1e-5, atol=1e-5)
    assert first.shape == (query.n_obs, 7)


@pytest.mark.parametrize("method", [Collapsed, TypesMerged])
def test_names_of_labels_make_no_difference(query, method):
    renamed = query.copy()
    names = sorted(set(query.obs["label"]), reverse=True)
    renamed.obs["label"] = pd.Categorical(query.obs["label"].map({n: f"t{i}" for i, n in enumerate(names)}))
    first, second = (method(seed=SEED).fit_embed(cells) for cells in (query, renamed))
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("method", DAMAGED)
def test_the_same_seed_damages_the_same_embedding(query, method):
    first, again = (method(seed=SEED).fit_embed(query) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("method", DAMAGED)
def test_one_batch_is_not_applicable_as_for_harmony(query, method):
    with pytest.raises(NotApplicableError, match="batch"):
        method().fit_embed(one_batch(query.copy()))


def test_types_cannot_be_merged_where_there_is_one(query):
    alike = query.copy()
    alike.obs["label"] = pd.Categorical(["beta"] * query.n_obs)
    with pytest.raises(NotApplicableError, match="all 120 cells have one label"):
        TypesMerged().fit_embed(alike)


def test_canaries_are_controls_and_all_leaves_the_damaged_ones_out():
    known = registry.methods()
    canaries = {name for name, method in known.items() if method.spec.canary}
    assert canaries == {"perfect_labels", "random_projection", *(method.spec.method_id for method in DAMAGED)}
    assert all(known[name].spec.is_control for name in canaries)
    assert canaries & set(registry.methods_for("integration", known)) == {"perfect_labels"}
    assert next(iter(registry.built_in_canaries())) == "perfect_labels"
    assert registry.canaries_for("annotation", known) == []
    assert registry.canaries_for("integration", known) == ["harmony", *registry.built_in_canaries()]
    without = {name: method for name, method in known.items() if name != "harmony"}
    assert registry.canaries_for("integration", without) == ["perfect_labels"]
