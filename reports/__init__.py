"""Records to pages: HTML, CSV, Markdown and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellular_bench.reports.figures.confusion_and_training import Figure
    from cellular_bench.reports.page.page import write

__all__ = ["Figure", "write"]


def __getattr__(name: str) -> Any:
    """Import on first use: listing and ``--help`` need neither templates nor figures."""
    if name == "write":
        from cellular_bench.reports.page.page import write

        return write
    if name == "Figure":
        from cellular_bench.reports.figures.confusion_and_training import Figure

        return Figure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
