"""A site of static pages: an index, and for each task a page and its numbers as JSON. Nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    Row,
    Summary,
    build_boards,
    is_transductive,
    split_scores,
)
from cellular_bench.benchmark.analysis.statistics import interval
from cellular_bench.benchmark.schema.records import Missing, RunRecord
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.files import write_text_atomically
from cellular_bench.core.types import MetricSpec, TaskId
from cellular_bench.reports.figures.confusion_and_training import Figure
from cellular_bench.reports.page.figure_pages import linked, write_linked
from cellular_bench.reports.page.page import page
from cellular_bench.reports.page.templating import engine
from cellular_bench.reports.tables.board import View
from cellular_bench.reports.tables.overview import (
    Overview,
    overview,
    runs_in_words,
    weights_in_words,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """A task as the index shows it."""

    name: TaskId
    title: str
    page: str
    json: str
    formula: str
    overviews: tuple[Overview, ...]


def write_site_pages(
    records: Sequence[RunRecord],
    specs: Mapping[str, MetricSpec],
    out: Path,
    *,
    title: str,
    figures: Sequence[Figure] = (),
    missing: Sequence[Missing] = (),
    view: View = "default",
) -> list[Path]:
    """Write ``index.html``, and ``TASK.html`` and ``TASK.json`` of each task that has records.

    Parameters are those of :func:`cellular_bench.reports.write`.
    """
    out.mkdir(parents=True, exist_ok=True)
    written, entries = [out / "index.html"], []
    every = build_boards(records, specs.values())
    for task in TASKS:
        mine = [record for record in records if record.task == task]
        if not mine:
            continue
        boards = tuple(board for board in every if board.task == task)
        ids = {board.board_id for board in boards}
        shown = [figure for figure in figures if figure.board_id in ids]
        heavy = linked(shown)
        heading = f"{title}: {TASKS[task].title.lower()}"
        texts = {
            f"{task}.html": page(
                boards, mine, specs, title=heading, figures=shown, heavy=heavy, missing=missing, view=view
            ),
            f"{task}.json": boards_json(boards),
        }
        for name, text in texts.items():
            write_text_atomically(out / name, text)
            written.append(out / name)
        written += write_linked(boards, heavy, out, back=f"{task}.html")
        entries.append(_entry(task, boards))
    index = engine().get_template("index.html.j2")
    text = index.render(title=title, summary=runs_in_words(records), tasks=entries)
    write_text_atomically(out / "index.html", text)
    return written


def _entry(task: TaskId, boards: Sequence[Board]) -> TaskEntry:
    return TaskEntry(
        name=task,
        title=TASKS[task].title,
        page=f"{task}.html",
        json=f"{task}.json",
        formula=weights_in_words(task, dict.fromkeys(spec for board in boards for spec in board.metrics)),
        overviews=tuple(overview(board) for board in boards),
    )


def boards_json(boards: Sequence[Board]) -> str:
    """Return what the pages show as JSON: boards, their rows, means with intervals, never a bare NaN."""
    return json.dumps([_board(board) for board in boards], indent=1, allow_nan=False) + "\n"


def _board(board: Board) -> dict[str, Any]:
    return {
        "board_id": board.board_id,
        "task": board.task,
        "dataset": board.dataset.model_dump(mode="json"),
        "splits": [split.split_id for split in board.splits],
        "metrics": [
            {
                "metric_id": spec.metric_id,
                "name": spec.name,
                "aspect": spec.aspect,
                "range": [spec.minimum, spec.maximum],
                "higher_is_better": spec.higher_is_better,
                "in_overall": spec.in_overall,
                "version": spec.version,
            }
            for spec in board.metrics
        ],
        "rows": [_row(row) for row in board.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    scores = split_scores(row)
    found = interval(scores) if len(scores) > 1 and row.incomplete_because is None else None
    done, planned = row.coverage
    return {
        "method": row.method.model_dump(mode="json"),
        "track": row.track,
        "transductive": is_transductive(row.runs[0]),
        "rank": row.rank,
        "not_ranked_because": row.incomplete_because,
        "overall": _summary(row.overall) | ({"interval": [found.low, found.high]} if found else {}),
        "aspects": {aspect: _summary(summary) for aspect, summary in row.aspects.items()},
        "metrics": {metric_id: _summary(summary) for metric_id, summary in row.metrics.items()},
        "runs": {"done": done, "planned": planned},
        "wall_time_s": row.wall_time_s.mean,
        "cpu_time_s": row.cpu_time_s.mean,
        "peak_rss_mib": row.peak_rss_mib.mean,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    fields = asdict(summary)
    return fields | {"reasons": dict(summary.reasons)}
