"""How far the reimplemented methods of a report agree with the originals."""

from __future__ import annotations

from collections.abc import Sequence

from cellular_bench.benchmark.analysis.fidelity import Agreement, agreement_of_run
from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.core.text import MOST_NAME, one_line
from cellular_bench.reports.tables.model import Cell, Table, TableRow, columns


def agreement_table(boards: Sequence[Board]) -> Table | None:
    """Return a row for each reimplemented method on the boards, by name; None if there is none."""
    methods = {row.method.method_id: row.method for board in boards for row in board.rows}
    found = {
        method.name: agreement
        for method in sorted(methods.values(), key=lambda method: method.name.lower())
        if (agreement := agreement_of_run(method)) is not None
    }
    if not found:
        return None
    return Table(
        table_id="agreement-with-originals",
        title="Reimplemented methods",
        caption="Each beside the authors' own code, on the same cells.",
        head="Method",
        columns=(*columns("text", "Verdict"), *columns("wide", "Agreement", "Why")),
        rows=tuple(TableRow(one_line(name, MOST_NAME), _cells(one)) for name, one in found.items()),
    )


def _cells(agreement: Agreement) -> tuple[Cell, ...]:
    return tuple(map(Cell, (agreement.verdict, ". ".join(agreement.figures), agreement.why)))
