"""What holds for every split of any data."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cellular_bench.core.errors import UserError
from cellular_bench.datasets import splits

pytestmark = pytest.mark.filterwarnings("error")

names = st.sampled_from(["alpha", "beta", "delta", "T cell", "CD4+/CD25"])
labels = st.lists(names, min_size=12, max_size=120).map(np.array)
seeds = st.integers(0, 2**32 - 1)


def assert_partition(split, n_obs):
    assert np.all(np.diff(split.train_obs) > 0)
    assert np.all(np.diff(split.test_obs) > 0)
    assert len(split.train_obs) > 0
    assert len(split.test_obs) > 0
    assert sorted([*split.train_obs, *split.test_obs]) == list(range(n_obs))


def most_abundant(label):
    return np.unique(label, return_counts=True)[1].max()


@given(label=labels, n_splits=st.integers(2, 6), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_folds_share_out_cells_and_labels(label, n_splits, seed):
    assume(most_abundant(label) >= n_splits)
    folds = splits.kfold(label, n_splits=n_splits, seed=seed)
    assert len(folds) == n_splits
    for split in folds:
        assert_partition(split, len(label))
        # Stratified: a fold has each label's share of cells, give or take one.
        for name, n_cells in zip(*np.unique(label, return_counts=True), strict=True):
            assert abs((label[split.test_obs] == name).sum() - n_cells / n_splits) < 1
    assert sorted(np.concatenate([split.test_obs for split in folds])) == list(range(len(label)))


@given(label=labels, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_splits_repeat_and_do_not_depend_on_names_of_labels(label, seed):
    assume(most_abundant(label) >= 3)
    folds = splits.kfold(label, n_splits=3, seed=seed)
    renamed = splits.kfold(np.char.add("new ", label), n_splits=3, seed=seed)
    for first, again, other in zip(folds, splits.kfold(label, n_splits=3, seed=seed), renamed, strict=True):
        assert first.digest == again.digest == other.digest
        assert first.test_obs.tolist() == other.test_obs.tolist()


@given(label=labels, seed=seeds, fold=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_hidden_label_is_never_learnt_and_always_scored(label, seed, fold):
    assume(most_abundant(label) >= 3)
    base = splits.kfold(label, n_splits=3, seed=seed)[fold - 1]
    for name in np.unique(label):
        try:
            (split,) = splits.unseen_label(label, labels=[name], n_splits=3, seed=seed, folds=[fold])
        except UserError:
            assert len(set(label[base.train_obs]) - {name}) < splits.MIN_KNOWN_LABELS
            continue
        # Cells of other types that the fold's training cells lack are in neither part.
        left_out = set(np.flatnonzero(~np.isin(label, [*label[base.train_obs], name])))
        assert {*split.train_obs, *split.test_obs} == set(range(len(label))) - left_out
        assert not set(split.train_obs) & set(split.test_obs)
        assert set(label[split.test_obs]) - set(label[split.train_obs]) == {name}
        assert name not in label[split.train_obs]
        assert (label[split.test_obs] == name).sum() == (label == name).sum()
        assert set(base.test_obs) - left_out <= set(split.test_obs)
        assert set(split.train_obs) == {cell for cell in base.train_obs if label[cell] != name}


@given(label=labels, n_labels=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_labels_chosen_to_hide_are_different_and_not_rare(label, n_labels):
    present, n_cells = np.unique(label, return_counts=True)
    enough = set(present[n_cells >= splits.MIN_UNSEEN_CELLS])
    assume(len(present) > splits.MIN_KNOWN_LABELS + 1)
    if most_abundant(label) < 5 or n_labels > len(enough):
        with pytest.raises(UserError):
            splits.unseen_label(label, n_labels=n_labels)
        return
    hidden = [split.unseen_labels[0] for split in splits.unseen_label(label, n_labels=n_labels)]
    assert len(set(hidden)) == len(hidden) == n_labels
    assert set(hidden) <= enough


@given(batch=labels)
@settings(max_examples=40, deadline=None)
def test_each_batch_is_scored_exactly_once(batch):
    assume(len(set(batch)) > 1)
    made = splits.leave_one_batch_out(batch)
    for split, name in zip(made, sorted(set(batch)), strict=True):
        assert_partition(split, len(batch))
        assert set(batch[split.test_obs]) == {name}
        assert name not in batch[split.train_obs]


@given(batch=labels, data=st.data())
@settings(max_examples=40, deadline=None)
def test_reference_and_query_share_no_batch(batch, data):
    batches = sorted(set(batch))
    assume(len(batches) > 1)
    reference = data.draw(
        st.lists(st.sampled_from(batches), min_size=1, max_size=len(batches) - 1, unique=True)
    )
    (split,) = splits.reference_query(batch, reference=reference)
    assert_partition(split, len(batch))
    assert set(batch[split.train_obs]) == set(reference)
    assert set(batch[split.test_obs]) == set(batches) - set(reference)
