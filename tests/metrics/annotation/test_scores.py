"""Annotation scores of a case worked by hand, and against scikit-learn."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import (
    METRICS,
    LabelFigures,
    accuracy,
    accuracy_accepted,
    balanced_accuracy,
    cohen_kappa,
    confusion,
    coverage,
    evaluate,
    f1_macro,
    f1_weighted,
    mcc,
    parse_obo,
    per_label,
    rare_recall,
    required_inputs,
)

ONTOLOGY = parse_obo("[Term]\nid: X:1\nname: a\n")

# Hits: T 2 of 3, B 1 of 2, NK 0 of 1. Predictions: T 3, B 1, Mono 2.
LABEL = np.array(["T", "T", "T", "B", "B", "NK"])
PRED = np.array(["T", "T", "Mono", "B", "T", "Mono"])
#: The right B and the wrong NK cell are rejected.
REJECTED = np.array([False, False, False, True, False, True])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (accuracy, 3 / 6),
        (balanced_accuracy, (2 / 3 + 1 / 2 + 0) / 3),
        # F1 of B 2/3, Mono 0, NK 0, T 4/6.
        (f1_macro, (2 / 3 + 0 + 0 + 2 / 3) / 4),
        (f1_weighted, (2 * 2 / 3 + 1 * 0 + 3 * 2 / 3) / 6),
        # (3 * 6 - (3 * 3 + 2 * 1)) / sqrt((36 - 9 - 4 - 1) * (36 - 9 - 1 - 4))
        (mcc, 7 / 22),
        # Agreement 3/6, by chance (3 * 3 + 2 * 1 + 1 * 0) / 36.
        (cohen_kappa, (3 / 6 - 11 / 36) / (1 - 11 / 36)),
        (accuracy_accepted, 3 / 6),
    ],
)
def test_worked_by_hand(function, expected):
    assert function(LABEL, PRED) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (accuracy, 2 / 6),
        (balanced_accuracy, (2 / 3 + 0 + 0) / 3),
        # B is still a true label, NK too; F1 of T 2 * 2 / (3 + 3), of Mono 0.
        (f1_macro, (0 + 0 + 0 + 2 / 3) / 4),
        (f1_weighted, 3 * (2 / 3) / 6),
        # (2 * 6 - 3 * 3) / sqrt((36 - 9 - 4 - 1) * (36 - 9 - 1 - 2 ** 2))
        (mcc, 3 / 22),
        # Agreement 2/6, by chance 3 * 3 / 36: only T is both true and predicted.
        (cohen_kappa, (2 / 6 - 9 / 36) / (1 - 9 / 36)),
        (accuracy_accepted, 2 / 4),
    ],
)
def test_rejected_cells_count_as_wrong_but_where_only_accepted_ones_count(function, expected):
    assert function(LABEL, PRED, REJECTED) == pytest.approx(expected, abs=1e-15)


def test_coverage_is_the_share_of_named_cells():
    assert coverage(PRED) == 1.0
    assert coverage(PRED, REJECTED) == pytest.approx(4 / 6)


def test_a_label_predicted_only_for_rejected_cells_is_not_counted():
    assert f1_macro(["T", "B"], ["T", "Mono"], np.array([False, True])) == pytest.approx((1 + 0) / 2)


def test_figures_per_label():
    assert per_label(LABEL, PRED, REJECTED) == [
        LabelFigures("B", 2, 0, None, 0.0, 0.0),
        LabelFigures("Mono", 0, 1, 0.0, None, 0.0),
        LabelFigures("NK", 1, 0, None, 0.0, 0.0),
        LabelFigures("T", 3, 3, 2 / 3, 2 / 3, 2 / 3),
    ]


def test_confusion_keeps_every_cell_and_puts_rejected_ones_under_the_empty_label():
    table = confusion(LABEL, PRED, REJECTED)
    assert table == {"B": {"": 1, "T": 1}, "NK": {"": 1}, "T": {"Mono": 1, "T": 2}}


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    label, label_pred = rng.choice(list("abcdef"), 200), rng.choice(list("abcdxyz"), 200)
    label_pred[:90] = label[:90]
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert balanced_accuracy(label, label_pred) == pytest.approx(
            metrics.balanced_accuracy_score(label, label_pred)
        )
    for ours, theirs in (
        (accuracy, metrics.accuracy_score(label, label_pred)),
        (f1_macro, metrics.f1_score(label, label_pred, average="macro")),
        (f1_weighted, metrics.f1_score(label, label_pred, average="weighted")),
        (mcc, metrics.matthews_corrcoef(label, label_pred)),
        (cohen_kappa, metrics.cohen_kappa_score(label, label_pred)),
    ):
        assert ours(label, label_pred) == pytest.approx(theirs, abs=1e-12)


def test_mcc_with_rejection_equals_a_class_that_is_never_true():
    metrics = pytest.importorskip("sklearn.metrics")
    as_class = np.where(REJECTED, "rejected", PRED)
    assert mcc(LABEL, PRED, REJECTED) == pytest.approx(metrics.matthews_corrcoef(LABEL, as_class))


def test_integers_and_strings_are_labels_alike():
    assert accuracy([1, 2, 3], ["1", "2", "4"]) == pytest.approx(2 / 3)


def test_a_constant_prediction_has_no_correlation():
    assert mcc(["a", "b"], ["a", "a"]) == 0.0


@pytest.mark.parametrize("function", [mcc, cohen_kappa])
def test_a_single_true_label_has_no_correlation_to_measure(function):
    with pytest.raises(UndefinedError, match="every cell is 'a'") as error:
        function(["a", "a"], ["a", "b"])
    assert not error.value.by_output


def test_rare_types_are_those_below_one_percent():
    label = np.array(["T"] * 398 + ["mast", "mast", "mast"] + ["NK"] * 5)
    # 3 of 406 cells are rare, 5 of 406 are not.
    label_pred = np.where(label == "NK", "T", label)
    label_pred[398] = "T"
    assert rare_recall(label, label_pred) == pytest.approx(2 / 3)
    rejected = np.arange(406) == 399
    assert rare_recall(label, label_pred, rejected) == pytest.approx(1 / 3)


def test_without_rare_types_there_is_no_recall_of_them():
    with pytest.raises(UndefinedError, match="no label is rare: each has 1% of the cells or more") as error:
        rare_recall(["a"] * 99 + ["b"], ["a"] * 100)
    assert not error.value.by_output


def test_labels_unseen_in_training_are_wrong_but_count():
    label, label_pred = ["a", "b", "new"], ["a", "b", "a"]
    assert accuracy(label, label_pred) == pytest.approx(2 / 3)
    assert balanced_accuracy(label, label_pred) == pytest.approx((1 + 1 + 0) / 3)


def test_rejecting_everything_leaves_no_accuracy_of_accepted_cells():
    with pytest.raises(UndefinedError, match="rejected all 6 cells") as error:
        accuracy_accepted(LABEL, PRED, np.ones(6, dtype=bool))
    assert error.value.by_output
    assert accuracy(LABEL, PRED, np.ones(6, dtype=bool)) == 0.0


@pytest.mark.parametrize("metric_id", [m for m, spec in METRICS.items() if spec.aspect == "annotation"])
def test_no_cells_no_score(metric_id):
    function = METRICS[metric_id].function
    empty = {"label_proba": np.empty((0, 2)), "labels": ["a", "b"], "ontology": ONTOLOGY}
    arguments = {name: empty.get(name, []) for name in required_inputs(METRICS[metric_id])}
    with pytest.raises(UndefinedError, match="no cells"):
        function(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b"], ["a"]), r"label_pred has shape \(1,\); expected \(2,\)"),
        ((["a", None], ["a", "b"]), "label has missing values"),
        ((["a", "b"], ["a", "b"], [0, 1]), "rejected has shape .* expected .* of bool"),
    ],
)
def test_malformed_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        accuracy(*arguments)


@pytest.mark.parametrize(
    "label", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"], ["1.0", " 2", "3 "], [b"1", b"2", b"3"]]
)
@pytest.mark.parametrize("label_pred", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"], [b"1", b"2", b"3"]])
def test_names_of_labels_have_no_type(label, label_pred):
    label, label_pred = np.array(label), np.array(label_pred)
    proba = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    found = evaluate(
        ["accuracy", "f1_macro", "mcc", "log_loss", "rejection_area"],
        {"label": label, "label_pred": label_pred, "label_proba": proba, "labels": label_pred},
    )
    assert list(found.values()) == pytest.approx([1.0, 1.0, 1.0, -np.log(0.8), 1.0])


@pytest.mark.parametrize("missing", [None, float("nan"), "", "nan", "<NA>"])
def test_a_missing_prediction_is_a_rejected_one(missing):
    label = ["T", "T", "B", "B"]
    given = np.array(["T", "T", "B", missing], dtype=object)
    ids = ["accuracy", "balanced_accuracy", "f1_macro", "accuracy_accepted", "coverage"]
    found = evaluate(ids, {"label": label, "label_pred": given})
    assert list(found.values()) == pytest.approx([0.75, 0.75, 5 / 6, 1.0, 0.75])
    marked = {"label": label, "label_pred": [*"TTBT"], "rejected": np.array([False, False, False, True])}
    assert found == evaluate(ids, marked)
    assert confusion(label, given)["B"] == {"B": 1, "": 1}
