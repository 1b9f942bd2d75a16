"""One entry per method: what it is, where it stands on every board, and the runs behind its numbers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.analysis.fidelity import agreement_of_run
from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord
from cellular_bench.core.text import MOST_NAME, MOST_REASON, one_line
from cellular_bench.reports.tables.formatting import anchor, number, plural, quantity
from cellular_bench.reports.tables.method_rows import (
    display_names,
    method_anchor,
    overall_spread,
    runs_anchor,
)
from cellular_bench.reports.tables.model import MISSING, Cell, Table, TableRow, columns, missing, number_cell
from cellular_bench.reports.tables.overview import board_title


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDetail:
    """A method with one set of parameters, on every board that it is on.

    ``anchor`` is the ``id`` of its entry, which its rows lead to; ``agreement`` is how far a reimplemented
    method agrees with the original.
    """

    anchor: str
    method: MethodIdentity
    detail: str
    params: tuple[tuple[str, str], ...]
    agreement: str
    table: Table


def method_details(boards: Sequence[Board], shown: Collection[str]) -> tuple[MethodDetail, ...]:
    """Return an entry for every method whose anchor is ``shown``, by name, controls last."""
    rows: dict[str, list[tuple[Board, BoardRow]]] = defaultdict(list)
    details: dict[str, str] = {}
    for board in boards:
        names = display_names(board)
        for row in board.rows:
            if method_anchor(row.method) not in shown:
                continue
            key = method_key(row.method)
            rows[key].append((board, row))
            details[key] = details.get(key) or names[key][1]
    entries = [_detail(on_boards, details[key]) for key, on_boards in rows.items()]
    return tuple(sorted(entries, key=lambda d: (d.method.is_control, d.method.name.lower(), d.anchor)))


def _detail(on_boards: Sequence[tuple[Board, BoardRow]], detail: str) -> MethodDetail:
    method = on_boards[0][1].method
    name = method_anchor(method)
    return MethodDetail(
        anchor=name,
        method=method,
        detail=detail,
        params=tuple(
            (one_line(name, MOST_NAME), one_line(json.dumps(value), MOST_REASON))
            for name, value in sorted(method.params.items())
        ),
        agreement=found.text if (found := agreement_of_run(method)) else "",
        table=Table(
            table_id=f"{name}-boards",
            title="Boards and runs",
            caption="Overall score with its 95 % interval, and the runs behind it.",
            head="Board",
            columns=(*columns("text", "Rank"), *columns("number", "Overall"), *columns("text", "Runs")),
            rows=tuple(_board_row(board, row) for board, row in on_boards),
        ),
    )


def _board_row(board: Board, row: BoardRow) -> TableRow:
    scores = dict(zip((run.run_id for run in row.done), row.run_scores, strict=True))
    lines = tuple(_run_line(run, scores.get(run.run_id)) for run in row.runs)
    unranked = row.incomplete_because or "controls are not ranked"
    mean = row.overall.mean
    return TableRow(
        name=board_title(board),
        href=f"#{anchor(board.board_id)}",
        row_id=runs_anchor(board, row.method),
        remark=row.incomplete_because or "",
        cells=(
            missing(unranked) if row.rank is None else Cell(f"{row.rank}, {row.track}"),
            missing(unranked) if mean is None else number_cell(mean, detail=overall_spread(row)),
            Cell("", fold=(plural(len(lines), "run"), lines)),
        ),
    )


def _run_line(run: RunRecord, score: float | None) -> str:
    """Write a run: ``"fold-0, seed 3: 0.580; 8.00 CPU s, 1,500 MiB"``."""
    cpu, memory = (run.cost.cpu_time_s, run.cost.peak_rss_mib) if run.cost else (None, None)
    costs = [MISSING if cost is None else quantity(cost) for cost in (cpu, memory)]
    outcome = (
        run.status.replace("_", " ") if run.status != "ok" else MISSING if score is None else number(score)
    )
    split = one_line(run.split.split_id, MOST_NAME)
    return f"{split}, seed {run.seed}: {outcome}; {costs[0]} CPU s, {costs[1]} MiB"
