"""What is shown of a board, in which order: the same tables on the page and in Markdown."""

from __future__ import annotations

from typing import Literal

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports.tables.common import labels_table, metrics_table
from cellular_bench.reports.tables.held_out import held_out_table
from cellular_bench.reports.tables.min_max import min_max_table
from cellular_bench.reports.tables.model import Table
from cellular_bench.reports.tables.rank_stability import robustness_table
from cellular_bench.reports.tables.ranking import ranking_table

#: What is shown besides the leaderboard: with ``"paper"`` also the scale of the CELLULAR study.
View = Literal["default", "paper"]


def board_tables(board: Board, view: View = "default") -> tuple[Table, ...]:
    """Return the tables that a board has something for."""
    tables = (
        ranking_table(board),
        min_max_table(board) if view == "paper" else None,
        robustness_table(board),
        metrics_table(board),
        labels_table(board),
        held_out_table(board),
        *(table(board) for table in TASKS[board.task].tables),
    )
    return tuple(table for table in tables if table is not None and table.columns)
