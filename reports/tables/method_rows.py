"""Rows of a table that has one per method: their names, groups and marks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    is_transductive,
    method_key,
    overall_interval,
)
from cellular_bench.benchmark.analysis.statistics import Comparison
from cellular_bench.benchmark.schema.records import MethodIdentity, may_have_seen
from cellular_bench.core.text import MOST_NAME, one_line
from cellular_bench.reports.tables.formatting import anchor, bounds, p_value, spread
from cellular_bench.reports.tables.model import (
    LEAK,
    MAY_HAVE_SEEN,
    SAW_NAMES,
    TRANSDUCTIVE,
    Cell,
    Group,
    TableRow,
    missing,
)

#: Groups of rows by track, in the order in which they are shown; incomplete rows come last.
GROUPS: Final[Mapping[str, Group]] = {
    key: Group(key=key, title=title, meaning=meaning)
    for key, title, meaning in (
        ("unsupervised", "Unsupervised", "saw no labels"),
        ("supervised", "Supervised", "saw the labels of training cells only"),
        (
            "sees scored labels",
            "Sees scored labels",
            "saw the labels that they are scored on: not a fair ranking",
        ),
        ("control", "Controls", "mark the ends of the scale; not ranked"),
        ("incomplete", "Incomplete", "not ranked; means are over the runs that have a value"),
    )
}


def method_rows(
    board: Board,
    cells: Callable[[BoardRow], tuple[Cell, ...] | None],
    *,
    remark: Callable[[BoardRow], str] = lambda row: "",
    scales: Callable[[BoardRow], str] = lambda row: "",
) -> tuple[TableRow, ...]:
    """Return a row for each method of a board, by group, without those that have no cells."""
    names = display_names(board)
    made = []
    for row in board.rows:
        values = cells(row)
        if values is None:
            continue
        is_complete = row.incomplete_because is None
        badges = {
            row.track: row.track == "control" or not is_complete,
            TRANSDUCTIVE: is_transductive(row.runs[0]),
            "reimplementation": row.method.is_reimplementation,
            SAW_NAMES: row.method.needs_names,
            MAY_HAVE_SEEN: any(may_have_seen(run.method, run.dataset) for run in row.runs),
            LEAK: board.canary is not None and board.canary.verdict(method_key(row.method)) == "flagged",
        }
        name, detail = names[method_key(row.method)]
        made.append(
            TableRow(
                name,
                values,
                detail=detail,
                group=GROUPS[row.track if is_complete else "incomplete"],
                badges=tuple(badge for badge, is_shown in badges.items() if is_shown),
                remark=remark(row),
                href=f"#{method_anchor(row.method)}",
                method_id=row.method.method_id,
                track=row.track,
                scales=scales(row),
            )
        )
    order = list(GROUPS.values())
    return tuple(sorted(made, key=lambda row: order.index(row.group) if row.group else 0))


def display_names(board: Board) -> dict[str, tuple[str, str]]:
    """Map each row's ``method_key`` to its name and to what distinguishes it from rows of the same name.

    Both are one line and cut where they are long; names that are the same then end in digits of a digest.
    """
    same: dict[str, list[BoardRow]] = defaultdict(list)
    for row in board.rows:
        same[row.method.name].append(row)
    names: dict[str, tuple[str, str]] = {}
    for name, rows in same.items():
        settings = [_settings(row) for row in rows] if len(rows) > 1 else [{}]
        keys = sorted({key for setting in settings for key in setting})
        varying = [key for key in keys if len({setting.get(key, "default") for setting in settings}) > 1]
        for row, setting in zip(rows, settings, strict=True):
            detail = ", ".join(f"{key}={setting.get(key, 'default')}" for key in varying)
            names[method_key(row.method)] = (_short(name) or "no name", _short(detail))
    counts = Counter(names.values())
    return {
        key: (name, f"{detail} {_digest(key)}".strip()) if counts[name, detail] > 1 else (name, detail)
        for key, (name, detail) in names.items()
    }


def _short(text: str) -> str:
    return one_line(text, MOST_NAME)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def full_names(board: Board) -> dict[str, str]:
    """Map each row's ``method_key`` to its name with what distinguishes it from rows of the same name."""
    return {key: " ".join(filter(None, name)) for key, name in display_names(board).items()}


def _settings(row: BoardRow) -> dict[str, str]:
    identity = row.method.model_dump(mode="json")
    params: dict[str, Any] = identity.pop("params")
    packages: dict[str, str] = identity.pop("packages")
    identity.pop("scaling")
    settings = {**identity, **packages, **params}
    return {key: json.dumps(value, sort_keys=True) for key, value in settings.items()}


def method_anchor(method: MethodIdentity) -> str:
    """Return the ``id`` of a method's entry on the page; other parameters make another entry."""
    return f"method-{anchor(method.method_id)}-{_digest(method_key(method))}"


def runs_anchor(board: Board, method: MethodIdentity) -> str:
    """Return the ``id`` of a method's runs on a board, in its entry."""
    return f"{method_anchor(method)}-{anchor(board.board_id)}"


def overall_spread(row: BoardRow) -> str:
    """Write the confidence interval of the overall score, or the deviation of its runs if there is none."""
    between = overall_interval(row)
    return spread(row.overall) if between is None else bounds(*between)


def units_in_words(board: Board) -> str:
    """Say what intervals and tests of a board are over; see ``leaderboard.unit_of``."""
    return "held-out labels" if board.splits[0].unseen_labels else "splits"


def versus_best_cell(comparison: Comparison | None) -> Cell:
    """Return how a method compares with the best one; without a comparison it is the best."""
    if comparison is None:
        return Cell("best", sort=-1.0)
    if comparison.p_value is None:
        return missing(comparison.reason)
    verdict = "significant" if comparison.is_different else "not significant"
    return Cell(p_value(comparison.p_value), sort=comparison.p_value, detail=verdict)
