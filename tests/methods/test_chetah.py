"""CHETAH's parts by hand: profile scores, the branch that is followed, the tree, the walk."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr

from cellular_bench.methods.chetah import Chetah, followed, label_tree, profile_score


def cells(X, label):
    X = csr_matrix(np.asarray(X, dtype=np.float64))
    obs = pd.DataFrame({"label": pd.Categorical(label)}, index=[f"cell{i}" for i in range(X.shape[0])])
    return AnnData(X, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(X.shape[1])]))


def test_profile_scores_by_hand():
    own, other = np.array([0.5, 0.7, 0.8, 0.9]), np.array([-0.1, 0.0, 0.2, 0.4, 0.6])
    correlation = np.array([-0.5, 0.3, 0.5, 0.75, 0.95])
    # Shares of own cells that correlate no more: 0, 0, 1/4, 2/4, 1. Of others that correlate more: all five,
    # two of five, one of five, none, none.
    expected = [0 - 1, 0 - 2 / 5, 1 / 4 - 1 / 5, 2 / 4, 1.0]
    np.testing.assert_allclose(profile_score(correlation, own, other), expected)


def test_the_highest_score_is_followed_and_the_other_branch_averaged():
    left = np.array([[0.9, -0.3], [0.2, 0.1], [0.5, 0.5]])
    right = np.array([[0.4], [0.6], [0.5]])
    side, confidence = followed(left, right)
    np.testing.assert_array_equal(side, [0, 1, 0])
    np.testing.assert_allclose(confidence, [0.9 - 0.4, 0.6 - 0.15, 0.0])


def test_the_tree_joins_the_labels_that_rank_genes_most_alike():
    means = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 1.0, 2.0]])
    # Spearman: 1 - 6 * 2 / 60 = 0.8 for the first and third, -1 and -0.8 with the second.
    tree = label_tree(means)
    assert sorted([tree.left.pre_order(), tree.right.pre_order()], key=len) == [[1], [0, 2]]
    assert tree.dist == pytest.approx((2.0 + 1.8) / 2)
    assert max(tree.left.dist, tree.right.dist) == pytest.approx(0.2)


#: Three labels, two cells each, four genes; "a" and "b" rank genes more alike than "c" does.
TRAIN = [[4, 3, 2, 0], [4, 2, 3, 0], [2, 4, 3, 0], [3, 4, 2, 0], [0, 1, 2, 4], [0, 2, 1, 4]]


def test_three_labels_by_hand():
    fitted = Chetah().fit(cells(TRAIN, list("aabbcc")))
    root = fitted._root
    assert sorted(root.labels, key=len) == [[2], [0, 1]]
    side = root.labels.index([0, 1])
    profile = root.profiles[side][0]
    # Label "a" has mean (4, 2.5, 2.5, 0), ranks (4, 2.5, 2.5, 1). All four genes are used.
    mean = [4, 2.5, 2.5, 0]
    own = sorted(spearmanr(row, mean).statistic for row in TRAIN[:2])
    other = sorted(spearmanr(row, mean).statistic for row in TRAIN[4:])
    np.testing.assert_allclose(profile.own, own)
    np.testing.assert_allclose(profile.other, other)
    # The ranks of own cells are (4, 3, 2, 1) and (4, 2, 3, 1): 4.5 / sqrt(5 * 4.5) for both.
    np.testing.assert_allclose(own, 4.5 / np.sqrt(5 * 4.5))

    # The query is the first cell of "a". At the root: as much as both own cells and more than both of "c",
    # so "a" scores 1. With the mean of "b" (2.5, 4, 2.5, 0) it correlates less than both of its cells and
    # more than both of "c": 0. With the mean of "c" (0, 1.5, 1.5, 4) less than all: -1. Confidence: 2.
    # At the second fork "a" is compared with "b": it scores 1, "b" scores -1 - both a correlate less with
    # it than its own, but as much as the query itself, so none of them more: 0. Confidence: 1.
    prediction = fitted.predict(cells([TRAIN[0]], ["a"]))
    assert prediction.label_pred.tolist() == ["a"]
    np.testing.assert_allclose(prediction.novelty, [1 - 1.0])
    assert not prediction.rejected[0]


def test_a_cell_between_two_labels_is_rejected_but_called_as_one_of_them():
    fitted = Chetah().fit(cells(TRAIN, list("aabbcc")))
    # (3, 3, 2, 0) is like a and b alike, and unlike c.
    prediction = fitted.predict(cells([[3, 3, 2, 0]], ["a"]))
    assert prediction.label_pred[0] in ("a", "b")
    assert prediction.rejected[0]
    assert (
        not Chetah(reject_below=-2.0)
        .fit(cells(TRAIN, list("aabbcc")))
        .predict(cells([[3, 3, 2, 0]], ["a"]))
        .rejected[0]
    )


def test_a_fork_uses_the_genes_that_differ_most_from_the_other_branch():
    train = [[9, 0, 5, 5], [9, 1, 5, 5], [0, 0, 5, 5], [0, 1, 5, 5]]
    fitted = Chetah(n_genes=1).fit(cells(train, list("aabb")))
    for profiles in fitted._root.profiles:
        np.testing.assert_array_equal(profiles[0].genes, [0])


def test_a_larger_label_of_the_other_branch_does_not_outvote_a_smaller_one():
    # The other branch of "a" is "b" (many cells) and "c" (one). Gene means: a (0, 0), b (4, 0), c (0, 6).
    # Labels count the same: differences (2, 3), so the second gene is chosen; by cells it would be the first.
    rising = np.linspace(0.1, 0.8, 8)
    rows = [[0, 0, *rising[::-1]]] * 3 + [[4, 0, *rising]] * 6 + [[0, 6, *rising]]
    fitted = Chetah(n_genes=1).fit(cells(rows, list("aaabbbbbbc")))
    side = fitted._root.labels.index([0])
    np.testing.assert_array_equal(fitted._root.profiles[side][0].genes, [1])
