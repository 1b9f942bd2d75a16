"""Novelty scores of a case worked by hand, and against scikit-learn."""

import numpy as np
import pytest

from cellular_bench.benchmark.errors import UndefinedError
from cellular_bench.metrics import known_accuracy, novelty_auroc, novelty_average_precision, novelty_fpr95

# From the top: novel, known, novel and known tied, known.
NOVELTY = np.array([0.9, 0.7, 0.5, 0.5, 0.1])
IS_NOVEL = np.array([True, False, True, False, False])


def test_auroc_counts_pairs_and_half_the_ties():
    # Six pairs: 0.9 wins three; 0.5 loses one, ties one, wins one.
    assert novelty_auroc(NOVELTY, IS_NOVEL) == pytest.approx((3 + 0 + 0.5 + 1) / 6)


def test_average_precision_takes_tied_cells_together():
    # Precision 1/1 when the first is found, 2/4 when the second is.
    assert novelty_average_precision(NOVELTY, IS_NOVEL) == pytest.approx((1 + 0.5) / 2)


def test_fpr95_is_taken_where_enough_novel_cells_are_caught():
    assert novelty_fpr95(NOVELTY, IS_NOVEL) == pytest.approx(2 / 3)


def test_fpr95_allows_one_of_twenty_to_be_missed():
    novelty = np.concatenate([np.arange(20.0) + 10, [-1.0], [5.0]])
    is_novel = np.array([True] * 19 + [False] + [True, False])
    # 19 of 20 novel cells lie above every known cell but the highest one.
    assert novelty_fpr95(novelty, is_novel) == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    is_novel = rng.random(150) < 0.2
    novelty = np.round(rng.normal(size=150) + is_novel, 1)
    assert novelty_auroc(novelty, is_novel) == pytest.approx(metrics.roc_auc_score(is_novel, novelty))
    precision = metrics.average_precision_score(is_novel, novelty)
    assert novelty_average_precision(novelty, is_novel) == pytest.approx(precision)
    false, true, _ = metrics.roc_curve(is_novel, novelty, drop_intermediate=False)
    assert novelty_fpr95(novelty, is_novel) == pytest.approx(false[true >= 0.95][0])


def test_ends_of_the_scale():
    assert novelty_auroc(IS_NOVEL, IS_NOVEL) == 1.0
    assert novelty_average_precision(IS_NOVEL, IS_NOVEL) == 1.0
    assert novelty_fpr95(IS_NOVEL, IS_NOVEL) == 0.0
    assert novelty_auroc(~IS_NOVEL, IS_NOVEL) == 0.0
    assert novelty_fpr95(~IS_NOVEL, IS_NOVEL) == 1.0


def test_a_constant_score_is_chance():
    constant = np.ones(5)
    assert novelty_auroc(constant, IS_NOVEL) == 0.5
    assert novelty_average_precision(constant, IS_NOVEL) == pytest.approx(2 / 5)
    assert novelty_fpr95(constant, IS_NOVEL) == 1.0


def test_known_accuracy_leaves_novel_cells_out():
    label, label_pred = np.array(list("nabna")), np.array(list("aabba"))
    is_novel = label == "n"
    assert known_accuracy(label, label_pred, is_novel) == 1.0
    assert known_accuracy(label, label_pred, is_novel, np.array([False] * 4 + [True])) == pytest.approx(2 / 3)


FUNCTIONS = [novelty_auroc, novelty_average_precision, novelty_fpr95]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("value", "words"), [(True, "every cell is novel"), (False, "no cell is novel")])
def test_one_kind_of_cell_only(function, value, words):
    with pytest.raises(UndefinedError, match=words) as error:
        function(NOVELTY, np.full(5, value))
    assert not error.value.by_output


@pytest.mark.parametrize("function", FUNCTIONS)
def test_scores_that_are_not_finite_are_the_methods_fault(function):
    with pytest.raises(UndefinedError, match="NaN or infinite for 1 of 5 cells") as error:
        function(np.array([0.1, np.nan, 0.2, 0.3, 0.4]), IS_NOVEL)
    assert error.value.by_output


def test_known_accuracy_without_known_cells():
    with pytest.raises(UndefinedError, match="every cell is novel"):
        known_accuracy(["a"], ["a"], np.array([True]))


def test_flags_must_be_bools():
    with pytest.raises(ValueError, match="expected one bool per cell"):
        novelty_auroc(NOVELTY, IS_NOVEL.astype(int))
