"""Every run without scores, with its reason."""

from __future__ import annotations

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.reports.tables.model import Cell, Table, TableRow, columns


def failures_table(board: Board) -> Table | None:
    """Return the runs of a board that ended without scores; None if there are none."""
    runs = [run for row in board.rows for run in row.failures]
    if not runs:
        return None
    return Table(
        table_id=f"{board.board_id}-failures",
        title="Runs without scores",
        caption="Every run without scores, with its reason and the last lines of its log.",
        columns=(*columns("text", "Split", "Seed", "Outcome"), *columns("wide", "Reason")),
        rows=tuple(TableRow(run.method.name, _cells(run)) for run in runs),
    )


def _cells(run: RunRecord) -> tuple[Cell, ...]:
    log = ("Last lines of its log", tuple(run.log_tail.splitlines())) if run.log_tail else None
    outcome = Cell(run.status.replace("_", " "), emphasis="strong")
    return Cell(run.split.split_id), Cell(str(run.seed)), outcome, Cell(run.reason or "", fold=log)
