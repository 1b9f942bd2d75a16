"""Two rules of ranking side by side, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from cellular_bench.benchmark.external.rank_comparison import STEPS, Way
from cellular_bench.reports.tables.formatting import number
from cellular_bench.reports.tables.model import Cell, Table, TableRow, columns, missing
from cellular_bench.reports.text.markdown_and_csv import escape, table_markdown


def rules_markdown(ways: Sequence[Way], *, title: str) -> str:
    """Return a table of methods with their rank and score after each step from their rule to ours."""
    steps = "\n".join(f"{i}. {step}" for i, step in enumerate(STEPS, 1))
    parts = [
        f"# {escape(title)}: two rules of ranking",
        "Rank (mean score over data sets) after each step from their rule to ours. Controls have no rank.",
        steps,
        "Ours: rank within the track, among methods that are complete on every data set; nothing "
        "counts as 0. If a method gains from step 1 to step 2, missing values had cost it; what is left "
        "may be the easier data sets, which is why an incomplete method has no rank of ours.",
        *table_markdown(_table(ways)),
    ]
    return "\n\n".join(parts) + "\n"


def _table(ways: Sequence[Way]) -> Table:
    return Table(
        table_id="two-rules",
        title="Two rules of ranking",
        columns=(
            *columns("text", "Track"),
            *columns("number", *(f"Step {i}" for i in range(1, len(STEPS) + 1)), "Ours"),
            *columns("wide", "Why not ranked"),
        ),
        rows=tuple(TableRow(way.name, (Cell(way.track), *_cells(way))) for way in ways),
    )


def _cells(way: Way) -> tuple[Cell, ...]:
    steps = (
        missing("nothing to average") if score is None else Cell(f"{rank or 'control'} ({number(score)})")
        for rank, score in zip(way.ranks, way.scores, strict=True)
    )
    ours = Cell(str(way.our_rank)) if way.our_rank else missing(way.reason)
    return (*steps, ours, Cell(way.reason))
