"""Accuracy against coverage: a case worked by hand, and laws."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import (
    accuracy,
    coverage_at_accuracy_95,
    coverage_at_accuracy_99,
    rejection_area,
    rejection_curve,
)

LABEL = np.array(["a", "a", "b", "b"])
PRED = np.array(["a", "b", "b", "b"])
#: The right a, then the wrong a and a right b together, then a right b.
CONFIDENCE = np.array([0.9, 0.7, 0.7, 0.6])
PROBA = np.stack([CONFIDENCE, 1 - CONFIDENCE], axis=1)


def test_tied_cells_are_accepted_together():
    curve = rejection_curve(LABEL, PRED, CONFIDENCE)
    assert curve.threshold.tolist() == [0.9, 0.7, 0.6]
    assert curve.coverage == pytest.approx([1 / 4, 3 / 4, 1])
    assert curve.accuracy == pytest.approx([1, 2 / 3, 3 / 4])


def test_area_takes_the_expected_order_of_tied_cells():
    # Kept 1: 1/1; 2: 1.5/2; 3: 2/3; 4: 3/4.
    assert rejection_area(LABEL, PRED, PROBA) == pytest.approx((1 + 0.75 + 2 / 3 + 0.75) / 4)


def test_cells_that_the_method_rejects_come_last_and_are_wrong():
    rejected = np.array([True, False, False, False])
    curve = rejection_curve(LABEL, PRED, CONFIDENCE, rejected)
    assert curve.threshold.tolist() == [0.7, 0.6, -np.inf]
    assert curve.accuracy == pytest.approx([1 / 2, 2 / 3, 2 / 4])
    assert curve.accuracy[-1] == pytest.approx(accuracy(LABEL, PRED, rejected))


@pytest.mark.parametrize("seed", range(3))
def test_area_equals_the_mean_over_random_orders_of_ties(seed):
    rng = np.random.default_rng(seed)
    label, pred = rng.choice(list("ab"), 30), rng.choice(list("ab"), 30)
    confidence = np.round(rng.uniform(0.5, 1, 30), 1)
    areas = []
    for _ in range(4000):
        order = np.lexsort([rng.random(30), -confidence])
        areas.append(np.mean(np.cumsum((label == pred)[order]) / np.arange(1, 31)))
    ours = rejection_area(label, pred, np.stack([confidence, 1 - confidence], axis=1))
    assert ours == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / np.sqrt(4000))


def test_coverage_at_an_accuracy_is_counted_in_whole_cells():
    n_obs = 40
    label = np.array(["a"] * n_obs)
    pred = label.copy()
    pred[[19, 25]] = "b"  # 19 of 20, 38 of 40
    confidence = np.linspace(1, 0.6, n_obs)
    proba = np.stack([confidence, 1 - confidence], axis=1)
    assert coverage_at_accuracy_95(label, pred, proba) == 1.0
    pred[30] = "b"
    # 36 right of 38 is under 95 %; 24 of 25 are the most that reach it.
    assert coverage_at_accuracy_95(label, pred, proba) == 25 / n_obs
    assert coverage_at_accuracy_99(label, pred, proba) == 19 / n_obs


def test_coverage_is_zero_where_no_threshold_is_accurate():
    assert coverage_at_accuracy_95(["a", "a"], ["b", "a"], [[0.9, 0.1], [0.9, 0.1]]) == 0.0


def test_ends_of_the_scale():
    assert rejection_area(LABEL, LABEL, PROBA) == 1.0
    assert rejection_area(LABEL, ["c"] * 4, PROBA) == 0.0
    assert coverage_at_accuracy_99(LABEL, LABEL, PROBA) == 1.0


def test_a_confidence_that_is_not_finite_is_the_methods_fault():
    with pytest.raises(UndefinedError, match="NaN or infinite for 1 of 4 cells") as error:
        rejection_curve(LABEL, PRED, [0.1, np.nan, 0.2, 0.3])
    assert error.value.by_output
    with pytest.raises(UndefinedError, match="label_proba is NaN") as error:
        rejection_area(LABEL, PRED, PROBA * np.nan)
    assert error.value.by_output


def test_one_confidence_per_cell():
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(4,\)"):
        rejection_curve(LABEL, PRED, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"shape \(2, 2\); expected \(4, n_labels\)"):
        rejection_area(LABEL, PRED, PROBA[:2])
