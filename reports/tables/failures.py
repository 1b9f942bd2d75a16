"""Every run without scores, with its reason."""

from __future__ import annotations

from typing import Final

from cellular_bench.benchmark.analysis.leaderboard import Board, method_key
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.reports.tables.method_rows import full_names
from cellular_bench.reports.tables.model import Cell, Table, TableRow, columns

#: Characters of the end of a log.
MOST_LOG: Final = 4000


def failures_table(board: Board) -> Table | None:
    """Return the runs of a board that ended without scores; None if there are none."""
    names = full_names(board)
    runs = [(run, names[method_key(row.method)]) for row in board.rows for run in row.failures]
    if not runs:
        return None
    return Table(
        table_id=f"{board.board_id}-failures",
        title="Runs without scores",
        caption="Every run without scores, with its reason and the last lines of its log.",
        columns=(*columns("text", "Split", "Seed", "Outcome"), *columns("wide", "Reason")),
        rows=tuple(TableRow(name, _cells(run)) for run, name in runs),
    )


def _cells(run: RunRecord) -> tuple[Cell, ...]:
    log = ("Last lines of its log", tuple(run.log_tail[-MOST_LOG:].splitlines())) if run.log_tail else None
    outcome = Cell(run.status.replace("_", " "), emphasis="strong")
    return Cell(run.split.split_id), Cell(str(run.seed)), outcome, Cell(run.reason or "", fold=log)
