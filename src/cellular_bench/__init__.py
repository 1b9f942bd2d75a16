"""Benchmarks for single-cell integration, annotation and novelty detection.

The names below are all that a method, a metric, a data set or a task of your own needs, and all that a script
does:
``run``, ``score`` and ``Results``. Nothing heavy is imported with them.
"""

from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import (
    BenchError,
    DataError,
    NotApplicableError,
    UndefinedError,
    UserError,
)
from cellular_bench.core.types import Corrected, Graph, MethodSpec, Prediction

if TYPE_CHECKING:
    from cellular_bench.api import run, score
    from cellular_bench.benchmark.tasks import Task, TaskInputs
    from cellular_bench.core.outputs import Outputs
    from cellular_bench.core.returned import checked_numbers
    from cellular_bench.datasets.declare import dataset
    from cellular_bench.environments import run_inside
    from cellular_bench.metrics.spec import metric
    from cellular_bench.results import Results

__version__ = "0.1.0"

__all__ = [
    "BenchError",
    "Corrected",
    "DataError",
    "Graph",
    "MethodSpec",
    "NotApplicableError",
    "Outputs",
    "Prediction",
    "Results",
    "Task",
    "TaskInputs",
    "UndefinedError",
    "UserError",
    "__version__",
    "checked_numbers",
    "dataset",
    "metric",
    "run",
    "run_inside",
    "score",
]

#: Where names are that are imported when they are asked for.
_LAZY = {
    "Outputs": "core.outputs",
    "Results": "results",
    "Task": "benchmark.tasks",
    "TaskInputs": "benchmark.tasks",
    "checked_numbers": "core.returned",
    "dataset": "datasets.declare",
    "metric": "metrics.spec",
    "run": "api",
    "run_inside": "environments",
    "score": "api",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a method's file needs none of these."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
