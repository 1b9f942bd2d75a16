"""The tables of a board, in the order in which every format shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports.tables.conditions import condition_tables
from cellular_bench.reports.tables.failures import failures_table
from cellular_bench.reports.tables.fooled import fooled_table
from cellular_bench.reports.tables.groups import group_tables
from cellular_bench.reports.tables.labellings import labellings_table
from cellular_bench.reports.tables.labels import held_out_table, labels_table
from cellular_bench.reports.tables.metrics import metrics_table
from cellular_bench.reports.tables.min_max import min_max_table
from cellular_bench.reports.tables.model import MOST_ROWS, Table, limited, limited_columns, with_notes
from cellular_bench.reports.tables.preprocessing import preprocessing_tables
from cellular_bench.reports.tables.published import published_tables
from cellular_bench.reports.tables.rank_stability import stability_table
from cellular_bench.reports.tables.ranking import ranking_table

#: What is shown besides the leaderboard: with ``"paper"`` also the scale of the CELLULAR study.
View = Literal["default", "paper"]
#: A table of a board, several, or None if the board has nothing for it.
BoardTable = Callable[[Board], Table | Iterable[Table] | None]

#: Every table of a board. To add one, write its function and name it here.
BOARD_TABLES: Final[tuple[BoardTable, ...]] = (
    ranking_table,
    stability_table,
    labellings_table,
    metrics_table,
    fooled_table,
    labels_table,
    held_out_table,
    condition_tables,
    group_tables,
    published_tables,
    failures_table,
    preprocessing_tables,
)


def board_tables(board: Board, view: View = "default", *, most: int = MOST_ROWS) -> tuple[Table, ...]:
    """Return the tables that a board has something for; those of its task come last.

    ``most`` is the number of rows of each, see :func:`~cellular_bench.reports.tables.model.limited`.
    """
    ranking, *others = BOARD_TABLES
    study = (min_max_table,) if view == "paper" else ()
    return tuple(
        with_notes(limited(limited_columns(table), most))
        for make in (ranking, *study, *others, *TASKS[board.task].tables)
        for table in _several(make(board))
        if table.columns
    )


def _several(made: Table | Iterable[Table] | None) -> Iterator[Table]:
    if isinstance(made, Table):
        yield made
    elif made is not None:
        yield from made
