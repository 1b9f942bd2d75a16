"""Records to reports: pages, Markdown, LaTeX, CSV, JSON and figures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellular_bench.reports.figures.canvas import Figure
    from cellular_bench.reports.report import Report, build_report
    from cellular_bench.reports.tables.model import Table
    from cellular_bench.reports.writing import write

__all__ = ["Figure", "Report", "Table", "build_report", "write"]

_MODULES = {
    "Figure": "figures.canvas",
    "Report": "report",
    "Table": "tables.model",
    "build_report": "report",
    "write": "writing",
}


def __getattr__(name: str) -> Any:
    """Import on first use: listing and ``--help`` need neither templates nor figures."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
