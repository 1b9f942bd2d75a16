"""Benchmarks for single-cell integration, annotation and novelty detection.

The names below are all that a method needs; nothing heavy is imported with them.
"""

from cellular_bench.benchmark.environments import run_inside
from cellular_bench.benchmark.errors import (
    BenchError,
    DataError,
    NotApplicableError,
    UndefinedError,
    UserError,
)
from cellular_bench.benchmark.types import Corrected, Graph, MethodSpec, Prediction

__version__ = "0.1.0"

__all__ = [
    "BenchError",
    "Corrected",
    "DataError",
    "Graph",
    "MethodSpec",
    "NotApplicableError",
    "Prediction",
    "UndefinedError",
    "UserError",
    "__version__",
    "run_inside",
]
