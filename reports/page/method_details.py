"""One entry per method: what it is, where it stands on every board, and the runs behind its numbers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.analysis.leaderboard import Board, Row, method_key
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord
from cellular_bench.reports.tables.common import display_names, method_anchor, overall_spread
from cellular_bench.reports.tables.model import MISSING, number, quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run as text."""

    split_id: str
    seed: int
    outcome: str
    overall: str
    cpu_time_s: str
    peak_rss_mib: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A method on one board."""

    board_id: str
    task: str
    dataset: str
    rank: str
    overall: str
    remark: str
    runs: tuple[RunLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDetail:
    """A method with one set of parameters, on every board that it is on.

    ``anchor`` is the ``id`` of its entry, which its rows lead to.
    """

    anchor: str
    method: MethodIdentity
    detail: str
    params: tuple[tuple[str, str], ...]
    places: tuple[Place, ...]


def method_details(boards: Sequence[Board]) -> tuple[MethodDetail, ...]:
    """Return an entry for every method, controls last, in the order of their names."""
    rows: dict[str, list[tuple[Board, Row]]] = defaultdict(list)
    details: dict[str, str] = {}
    for board in boards:
        names = display_names(board)
        for row in board.rows:
            key = method_key(row.method)
            rows[key].append((board, row))
            details[key] = details.get(key) or names[key][1]
    found = [_detail(on, details[key]) for key, on in rows.items()]
    return tuple(sorted(found, key=lambda d: (d.method.is_control, d.method.name.lower(), d.anchor)))


def _detail(on: Sequence[tuple[Board, Row]], detail: str) -> MethodDetail:
    method = on[0][1].method
    return MethodDetail(
        anchor=method_anchor(method),
        method=method,
        detail=detail,
        params=tuple((name, json.dumps(value)) for name, value in sorted(method.params.items())),
        places=tuple(_place(board, row) for board, row in on),
    )


def _place(board: Board, row: Row) -> Place:
    scores = dict(zip((run.run_id for run in row.done), row.run_scores, strict=True))
    mean = row.overall.mean
    return Place(
        board_id=board.board_id,
        task=board.task,
        dataset=board.dataset_title,
        rank=MISSING if row.rank is None else f"{row.rank}, {row.track}",
        overall=MISSING if mean is None else f"{number(mean)} {overall_spread(row)}".strip(),
        remark=row.incomplete_because or "",
        runs=tuple(_run(run, scores.get(run.run_id)) for run in row.runs),
    )


def _run(run: RunRecord, score: float | None) -> RunLine:
    cost = run.cost
    cpu, memory = (cost.cpu_time_s, cost.peak_rss_mib) if cost else (None, None)
    return RunLine(
        split_id=run.split.split_id,
        seed=run.seed,
        outcome=run.status.replace("_", " "),
        overall=MISSING if score is None else number(score),
        cpu_time_s=MISSING if cpu is None else quantity(cpu),
        peak_rss_mib=MISSING if memory is None else quantity(memory),
    )
