"""Every metric of each method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, scaled
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec, aspect_title
from cellular_bench.metrics.profiles import LIMITS_OF_DATA
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table, score_cell


def metrics_table(board: Board) -> Table:
    """Return every metric of each method, by aspect."""
    order = list(dict.fromkeys([*board.weights, *(spec.aspect for spec in board.metrics)]))
    specs = sorted(board.metrics, key=lambda spec: order.index(spec.aspect))

    return Table(
        table_id=f"{board.board_id}-metrics",
        kind="dense",
        title="All metrics",
        caption="Raw values, mean ± standard deviation over splits and seeds.",
        columns=tuple(_column(spec) for spec in specs),
        rows=method_rows(board, lambda row: tuple(_cell(row, spec) for spec in specs)),
    )


def _cell(row: BoardRow, spec: MetricSpec) -> Cell:
    summary = row.metrics[spec.metric_id]
    share = None if summary.mean is None else scaled(spec, summary.mean)
    cell = score_cell(summary, len(row.runs), share)
    return replace(cell, approximate=_approximations(row.done, spec.metric_id))


def _approximations(runs: Iterable[RunRecord], metric_id: str) -> str:
    """Say which approximations a metric's values rest on, with their standard error; empty for none."""
    parts: dict[str, None] = {}
    errors = []
    for run in runs:
        shortcuts = run.evaluation.shortcuts if run.evaluation else ()
        parts |= {
            one.description: None
            for one in shortcuts
            if metric_id in one.metric_ids and one.quantity not in LIMITS_OF_DATA
        }
        errors += [s.standard_error for s in run.scores if s.metric_id == metric_id and s.standard_error]
    if errors:
        parts[f"Standard error {max(errors):.2g}."] = None
    return " ".join(parts)


def _column(spec: MetricSpec) -> Column:
    extra = "" if spec.in_overall else " Not part of the overall score."
    arrow = "" if spec.higher_is_better else " ↓"
    return Column(
        title=spec.name + arrow,
        kind="heat",
        hint=f"{spec.minimum:g} to {spec.maximum:g}, "
        f"{'higher' if spec.higher_is_better else 'lower'} is better.{extra}",
        group=aspect_title(spec.aspect),
        best="high" if spec.higher_is_better else "low",
    )
