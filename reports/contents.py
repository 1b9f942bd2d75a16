"""What is shown of a board, in which order: the same tables on the page and in Markdown."""

from __future__ import annotations

from cellular_bench.benchmark.leaderboard import Board
from cellular_bench.reports.cells import Table
from cellular_bench.reports.held_out import held_out_table
from cellular_bench.reports.ranking import ranking_table
from cellular_bench.reports.robustness import robustness_table
from cellular_bench.reports.tables import labels_table, metrics_table


def board_tables(board: Board) -> tuple[Table, ...]:
    """Return the tables that a board has something for."""
    tables = (
        ranking_table(board),
        robustness_table(board),
        metrics_table(board),
        labels_table(board),
        held_out_table(board),
    )
    return tuple(table for table in tables if table is not None and table.columns)
