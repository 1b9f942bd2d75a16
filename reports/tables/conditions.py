"""What each method keeps of a condition that must be kept, by label and donor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, over_units, run_failure
from cellular_bench.benchmark.schema.records import DonorCondition, RunRecord
from cellular_bench.core.text import MOST_NAME, one_line
from cellular_bench.reports.tables.formatting import number
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table, score_cell

#: A value of the condition, a label and a donor.
Key = tuple[str, str, str]
_CHANCE = 0.5


def condition_tables(board: Board) -> Iterator[Table]:
    """Yield a table for each condition that has figures: a column for each label and donor, worst first."""
    columns = dict.fromkeys(
        one.column for row in board.rows for run in row.runs for one in run.conditions if one.donors
    )
    for place, name in enumerate(columns):
        yield _table(board, name, f"{board.board_id}-condition-{place}")


def _table(board: Board, name: str, table_id: str) -> Table:
    figures = {run.run_id: _figures(run, name) for row in board.rows for run in row.runs}
    before: dict[Key, list[float]] = defaultdict(list)
    after: dict[Key, list[float]] = defaultdict(list)
    for row in board.rows:
        for run in row.runs:
            for key, one in figures[run.run_id].items():
                before[key].append(one.auc_before)
                if row.track != "control":
                    after[key].append(one.auc)
    lost = {key: fmean(before[key]) - fmean(after.get(key) or before[key]) for key in before}
    keys = sorted(before, key=lambda key: (-lost[key], key))
    n_values = len({value for value, _, _ in keys})

    def cells(row: BoardRow) -> tuple[Cell, ...]:
        return tuple(_cell(row, [figures[run.run_id].get(key) for run in row.runs]) for key in keys)

    def title(key: Key) -> str:
        value, label, donor = key
        return f"{label}, {donor}: {value}" if n_values > 1 else f"{label}, {donor}"

    return Table(
        table_id=table_id,
        kind="dense",
        title=f"Kept of {one_line(name, MOST_NAME)}, by label and donor",
        caption="How well the nearest cells of the other donors predict the condition of the donor's cells "
        "of a label: area under the ROC curve, 0.5 for chance; mean ± standard deviation over runs. Under "
        "each label and donor: the same before integration. First where most is lost, over all methods but "
        "controls. A few donors give no interval: what holds for one and not for the others is no result.",
        columns=tuple(
            Column(
                title(key),
                "heat",
                hint=f"{number(fmean(before[key]))} before integration",
                sub=number(fmean(before[key])),
            )
            for key in keys
        ),
        rows=method_rows(board, cells),
    )


def _figures(run: RunRecord, name: str) -> dict[Key, DonorCondition]:
    return {
        (one.value, one.label, one.donor): one
        for kept in run.conditions
        if kept.column == name
        for one in kept.donors
    }


def _cell(row: BoardRow, found: list[DonorCondition | None]) -> Cell:
    """Return the mean AUC over the runs that have the label and donor; the shade begins at chance."""
    values = [None if one is None else one.auc for one in found]
    reasons = [
        run_failure(run) if run.status != "ok" else "too few scored cells of this label and donor"
        for run, value in zip(row.runs, values, strict=True)
        if value is None
    ]
    summary = over_units(row.runs, values, reasons)
    share = None if summary.mean is None else (summary.mean - _CHANCE) / (1 - _CHANCE)
    return score_cell(summary, len(row.runs), share)
