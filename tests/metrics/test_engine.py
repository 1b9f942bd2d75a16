"""One call evaluates many metrics: shared work once, failures apart."""

import inspect

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError, UnknownNameError
from cellular_bench.metrics import METRICS, engine, evaluate, metric, nearest_neighbors, required_inputs
from cellular_bench.metrics.per_cell import CELL_QUANTITIES

EMBEDDING_METRICS = [
    spec.metric_id
    for spec in METRICS.values()
    if spec.aspect in ("bio_conservation", "batch_correction")
    and spec.metric_id != "cell_cycle_conservation"
    and "corrected" not in required_inputs(spec)
    and not spec.on_request
]


@pytest.fixture
def register():
    """Register metrics for one test."""
    known = dict(METRICS)

    def add(function):
        return metric(metric_id=function.__name__, name=function.__name__, aspect="novelty", definition=".")(
            function
        )

    yield add
    METRICS.clear()
    METRICS.update(known)


def test_values_equal_those_of_the_functions_called_directly(separated):
    separated["neighbors"] = nearest_neighbors(separated["X_emb"])
    together = evaluate(EMBEDDING_METRICS, separated)
    for metric_id, value in together.items():
        function = METRICS[metric_id].function
        parameters = inspect.signature(function).parameters.values()
        arguments = {p.name: separated[p.name] for p in parameters if p.default is p.empty}
        assert function(**arguments) == pytest.approx(value, abs=1e-12), metric_id


def test_all_values_lie_in_their_range(separated, unmixed):
    for inputs in (separated, unmixed):
        for metric_id, value in evaluate(EMBEDDING_METRICS, inputs).items():
            assert METRICS[metric_id].minimum <= value <= METRICS[metric_id].maximum, metric_id


def test_order_of_the_request_is_kept(separated):
    assert list(evaluate(["clisi", "bras", "ilisi"], separated)) == ["clisi", "bras", "ilisi"]


def test_shared_quantities_are_computed_once(separated, monkeypatch):
    calls = []

    def counted(name, function):
        def call(**arguments):
            calls.append(name)
            return function(**arguments)

        call.__signature__ = inspect.signature(function)
        return call

    counting = {name: counted(name, function) for name, function in engine.DERIVED.items()}
    monkeypatch.setattr(engine, "DERIVED", counting)
    evaluate(EMBEDDING_METRICS, separated, per_cell=list(CELL_QUANTITIES))
    of_others = {
        "type_agreement",
        "kept_neighbours",
        "neighbors_of_calls",
        "stratum_neighbors",
        "scib_clusters",
    }
    assert sorted(calls) == sorted(engine.DERIVED.keys() - of_others)


def test_given_neighbors_are_used_as_they_are(separated):
    given = nearest_neighbors(separated["X_emb"])
    without_embedding = {"neighbors": given, "batch": separated["batch"]}
    assert evaluate(["ilisi"], without_embedding) == evaluate(["ilisi"], separated)


def test_inputs_are_left_as_they_were(separated):
    before = {name: array.copy() for name, array in separated.items()}
    evaluate(EMBEDDING_METRICS, separated)
    assert separated.keys() == before.keys()
    for name, array in before.items():
        assert np.array_equal(array, separated[name]), name


def test_unknown_metric_is_refused_with_a_hint():
    with pytest.raises(UnknownNameError, match=r"Unknown metric 'acuracy'\. Did you mean 'accuracy'"):
        evaluate(["acuracy"], {})


@pytest.mark.parametrize(
    ("metric_id", "missing", "by_output"),
    [("accuracy", "label_pred", True), ("novelty_auroc", "novelty", True), ("ilisi", "batch", False)],
)
def test_missing_argument_is_named(separated, metric_id, missing, by_output):
    error = evaluate([metric_id], {**separated, missing: None})[metric_id]
    assert isinstance(error, UndefinedError)
    assert f"needs '{missing}'" in str(error)
    assert error.by_output is by_output


def test_missing_embedding_is_named_by_metrics_of_its_neighbors():
    error = evaluate(["ilisi"], {"batch": ["x", "y"]})["ilisi"]
    assert "needs 'X_emb'" in str(error)
    assert error.by_output


def test_undefined_input_is_passed_on():
    reason = UndefinedError("too few cell-cycle genes")
    inputs = {"X_emb": np.eye(3), "batch": ["x"] * 3, "cell_cycle": reason, "cell_cycle_before": reason}
    error = evaluate(["cell_cycle_conservation"], inputs)["cell_cycle_conservation"]
    assert str(error) == "too few cell-cycle genes"
    assert not error.by_output


def test_a_crash_is_reported_and_costs_no_other_metric(register):
    @register
    def broken(label):
        raise TypeError("nothing works")

    found = evaluate(["broken", "accuracy"], {"label": ["a"], "label_pred": ["a"]})
    assert str(found["broken"]) == "metric failed: TypeError: nothing works"
    assert found["broken"].by_output
    assert isinstance(found["broken"].__cause__, TypeError)
    assert found["accuracy"] == 1.0


def test_a_value_that_is_not_finite_is_reported(register):
    @register
    def infinite(label):
        return float("nan")

    error = evaluate(["infinite"], {"label": ["a"]})["infinite"]
    assert str(error) == "metric failed: it returned nan"
    assert error.by_output


def test_a_crash_in_a_shared_quantity_is_reported_by_all_that_need_it(separated, monkeypatch):
    def crash(X_emb):
        raise MemoryError("no room")

    monkeypatch.setitem(engine.DERIVED, "neighbors", crash)
    found = evaluate(["ilisi", "clisi", "silhouette_label"], separated)
    assert str(found["ilisi"]) == str(found["clisi"]) == "metric failed: MemoryError: no room"
    assert found["ilisi"] is not found["clisi"]
    assert found["silhouette_label"] > 0.9


def test_wrong_lengths_are_visible(separated):
    error = evaluate(["silhouette_label"], {**separated, "label": ["a", "b"]})["silhouette_label"]
    assert "label has shape (2,); expected (180,)" in str(error)
