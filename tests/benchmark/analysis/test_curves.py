"""Curves behind single numbers, against scikit-learn, the metrics and cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from cellular_bench.benchmark.analysis.curves import (
    Sample,
    averaged,
    by_threshold,
    lowest,
    precision_recall,
    risk_coverage,
    roc,
)
from cellular_bench.core.errors import UserError
from cellular_bench.metrics import novelty_auroc, novelty_average_precision, rejection_area


def _drawn(seed, n_obs=20_000):
    rng = np.random.default_rng(seed)
    is_novel = rng.random(n_obs) < 0.1
    return (rng.normal(size=n_obs) + 1.5 * is_novel).round(2), is_novel


def test_places_of_the_roc_curve_lie_on_that_of_scikit_learn():
    novelty, is_novel = _drawn(0)
    curve = roc(novelty, is_novel)
    false, true, _ = roc_curve(is_novel, novelty, drop_intermediate=False)
    assert len(curve.x) == 201
    np.testing.assert_allclose(curve.y, np.interp(np.linspace(0, 1, 201) ** 2, false, true))
    assert (curve.y[-1], np.diff(curve.y).min() >= 0) == (1.0, True)


def test_precision_at_a_place_is_that_of_the_highest_threshold_that_reaches_it():
    novelty, is_novel = _drawn(1)
    _, recall, thresholds = precision_recall_curve(is_novel, novelty)
    curve = precision_recall(novelty, is_novel)
    for place in (0.05, 0.5, 0.95):
        reached = thresholds[(recall >= place)[:-1]].max()
        expected = is_novel[novelty >= reached].mean()
        assert curve.y[round(200 * place)] == pytest.approx(expected)


def test_areas_under_averaged_curves_are_the_means_of_the_metrics():
    runs = [_drawn(seed) for seed in range(3)]
    means = [np.mean([metric(*run) for run in runs]) for metric in (novelty_auroc, novelty_average_precision)]
    mean_roc = averaged([roc(*run) for run in runs])
    assert np.trapezoid(mean_roc.y, mean_roc.x) == pytest.approx(means[0], abs=2e-4)
    steps = averaged([precision_recall(*run) for run in runs])
    assert steps.y[1:].mean() == pytest.approx(means[1], abs=2e-3)


def test_risk_is_that_of_the_surest_cells():
    label = np.array(["a"] * 10)
    predicted = np.array(["a"] * 6 + ["b", "a", "b", "b"])
    confidence = np.linspace(0.95, 0.5, 10)
    curve = risk_coverage(label, predicted, confidence)
    at = {coverage: curve.y[round(200 * coverage)] for coverage in (0.6, 0.7, 0.8, 1.0)}
    assert at == pytest.approx({0.6: 0.0, 0.7: 1 / 7, 0.8: 1 / 8, 1.0: 0.3})


def test_the_area_under_risk_is_what_rejection_leaves():
    rng = np.random.default_rng(2)
    proba = rng.dirichlet([0.3] * 4, size=4000)
    names = np.array(list("abcd"))
    label = np.where(rng.random(4000) < 0.8, names[proba.argmax(axis=1)], rng.choice(names, 4000))
    predicted = names[proba.argmax(axis=1)]
    curve = risk_coverage(label, predicted, proba.max(axis=1))
    assert 1 - curve.y[1:].mean() == pytest.approx(rejection_area(label, predicted, proba), abs=2e-3)


def test_precision_and_coverage_by_threshold_as_counted_by_hand():
    samples = [
        Sample(held_out="beta", known=0.5, novel=0.1),
        Sample(held_out="beta", known=0.2, novel=0.3),
        Sample(held_out="delta", known=0.9, novel=0.6),
    ]
    precision, coverage = by_threshold(samples)
    at = {round(float(x), 2): i for i, x in enumerate(precision.x)}
    assert np.isnan(precision.y[at[0.1]])
    assert (precision.y[at[0.15]], coverage.y[at[0.15]]) == pytest.approx((1.0, 1 / 3))
    assert (precision.y[at[0.25]], coverage.y[at[0.25]]) == pytest.approx((0.5, 1 / 3))
    assert (precision.y[at[0.95]], coverage.y[at[0.95]]) == pytest.approx((0.5, 1.0))
    assert coverage.y[0] == 0.0


def test_the_lowest_likelihood_is_rescaled_by_the_number_of_labels():
    proba = [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]]
    found = lowest(proba, [False, False, True], held_out="beta")
    assert (found.held_out, found.known, found.novel) == ("beta", pytest.approx(0.25), pytest.approx(0.1))


@pytest.mark.parametrize("is_novel", [[True, True], [False, False]])
def test_cells_of_one_kind_have_no_curve(is_novel):
    with pytest.raises(UserError, match="needs novel and known cells"):
        roc([0.1, 0.2], is_novel)
