"""A report as JSON: the rows of each board in numbers, and every table; never a bare NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    OtherScore,
    Summary,
    is_transductive,
    method_key,
    overall_interval,
)
from cellular_bench.benchmark.tasks import Rule
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports.report import Report
from cellular_bench.reports.tables.model import Table
from cellular_bench.reports.tables.overview import canary_in_words, caution_in_words, weights_notes

#: What of a table is for the page alone.
OF_THE_PAGE: Final = {"key", "href", "row_id", "scales", "share", "kind", "fold_title"}
COSTS: Final = ("wall_time_s", "cpu_time_s", "peak_rss_mib", "warm_up_s")


def boards_json(report: Report) -> str:
    """Return the boards with their rows: means with intervals, reasons of missing values, and every table."""
    return _dumped([_board(made.board) | {"tables": _tables(made.tables)} for made in report.board_reports])


def sections_json(report: Report) -> str:
    """Return the tables over all boards, by section."""
    sections = (*report.comparisons, *report.sources)
    return _dumped({section.key: _tables(section.tables) for section in sections})


def _dumped(content: object) -> str:
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def _finite(content: Any) -> Any:
    """Return content with null for numbers that JSON has not: those computed of values beyond any range."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def _tables(tables: Sequence[Table]) -> list[dict[str, Any]]:
    return [asdict(table, dict_factory=_without_defaults) for table in tables]


def _without_defaults(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    kept = {name: value for name, value in fields if name not in OF_THE_PAGE and value not in ("", None, ())}
    if "sort" in kept:
        kept["value"] = kept.pop("sort")
    return kept


def _board(board: Board) -> dict[str, Any]:
    return {
        "board_id": board.board_id,
        "task": board.task,
        "dataset": board.dataset.model_dump(mode="json"),
        "splits": [split.split_id for split in board.splits],
        "metrics": [_metric(spec) for spec in board.metrics],
        "rule": _rule(board.rule),
        "other_rule": None if board.other_rule is None else _rule(board.other_rule),
        "weights_notes": list(weights_notes(board)),
        "caution": caution_in_words(board) or None,
        "leak_canary": canary_in_words(board) or None,
        "rows": [_row(board, row) for row in board.rows],
        "settings": [_row(board, row) for row in board.settings],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {"name": rule.name, "weights": dict(rule.weights)}


def _metric(spec: MetricSpec) -> dict[str, Any]:
    fields = ("metric_id", "name", "aspect", "higher_is_better", "in_overall", "version")
    return {name: getattr(spec, name) for name in fields} | {"range": [spec.minimum, spec.maximum]}


def _row(board: Board, row: BoardRow) -> dict[str, Any]:
    between = overall_interval(row)
    done, planned = row.coverage
    return {
        "method": row.method.model_dump(mode="json"),
        "track": row.track,
        "transductive": is_transductive(row.runs[0]),
        "rank": row.rank,
        "not_ranked_because": row.incomplete_because,
        "leak_canary": board.canary.verdict(method_key(row.method)) if board.canary else None,
        "overall": _summary(row.overall) | ({"interval": list(between)} if between else {}),
        "by_other_rule": None if row.other is None else _other(row.other),
        "aspects": {aspect: _summary(summary) for aspect, summary in row.aspects.items()},
        "metrics": {metric_id: _summary(summary) for metric_id, summary in row.metrics.items()},
        "runs": {"done": done, "planned": planned},
        **{name: getattr(row, name).mean for name in COSTS},
    }


def _other(other: OtherScore) -> dict[str, Any]:
    return {
        "rank": other.rank,
        "not_ranked_because": other.incomplete_because,
        "overall": _summary(other.overall),
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return asdict(summary) | {"reasons": dict(summary.reasons)}
