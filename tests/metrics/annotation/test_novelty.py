"""Novelty scores of a case worked by hand, and against scikit-learn."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import (
    flag_samples,
    known_accuracy,
    likelihood,
    lowest_confidence_known,
    lowest_confidence_novel,
    lowest_likelihoods,
    novelty_auroc,
    novelty_average_precision,
    novelty_fpr95,
    novelty_oscr,
)

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


LABEL = np.array(["n", "T", "n", "B", "B"])
#: Of the known cells, the T (novelty 0.7) and the first B (0.5) are named rightly.
LABEL_PRED = np.array(["T", "T", "B", "B", "T"])


def test_oscr_is_the_area_under_named_known_cells_against_novel_cells_that_pass():
    # Thresholds upwards: 0.1 passes a wrong B; 0.5 passes the right B and a novel cell together;
    # 0.7 the right T; 0.9 the other novel cell. Points (novel, named): (0, 0), (1/2, 1/3), (1/2, 2/3),
    # (1, 2/3).
    expected = 1 / 2 * (0 + 1 / 3) / 2 + 1 / 2 * 2 / 3
    assert novelty_oscr(LABEL, LABEL_PRED, NOVELTY, IS_NOVEL) == pytest.approx(expected)


def test_oscr_of_a_perfect_detector_is_the_accuracy_on_known_cells():
    accuracy = known_accuracy(LABEL, LABEL_PRED, IS_NOVEL)
    assert novelty_oscr(LABEL, LABEL_PRED, IS_NOVEL, IS_NOVEL) == pytest.approx(accuracy)
    assert novelty_oscr(LABEL, LABEL_PRED, np.ones(5), IS_NOVEL) == pytest.approx(accuracy / 2)


def test_oscr_of_right_names_is_the_auroc():
    assert novelty_oscr(LABEL, LABEL, NOVELTY, IS_NOVEL) == pytest.approx(novelty_auroc(NOVELTY, IS_NOVEL))


def test_oscr_counts_a_rejected_cell_as_wrong():
    rejected = np.array([False, True, False, True, False])
    assert novelty_oscr(LABEL, LABEL_PRED, NOVELTY, IS_NOVEL, rejected) == 0.0


@pytest.mark.parametrize("value", [True, False])
def test_oscr_needs_both_kinds_of_cells(value):
    with pytest.raises(UndefinedError, match="needs novel and known cells"):
        novelty_oscr(LABEL, LABEL_PRED, NOVELTY, np.full(5, value))


def test_likelihood_is_zero_at_indifference():
    assert likelihood([0.05, 1.0, 0.525], 20) == pytest.approx([0, 1, 0.5])
    with pytest.raises(UndefinedError, match="needs two labels"):
        likelihood([1.0], 1)


def test_lowest_likelihoods_of_a_run():
    proba = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    assert lowest_likelihoods(proba, np.array([False, True, True])) == (0.0, 0.5)
    with pytest.raises(UndefinedError, match="all are of one kind"):
        lowest_likelihoods(proba, np.zeros(3, dtype=bool))


def test_samples_are_called_novel_below_the_threshold():
    # 0.26 itself is not below it.
    found = flag_samples([0.1, 0.26, 0.9], [0.2, 0.25, 0.26, 0.8])
    assert found == (2 / 3, 2 / 4, 3)
    assert flag_samples([0.1, 0.3], [0.2], threshold=0.15) == (0.0, 0.0, 1)


def test_without_a_flagged_sample_there_is_no_precision():
    with pytest.raises(UndefinedError, match=r"no sample has a likelihood below 0\.26"):
        flag_samples([0.5], [0.5])
    with pytest.raises(UndefinedError, match="no novel sample"):
        flag_samples([0.5], [])


def test_the_cell_most_in_doubt_decides():
    proba = [[0.75, 0.25], [0.1, 0.9], [0.5, 0.5], [0.4, 0.6]]
    novel = [False, False, True, True]
    assert (lowest_confidence_known(proba, novel), lowest_confidence_novel(proba, novel)) == (0.75, 0.5)
    with pytest.raises(UndefinedError, match="there is no novel cell"):
        lowest_confidence_novel(proba, [False] * 4)
