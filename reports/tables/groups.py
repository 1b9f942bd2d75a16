"""Which labels and batches a method mixes, splits or flattens: means over the cells of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Final, Literal

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, Summary, over_units, run_failure
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.metrics.per_cell import CELL_QUANTITIES
from cellular_bench.reports.tables.labels import cells_per_run
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table, limited_columns, score_cell

By = Literal["label", "batch"]
#: What is shown of labels and of batches, where runs have it; ``scores.csv`` has every quantity.
SHOWN: Final[Mapping[By, tuple[str, ...]]] = {
    "label": ("batch_mixing", "label_purity", "state_kept"),
    "batch": ("batch_mixing", "state_kept"),
}
#: Labels or batches of a table: the worst ones.
MOST_GROUPS: Final = 20
_PLURAL: Final[Mapping[By, str]] = {"label": "labels", "batch": "batches"}


def group_tables(board: Board) -> Iterator[Table]:
    """Yield a table of each quantity by label, then by batch, with the worst labels or batches first."""
    for by, quantities in SHOWN.items():
        for quantity in quantities:
            table = _table(board, by, quantity)
            if table is not None:
                yield table


def _table(board: Board, by: By, quantity: str) -> Table | None:
    runs = [run for row in board.rows for run in row.runs if run.per_group]
    sizes = cells_per_run([{one.name: one.n for one in run.per_group if one.by == by} for run in runs])
    of_rows = [_summaries(row, by, quantity) for row in board.rows]
    worst = _worst_first(board.rows, of_rows)
    if not worst:
        return None
    by_row = {id(row): summaries for row, summaries in zip(board.rows, of_rows, strict=True)}

    def cells(row: BoardRow) -> tuple[Cell, ...]:
        return tuple(_cell(row, by, by_row[id(row)].get(name)) for name in worst)

    about = CELL_QUANTITIES[quantity]
    table = Table(
        table_id=f"{board.board_id}-{by}-{quantity}",
        kind="dense",
        title=f"{about.title} by {by}",
        caption=f"{about.definition[0].upper()}{about.definition[1:]}. Mean ± standard deviation over the "
        f"runs in which it is defined. The worst {_PLURAL[by]} come first: by the mean over all methods "
        f"but controls. Under each {by}: mean number of its scored cells per run.",
        columns=tuple(
            Column(name, "heat", hint=f"{sizes[name]} scored cells per run on average", sub=sizes[name])
            for name in worst
        ),
        rows=method_rows(board, cells),
    )
    return limited_columns(table, MOST_GROUPS)


def _summaries(row: BoardRow, by: By, quantity: str) -> dict[str, Summary]:
    """Return the mean of a quantity over the runs of a row, by label or batch."""
    of_runs = [
        {one.name: one.values[quantity] for one in run.per_group if one.by == by and quantity in one.values}
        for run in row.runs
    ]
    names = dict.fromkeys(name for values in of_runs for name in values)
    return {name: _summary(row.runs, [values.get(name) for values in of_runs], by) for name in names}


def _summary(runs: Sequence[RunRecord], values: Sequence[float | None], by: By) -> Summary:
    reasons = [_reason(run, by) if value is None else None for run, value in zip(runs, values, strict=True)]
    return over_units(runs, values, reasons)


def _reason(run: RunRecord, by: By) -> str:
    if run.status != "ok":
        return run_failure(run)
    return f"not defined for its cells of this {by}" if run.per_group else f"no values by {by}"


def _worst_first(rows: Sequence[BoardRow], of_rows: Sequence[Mapping[str, Summary]]) -> list[str]:
    """Return the labels or batches that have a value, by the mean over methods, controls only if alone."""
    counted = [found for row, found in zip(rows, of_rows, strict=True) if row.track != "control"]
    names = {name for found in of_rows for name in found}

    def place(name: str) -> tuple[bool, float, str]:
        means = [found[name].mean for found in counted if name in found]
        known = [mean for mean in means if mean is not None]
        return not known, fmean(known) if known else 0.0, name

    return sorted(names, key=place)


def _cell(row: BoardRow, by: By, summary: Summary | None) -> Cell:
    if summary is None:
        summary = _summary(row.runs, [None] * len(row.runs), by)
    return score_cell(summary, len(row.runs), summary.mean)
