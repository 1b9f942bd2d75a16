"""Metrics are declared once, in order, and importing them loads nothing heavy."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import cellular_bench.metrics as package
from cellular_bench.core.types import ASPECTS, MetricSpec
from cellular_bench.metrics import METRICS, metric

HEAVY = ("anndata", "igraph", "jax", "numba", "pandas", "scanpy", "sklearn", "torch", "umap")


def test_every_metric_is_importable_by_its_id_and_carries_its_spec():
    for metric_id, spec in METRICS.items():
        function = getattr(package, metric_id)
        assert isinstance(spec, MetricSpec)
        assert spec.metric_id == metric_id
        assert spec.function is function
        assert function.spec is spec


def test_metrics_are_ordered_by_aspect_those_of_the_overall_score_first_and_those_on_request_last():
    order = [(ASPECTS.index(spec.aspect), not spec.in_overall, spec.on_request) for spec in METRICS.values()]
    assert order == sorted(order)


def test_every_metric_says_what_it_is():
    for spec in METRICS.values():
        assert spec.definition.endswith("."), spec.metric_id
        assert spec.minimum < spec.maximum
        assert spec.function.__doc__


def test_names_are_unique():
    names = [(spec.aspect, spec.name) for spec in METRICS.values()]
    assert len(names) == len(set(names))


def test_an_id_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="'accuracy' is already registered"):
        metric(metric_id="accuracy", name="Another", aspect="annotation", definition="None.")(
            lambda label: 0.0
        )


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match=r"minimum 1\.0 is not below maximum 1\.0"):
        metric(metric_id="flat", name="Flat", aspect="annotation", definition="None.", minimum=1.0)(
            lambda label: 1.0
        )
    assert "flat" not in METRICS


def test_import_loads_nothing_heavy():
    code = f"import sys, cellular_bench.metrics; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(package.__path__)])
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"cellular_bench.metrics.{name}"))
    assert result.failed == 0
