"""Every check of metrics and data sets passes what ships and catches what is broken on purpose."""

import itertools

import numpy as np
import pytest

from cellular_bench.benchmark.conformance import check_dataset, check_metric
from cellular_bench.benchmark.conformance.metrics import METRIC_CHECKS, example
from cellular_bench.datasets.declare import dataset
from cellular_bench.datasets.simulator import simulate
from cellular_bench.metrics import METRICS, metric

SHIPPED = tuple(METRICS)


@pytest.mark.parametrize("metric_id", SHIPPED)
def test_what_ships_keeps_every_promise_but_the_place_of_its_card(metric_id) -> None:
    # Some cards are in a file of their own; test_cards.py demands that each is complete.
    failed = [found for found in check_metric(METRICS[metric_id]) if found.status == "failed"]
    assert {found.check_id for found in failed} <= {"described"}, failed


def healthy(label, label_pred):
    """Share of right cells.

    Notes
    -----
    Formula: right / all.

    Fooled by: nothing.

    Examples
    --------
    >>> healthy(["a"], ["a"])
    1.0
    """
    return float(np.mean(np.asarray(label) == np.asarray(label_pred)))


def misnamed(label, lable_pred):
    return 0.5


def undescribed(label, label_pred):
    return float(np.mean(label == label_pred))


def not_a_number(label, label_pred):
    """As above."""
    return float("nan")


def percent(label, label_pred):
    return 100.0 * float(np.mean(label == label_pred))


def upside_down(label, label_pred):
    return float(np.mean(label != label_pred))


def of_the_first(label, label_pred):
    return float(np.mean((label == label_pred)[:9]))


def alphabetical(label, label_pred):
    return float(np.mean(label == label_pred)) / (1 + (min(label) < "b"))


def writing(label, label_pred):
    value = float(np.mean(label == label_pred))
    label_pred[:] = label
    return value


_counter = itertools.count()


def drifting(label, label_pred):
    return float(np.mean(label == label_pred)) / (1 + 1e-3 * next(_counter))


@pytest.fixture
def declared(no_plugin_stays):
    """Declare metrics for one test."""

    def declare(function, **facts):
        about = {"metric_id": "broken", "name": "Broken", "aspect": "annotation", "definition": "A test."}
        return metric(**about, **facts)(function).spec

    return declare


@pytest.mark.parametrize(
    ("function", "check_id", "found"),
    [
        (misnamed, "inputs_known", "no run has 'lable_pred'. Did you mean 'label_pred'?"),
        (undescribed, "described", "lacks example, fooled_by, formula"),
        (not_a_number, "gives_a_number", "it returned nan"),
        (percent, "range", "outside 0 to 1"),
        (upside_down, "direction", "with higher as better"),
        (of_the_first, "cell_order", "in another order, the value moves by"),
        (alphabetical, "label_names", "with other names"),
        (writing, "pure", "it wrote to label_pred"),
        (drifting, "pure", "a second time, the value is another"),
    ],
)
def test_a_broken_metric_is_caught_with_what_to_do(declared, function, check_id, found) -> None:
    failed = {r.check_id: r for r in check_metric(declared(function)) if r.status == "failed"}
    assert found in failed[check_id].message
    assert failed[check_id].hint
    # A value that drifts is no longer the same for other names either.
    assert set(failed) - {"described"} <= {check_id, *(["label_names"] if function is drifting else [])}


def test_a_healthy_metric_passes(declared) -> None:
    assert [r.status for r in check_metric(declared(healthy))] == ["passed"] * len(METRIC_CHECKS)


def test_the_examples_are_what_they_say() -> None:
    good, bad = example(), example(quality="bad")
    assert (
        np.mean(good["label"] == good["label_pred"]) > 0.85 > 0.5 > np.mean(bad["label"] == bad["label_pred"])
    )
    np.testing.assert_allclose(good["label_proba"].sum(axis=1), 1.0)


def test_broken_data_sets_are_caught_with_what_to_do() -> None:
    def made(build):
        return dataset(dataset_id="own", title="Own", label_key="label", batch_key="batch")(
            lambda: build()
        ).spec

    draws = itertools.count()
    healthy = simulate(n_obs=80, n_vars=30, n_labels=2)
    assert {r.status for r in check_dataset(made(healthy.copy))} == {"passed"}
    one = check_dataset(made(lambda: healthy[healthy.obs["label"] == "type1"].copy()))
    assert [r.check_id for r in one if r.status == "failed"] == ["labels"]
    moving = check_dataset(made(lambda: simulate(n_obs=80, n_vars=30, seed=next(draws))))
    assert [r.check_id for r in moving if r.status == "failed"] == ["same_again"]
    no_data, *rest = check_dataset(made(lambda: None))
    assert "returned NoneType; expected AnnData" in no_data.message
    assert {r.status for r in rest} == {"skipped"}
    absent = healthy.copy()
    del absent.obs["label"]
    assert "label" in check_dataset(made(lambda: absent))[0].message
