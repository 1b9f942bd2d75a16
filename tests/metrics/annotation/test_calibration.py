"""Scores of probabilities: cases worked by hand, and against scikit-learn."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import (
    METRICS,
    brier,
    calibration_curve,
    evaluate,
    expected_calibration_error,
    log_loss,
    top3_accuracy,
)

LABELS = ["B", "NK", "T", "Mono"]
LABEL = np.array(["T", "T", "B", "new"])
PROBA = np.array(
    [
        [0.125, 0.125, 0.5, 0.25],
        [0.5, 0.25, 0.125, 0.125],  # T ties for third place
        [1.0, 0.0, 0.0, 0.0],
        [0.25, 0.25, 0.25, 0.25],  # of a type that the method does not know
    ]
)
FLOOR = 2.0**-23


def test_log_loss_by_hand():
    expected = -(np.log(0.5) + np.log(0.125) + np.log(1.0) + np.log(FLOOR)) / 4
    assert log_loss(LABEL, PROBA, LABELS) == pytest.approx(expected, abs=1e-12)


def test_brier_by_hand():
    first = 0.5**2 + 0.25**2 + 2 * 0.125**2
    second = 0.875**2 + 0.5**2 + 0.25**2 + 0.125**2
    assert brier(LABEL, PROBA, LABELS) == pytest.approx((first + second + 0 + 1 + 4 * 0.25**2) / 4, abs=1e-12)


def test_calibration_by_hand():
    # Bins of 1/15: 0.25, 0.5 twice (one right, one wrong), 1.0.
    curve = calibration_curve(LABEL, PROBA, LABELS)
    assert curve.confidence == pytest.approx([0.25, 0.5, 1.0])
    assert curve.accuracy == pytest.approx([0.0, 0.5, 1.0])
    assert curve.n_obs.tolist() == [1, 2, 1]
    assert expected_calibration_error(LABEL, PROBA, LABELS) == pytest.approx(0.25 / 4)


def test_the_upper_end_of_a_bin_belongs_to_it():
    proba = np.array([[0.5, 0.5], [0.75, 0.25]])
    curve = calibration_curve(["a", "a"], proba, ["a", "b"], n_bins=2)
    assert curve.confidence.tolist() == [0.5, 0.75]
    assert curve.accuracy.tolist() == [0.5, 1.0]  # two labels tie at 0.5: right by half


def test_top3_by_hand():
    # In; one of two that tie for the third place; in; unknown.
    assert top3_accuracy(LABEL, PROBA, LABELS) == pytest.approx((1 + 1 / 2 + 1 + 0) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = list("abcdef")
    proba = rng.dirichlet(np.full(6, 0.3), size=200)
    label = rng.choice(labels, 200)
    stated = np.clip(proba, 1e-6, None)
    stated /= stated.sum(axis=1, keepdims=True)
    theirs = metrics.log_loss(label, stated, labels=labels)
    assert log_loss(label, stated, labels) == pytest.approx(theirs, abs=1e-12)
    top3 = metrics.top_k_accuracy_score(label, proba, k=3, labels=labels)
    assert top3_accuracy(label, proba, labels) == pytest.approx(top3, abs=1e-12)
    onehot = np.array(labels)[None, :] == label[:, None]
    assert brier(label, proba, labels) == pytest.approx(np.mean(np.sum((proba - onehot) ** 2, axis=1)))
    assert brier(label, proba, labels) == pytest.approx(
        sum(metrics.brier_score_loss(onehot[:, i], proba[:, i]) for i in range(6))
    )


def test_log_loss_of_float32_zeros_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    proba = np.array([[1, 0], [0, 1]], dtype=np.float32)
    theirs = metrics.log_loss(["a", "a"], proba, labels=["a", "b"])
    assert log_loss(["a", "a"], proba, ["a", "b"]) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("function", [log_loss, brier, expected_calibration_error, top3_accuracy])
def test_the_order_of_columns_and_cells_means_nothing(function):
    order, rows = [2, 0, 3, 1], [3, 1, 0, 2]
    changed = function(LABEL[rows], PROBA[rows][:, order], [LABELS[i] for i in order])
    assert changed == pytest.approx(function(LABEL, PROBA, LABELS), abs=1e-12)


def test_the_frequencies_of_the_types_are_calibrated():
    label = np.array(["a"] * 6 + ["b"] * 4)
    assert expected_calibration_error(label, np.tile([0.6, 0.4], (10, 1)), ["a", "b"]) == pytest.approx(0)


def test_ends_of_the_scale():
    perfect = (np.array(LABELS)[None, :] == np.array(["T", "B"])[:, None]).astype(float)
    for function in (log_loss, brier, expected_calibration_error):
        spec = METRICS[function.__name__]
        assert function(["T", "B"], perfect, LABELS) == spec.minimum
        assert function(["NK", "Mono"], perfect, LABELS) == pytest.approx(spec.maximum)
    assert top3_accuracy(["T", "B"], perfect, LABELS) == 1.0
    assert top3_accuracy(["NK", "Mono"], perfect, LABELS) == 0.0


@pytest.mark.parametrize(
    ("proba", "words"),
    [
        ([[0.5, 0.4]], "for 1 of 1 cells: .* those of cell 0 sum to 0.9"),
        ([[1.5, -0.5]], "must not be negative"),
        ([[np.nan, 1.0]], "for 1 of 1 cells"),
        (np.empty((1, 0)), "no column"),
    ],
)
def test_what_is_no_probability_is_the_methods_fault(proba, words):
    labels = ["a", "b"][: np.shape(proba)[1]]
    with pytest.raises(UndefinedError, match=words) as error:
        log_loss(["a"], proba, labels)
    assert error.value.by_output


def test_top3_of_three_labels_says_nothing():
    proba = np.full((2, 3), 1 / 3)
    with pytest.raises(UndefinedError, match=r"more than 3 labels .* the method knows 3") as error:
        top3_accuracy(["a", "b"], proba, list("abc"))
    assert not error.value.by_output
    with pytest.raises(UndefinedError) as error:
        top3_accuracy(list("abcd"), np.full((4, 3), 1 / 3), list("abc"))
    assert error.value.by_output


@pytest.mark.parametrize(
    ("proba", "labels", "words"),
    [
        ([[1.0]], ["a", "b"], r"shape \(1, 1\); expected \(1, 2\)"),
        ([[0.5, 0.5]], ["a", "a"], "contains a name twice"),
    ],
)
def test_malformed_input_is_refused(proba, labels, words):
    with pytest.raises(ValueError, match=words):
        brier(["a"], proba, labels)


def test_missing_probabilities_are_the_methods_lack():
    found = evaluate(["log_loss", "rejection_area"], {"label": ["a"], "label_pred": ["a"]})
    for value in found.values():
        assert "the method did not return 'label_proba'" in str(value)
        assert value.by_output
