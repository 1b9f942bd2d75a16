"""Splits: the cells they choose, and the requests they refuse."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.datasets import splits

LABEL = np.array(["alpha"] * 30 + ["beta"] * 20 + ["delta"] * 10 + ["mast"] * 3)
BATCH = np.array((["human1"] * 4 + ["human2"] * 3 + ["human3"] * 2) * 7)


def test_all_cells_learn_and_are_scored():
    (split,) = splits.all_cells(LABEL)
    assert (split.split_id, split.kind, split.seed, split.unseen_labels) == ("all", "all", None, ())
    assert split.train_obs.tolist() == split.test_obs.tolist() == list(range(63))


@pytest.mark.parametrize(("n_splits", "seed"), [(5, 42), (3, 0)])
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_folds_are_those_of_scikit_learn(n_splits, seed):
    shuffled = np.random.default_rng(1).permutation(LABEL)
    expected = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(shuffled, shuffled)
    folds = splits.kfold(shuffled, n_splits=n_splits, seed=seed)
    assert [split.split_id for split in folds] == [
        f"kfold-{n_splits}-{seed}.{i + 1}" for i in range(n_splits)
    ]
    for split, (train, test) in zip(folds, expected, strict=True):
        assert split.train_obs.tolist() == train.tolist()
        assert split.test_obs.tolist() == test.tolist()
        assert split.seed == seed


def test_folds_give_no_warning_for_rare_labels(recwarn):
    splits.kfold(LABEL)
    assert [str(warning.message) for warning in recwarn] == []


def test_each_batch_is_left_out_once():
    made = splits.leave_one_batch_out(BATCH)
    assert [split.split_id for split in made] == ["lobo.human1", "lobo.human2", "lobo.human3"]
    assert [len(split.test_obs) for split in made] == [28, 21, 14]
    assert set(BATCH[made[1].test_obs]) == {"human2"}
    assert set(BATCH[made[1].train_obs]) == {"human1", "human3"}


def test_hidden_cells_move_from_training_to_test():
    fold = splits.kfold(LABEL)[1]
    (split,) = splits.unseen_label(LABEL, labels=["delta"], folds=[2])
    hidden = [cell for cell in fold.train_obs if LABEL[cell] == "delta"]
    assert len(hidden) == 8
    assert split.split_id == "unseen-5-42.delta.2"
    assert split.unseen_labels == ("delta",)
    assert split.train_obs.tolist() == [cell for cell in fold.train_obs if LABEL[cell] != "delta"]
    assert split.test_obs.tolist() == sorted([*fold.test_obs, *hidden])


def test_every_label_is_combined_with_every_fold():
    made = splits.unseen_label(LABEL, labels=["beta", "alpha"], folds=[3, 1])
    assert {split.scheme for split in made} == {"unseen-5-42"}
    assert [split.split_id for split in made] == [
        "unseen-5-42.beta.3",
        "unseen-5-42.beta.1",
        "unseen-5-42.alpha.3",
        "unseen-5-42.alpha.1",
    ]


def test_labels_to_hide_are_spread_over_abundance():
    # Ten labels of 10, 20, ... 100 cells and one too rare; ranks of ten in three stretches.
    label = np.concatenate([np.repeat(f"t{n}", n) for n in (*range(10, 101, 10), 9)])

    def hidden(n_labels: int | None) -> list[str]:
        made = splits.unseen_label(np.random.default_rng(0).permutation(label), n_labels=n_labels)
        return [split.unseen_labels[0] for split in made]

    assert hidden(None) == hidden(3) == ["t90", "t50", "t20"]
    assert hidden(1) == ["t50"]
    assert hidden(10) == [f"t{n}" for n in range(100, 9, -10)]


def test_labels_of_equal_abundance_are_ranked_by_name():
    label = ["c"] * 12 + ["b"] * 12 + ["a"] * 12
    assert [split.unseen_labels for split in splits.unseen_label(label)] == [("a",), ("b",), ("c",)]


def test_reference_and_query():
    (split,) = splits.reference_query(BATCH, reference=["human3", "human1"])
    assert split.split_id == "ref.human1+human3"
    assert set(BATCH[split.train_obs]) == {"human1", "human3"}
    assert set(BATCH[split.test_obs]) == {"human2"}
    (other_order,) = splits.reference_query(BATCH, reference=["human1", "human3"])
    assert other_order.digest == split.digest


def test_ids_can_be_names_of_files():
    batch = ["10x/v2", "10x\\v2", "50%", "a b"]
    ids = [split.split_id for split in splits.leave_one_batch_out(batch)]
    assert ids == ["lobo.10x%2Fv2", "lobo.10x%5Cv2", "lobo.50%25", "lobo.a b"]


def test_digests_tell_splits_apart():
    made = [
        *splits.all_cells(LABEL),
        *splits.kfold(LABEL),
        *splits.kfold(LABEL, seed=43),
        *splits.leave_one_batch_out(BATCH),
        *splits.reference_query(BATCH, reference=["human1"]),
        *splits.unseen_label(LABEL, labels=["alpha", "beta"]),
    ]
    assert len({split.digest for split in made}) == len(made)


def test_digest_is_the_same_everywhere():
    # Fixed numbers: a change makes all stored records of the split incomparable.
    assert splits.all_cells(["x", "y"])[0].digest == (
        "891b1298f1c0e341cf57d0a207fb965999290951f9fa31eae80a8c80fdc30102"
    )
    assert splits.kfold(LABEL)[0].digest == (
        "eea1dccbf7f28e1c506a50093e0a9f0b3b39e585db899749ee8e845400cb8b0f"
    )


@pytest.mark.parametrize(
    ("request_splits", "message"),
    [
        (
            lambda: splits.kfold(["a", "a", "b", "b"]),
            "Cannot cut into 5 folds: the most abundant label has 2 cells. "
            "Ask for fewer folds (n_splits) or use more cells.",
        ),
        (lambda: splits.kfold(LABEL, n_splits=1), "n_splits must be a whole number of at least 2, got: 1."),
        (
            lambda: splits.kfold(LABEL, n_splits="5"),
            "n_splits must be a whole number of at least 2, got: '5'.",
        ),
        (lambda: splits.kfold(LABEL, seed=-1), "seed must be a whole number of at least 0, got: -1."),
        (lambda: splits.kfold([]), "Expected one label per cell, got an array of shape (0,)."),
        (
            lambda: splits.leave_one_batch_out(["d1"] * 5),
            "leave_one_batch_out needs at least 2 batches, these data have one ('d1'). "
            "Name the column of the batches (batch key) or use another split, such as kfold.",
        ),
        (
            lambda: splits.reference_query(BATCH, reference=["human4"]),
            "Unknown batch 'human4'. Did you mean 'human3'? Known: human1, human2, human3.",
        ),
        (
            lambda: splits.reference_query(BATCH, reference=["human1", "human2", "human3"]),
            "reference_query: every batch is in the reference, so no cell is left to score. "
            "Leave out at least one of human1, human2, human3.",
        ),
        (
            lambda: splits.reference_query(BATCH, reference="human1"),
            "reference must be a list of at least one name, got: 'human1'.",
        ),
        (
            lambda: splits.reference_query(BATCH, reference=[]),
            "reference must be a list of at least one name, got: [].",
        ),
        (
            lambda: splits.unseen_label(LABEL, labels=["detla"]),
            "Unknown label 'detla'. Did you mean 'delta'? Known: alpha, beta, delta, mast.",
        ),
        (
            lambda: splits.unseen_label(LABEL, labels=["delta"], n_labels=1),
            "unseen_label: give labels or n_labels, not both.",
        ),
        (
            lambda: splits.unseen_label(LABEL, n_labels=4),
            "unseen_label: 4 labels to hide, but only 3 of 4 labels have at least 10 cells. "
            "Ask for fewer (n_labels) or name them (labels, --unseen).",
        ),
        (
            lambda: splits.unseen_label(LABEL, labels=["delta"], folds=[6]),
            "There is no fold 6: folds are numbered from 1 to 5.",
        ),
        (
            lambda: splits.unseen_label(LABEL, labels=["delta"], folds=[0]),
            "folds must be a whole number of at least 1, got: 0.",
        ),
        (
            lambda: splits.unseen_label(LABEL, labels=["delta"], folds=2),
            "folds must be a list of fold numbers, got: 2.",
        ),
        (
            lambda: splits.unseen_label(["a"] * 10 + ["b"] * 10, labels=["a"]),
            "unseen_label: without 'a' the training cells have 1 label; at least 2 are needed to learn from.",
        ),
    ],
)
def test_impossible_requests_say_why(request_splits, message):
    with pytest.raises(UserError) as caught:
        request_splits()
    assert str(caught.value) == message


def test_suites_name_kinds_and_options():
    made = splits.make("kfold", label=LABEL, batch=BATCH, options={"n_splits": 3, "seed": 7})
    assert [split.digest for split in made] == [s.digest for s in splits.kfold(LABEL, n_splits=3, seed=7)]
    (reference,) = splits.make("reference_query", label=LABEL, batch=BATCH, options={"reference": ["human2"]})
    assert reference.split_id == "ref.human2"
    assert len(splits.make("leave_one_batch_out", label=LABEL, batch=BATCH)) == 3
    assert len(splits.make("all", label=LABEL, batch=BATCH, options={})) == 1
    options = {"labels": ["beta"], "folds": [1, 2]}
    assert len(splits.make("unseen_label", label=LABEL, batch=BATCH, options=options)) == 2


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "kfolds",
            {},
            "Unknown split 'kfolds'. Did you mean 'kfold'? "
            "Known: all, even_halves, kfold, leave_one_batch_out, private_label, reference_query, "
            "skewed_halves, unseen_label.",
        ),
        (
            "kfold",
            {"n_split": 3},
            "Unknown option of split 'kfold' 'n_split'. Did you mean 'n_splits'? Known: n_splits, seed.",
        ),
        ("all", {"seed": 3}, "Unknown option of split 'all' 'seed'. Known: none."),
        ("kfold", {"label": ["x"]}, "Unknown option of split 'kfold' 'label'. Known: n_splits, seed."),
        ("reference_query", {}, "Split 'reference_query' needs the option 'reference'."),
    ],
)
def test_unknown_kinds_and_options(kind, options, message):
    with pytest.raises(UserError) as caught:
        splits.make(kind, label=LABEL, batch=BATCH, options=options)
    assert str(caught.value) == message
    assert isinstance(caught.value, UnknownNameError) == message.startswith("Unknown")


LABELS = np.array((["alpha"] * 30 + ["beta"] * 20 + ["delta"] * 12 + ["gamma"] * 10) * 2)
BATCHES = np.array(["human1"] * 72 + ["human2"] * 72)


def test_several_labels_are_hidden_at_once():
    apart = splits.unseen_label(LABELS, labels=["gamma", "delta"])
    (both,) = splits.unseen_label(LABELS, labels=["gamma", "delta"], together=True)
    assert [split.unseen_labels for split in apart] == [("gamma",), ("delta",)]
    assert both.unseen_labels == ("delta", "gamma")
    assert both.split_id == "unseen-5-42.delta+gamma.1"
    assert set(LABELS[both.train_obs]) == {"alpha", "beta"}
    assert len(both.train_obs) + len(both.test_obs) == len(LABELS)
    with pytest.raises(UserError, match="at least 2 are needed"):
        splits.unseen_label(LABELS, labels=["alpha", "gamma", "delta"], together=True)


def test_a_private_label_is_in_no_batch_that_is_learned_from():
    where = np.where((LABELS == "gamma") & (np.arange(len(LABELS)) % 2 == 0), "human2", BATCHES)
    (split,) = splits.private_label(LABELS, where, labels=["gamma"])
    assert split.unseen_labels == ("gamma",)
    assert set(where[split.test_obs]) == {"human2"}
    assert (LABELS[split.test_obs] == "gamma").sum() == 15
    assert set(where[split.train_obs]) == {"human1"}
    assert "gamma" not in LABELS[split.train_obs]
    assert not set(split.train_obs) & set(split.test_obs)


def test_a_label_that_only_the_scored_batch_has_is_new_as_well():
    label = LABELS.astype(object)
    label[100] = "epsilon"  # a cell of human2
    where = np.where((label == "gamma") & (BATCHES == "human1"), "human2", BATCHES)
    (split,) = splits.private_label(label, where, labels=["gamma"])
    assert split.unseen_labels == ("epsilon", "gamma")


def test_private_labels_that_one_batch_alone_has_are_scored_one_at_a_time():
    label = LABELS.astype(object)
    label[:5], label[5:9], label[100] = "A", "B", "epsilon"  # A and B are in human1 alone
    made = {split.split_id: split for split in splits.private_label(label, BATCHES, labels=["A", "B"])}
    assert [split.unseen_labels for split in made.values()] == [("A",), ("B",)]
    assert made["private.A"].digest != made["private.B"].digest
    for name, other in (("A", "B"), ("B", "A")):
        tested = label[made[f"private.{name}"].test_obs]
        assert (tested == name).sum() == (label == name).sum()
        assert other not in tested
        assert "alpha" in tested
    # Asked for alone, and beside a label that other batches have, a split is what it was.
    (alone,) = splits.private_label(label, BATCHES, labels=["A"])
    assert alone.unseen_labels == ("A", "B")
    first, _ = splits.private_label(label, BATCHES, labels=["A", "gamma"])
    assert first.digest == alone.digest


def test_a_private_label_needs_known_cells_beside_it():
    two = ["a"] * 5 + ["b"] * 5 + ["c"] * 3 + ["d"] * 2
    with pytest.raises(UserError, match="holds no other label but 'd', made private too, so"):
        splits.private_label(two, ["x"] * 10 + ["y"] * 5, labels=["c", "d"])
    with pytest.raises(UserError, match="holds no other label"):
        splits.private_label(["a"] * 5 + ["b"] * 5 + ["c"] * 5, ["x"] * 10 + ["y"] * 5, labels=["c"])
    with pytest.raises(UserError, match="at least 2 batches"):
        splits.private_label(LABELS, ["x"] * len(LABELS), labels=["gamma"])
    with pytest.raises(UnknownNameError):
        splits.private_label(LABELS, BATCHES, labels=["gama"])


def test_all_labels_are_hidden_however_rare():
    label = ["alpha"] * 20 + ["beta"] * 12 + ["epsilon"] * 2
    made = splits.unseen_label(label, labels="all", n_splits=2, folds=[1, 2])
    assert [split.unseen_labels for split in made] == [
        (n,) for n in ("alpha", "beta", "epsilon") for _ in "12"
    ]
    first = made[0]
    assert not (set(np.asarray(label)[first.train_obs]) & {"alpha"})
    # The removed training cells are scored: every cell of the label is among the test cells.
    assert np.asarray(label)[first.test_obs].tolist().count("alpha") == 20


def test_the_only_cell_of_another_type_is_no_known_cell() -> None:
    label = np.array(["a"] * 20 + ["b"] * 20 + ["c"] * 10 + ["lonely"])
    every = splits.unseen_label(label, labels=["c"], n_splits=5, folds=[1, 2, 3, 4, 5])
    for split in every:
        assert 50 not in split.test_obs
        assert set(label[split.test_obs]) - set(label[split.train_obs]) == {"c"}
    assert sum(50 in split.train_obs for split in every) == 4, "where it is learned from, it stays"
    hidden = splits.unseen_label(label, labels=["lonely"], n_splits=5, folds=[1, 2, 3, 4, 5])
    assert all(50 in split.test_obs for split in hidden)


@pytest.mark.parametrize("given", ["1", "1.0", " 1 "])
def test_names_of_options_are_read_as_names_in_data(given):
    label = np.tile([1.0, 2.0, 3.0], 40)
    (split,) = splits.unseen_label(label, labels=[given], seed=0)
    assert split.unseen_labels == ("1",)
    assert not set(split.train_obs) & set(np.flatnonzero(label == 1.0))
    (split,) = splits.reference_query(label, reference=[given, "2"])
    assert (label[split.test_obs] == 3.0).all()


HALVES = {"even_halves": splits.even_halves, "skewed_halves": splits.skewed_halves}
TYPES = np.repeat(["a", "b", "c"], [200, 100, 60])
NAMES = np.array([f"cell{i:03}" for i in range(360)])


@pytest.mark.parametrize("kind", HALVES)
def test_halves_depend_on_the_names_of_the_cells_and_not_on_their_order(kind):
    made = HALVES[kind](TYPES, ["x"] * 360, NAMES)
    order = np.random.default_rng(0).permutation(360)
    moved = HALVES[kind](TYPES[order], ["x"] * 360, NAMES[order])
    for one, other in zip(made, moved, strict=True):
        assert np.array_equal(one.halves[:, order], other.halves)
    assert len({split.digest for split in made}) == 3


@pytest.mark.parametrize("kind", HALVES)
def test_every_draw_is_compared_with_the_next_one(kind):
    made = HALVES[kind](TYPES, ["x"] * 360, NAMES)
    for i, split in enumerate(made):
        assert np.array_equal(split.halves[1], made[(i + 1) % 3].halves[0])
        assert not np.array_equal(*split.halves)
        assert np.array_equal(split.train_obs, split.test_obs)


def test_even_halves_are_half_and_skewed_ones_follow_their_shares():
    for split in splits.even_halves(TYPES, ["x"] * 360, NAMES):
        assert split.halves.sum(axis=1).tolist() == [180, 180]
    for d, split in enumerate(splits.skewed_halves(TYPES, ["x"] * 360, NAMES)):
        rng = np.random.default_rng([d, 1])
        share = dict(zip("abc", rng.uniform(0.1, 0.9, 3), strict=True))
        assert np.array_equal(split.halves[0], rng.random(360) < [share[label] for label in TYPES])


def test_halves_are_of_the_largest_batch_or_of_the_one_named():
    batch = np.repeat(["z", "a", "b"], [100, 100, 160])
    for within, name, cells in ((None, "b", range(200, 360)), ("z", "z", range(100))):
        split = splits.even_halves(TYPES, batch, NAMES, within=within)[0]
        assert split.scheme == f"even_halves-{name}"
        assert split.test_obs.tolist() == list(cells)
    equal = splits.even_halves(TYPES[:200], batch[:200], NAMES[:200])[0]
    assert equal.scheme == "even_halves-a", "the first by name among equals"
    assert splits.scored_batches(equal, batch).tolist() == splits.half_names(equal.halves[0]).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: splits.skewed_halves(["a"] * 50, ["x"] * 50, NAMES[:50]), "the cells of batch 'x' have one"),
        (lambda: splits.even_halves(["a"], ["x"], ["cell"]), "has 1 cells, too few to be cut"),
        (lambda: splits.even_halves(["a"] * 4, ["x"] * 4, ["n"] * 4), "need different names"),
        (lambda: splits.even_halves(["a"] * 4, ["x"] * 4, list("abcd"), within="y"), "Unknown batch 'y'"),
    ],
)
def test_impossible_halves(call, message):
    with pytest.raises(UserError, match=message):
        call()
