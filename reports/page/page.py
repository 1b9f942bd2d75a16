"""The main page of a report. Style, script and pictures are inside it; nothing is loaded from the network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.analysis.scales import Scale
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import aspect_title
from cellular_bench.reports.figures.canvas import Figure
from cellular_bench.reports.figures.costs import cost_figure
from cellular_bench.reports.figures.rank_diagram import rank_figure
from cellular_bench.reports.figures.settings import settings_figure
from cellular_bench.reports.figures.stress_curves import stress_figure
from cellular_bench.reports.page.figure_pages import figure_page
from cellular_bench.reports.page.method_details import method_details
from cellular_bench.reports.page.templating import render_page
from cellular_bench.reports.report import Report
from cellular_bench.reports.tables.across_datasets import across_id
from cellular_bench.reports.tables.method_rows import GROUPS
from cellular_bench.reports.tables.overview import formulas, other_title, runs_in_words
from cellular_bench.reports.tables.preprocessing import spread_id

#: Scales to choose from: value, title, what it does.
SCALES: Final[tuple[tuple[Scale, str, str], ...]] = (
    ("own", "own range", "Each metric from the worst to the best end of its own range"),
    ("controls", "between controls", "Each metric from the worst to the best control of the same split"),
    ("raw", "raw values", "Unscaled values; if lower is better, mirrored within the range"),
)


def page(report: Report, figures: Sequence[Figure] = (), *, heavy: Sequence[Figure] = ()) -> str:
    """Return the page; figures that are too ``heavy`` for it are counted, with a link to their own page."""
    boards = report.boards
    tasks = sorted({board.task for board in boards}, key=list(TASKS).index)
    return render_page(
        "leaderboard.html.j2",
        title=report.title,
        report=report,
        summary=runs_in_words(report.records),
        suites=sorted({run.suite_id for run in report.records}),
        started=_stamp(min(run.started_at for run in report.records)),
        finished=_stamp(max(run.finished_at for run in report.records)),
        # Pictures of the numbers of a table or of a board, by the id of either.
        pictures=_pictures(report),
        figures=[figure for figure in figures if figure not in heavy],
        heavy=heavy,
        figure_page=figure_page,
        presets={board.board_id: _presets(board) for board in boards},
        aspect_title=aspect_title,
        other_title=other_title,
        methods=method_details(boards, _shown(report)),
        tracks={t: t for t in GROUPS if any(t == row.track for board in boards for row in board.rows)},
        tasks={task: TASKS[task].title for task in tasks},
        datasets=dict(sorted({board.dataset.dataset_id: board.dataset.title for board in boards}.items())),
        scales=SCALES,
        formulas=formulas(boards),
    ).lstrip()


def _pictures(report: Report) -> dict[str, Figure]:
    drawn = {
        **{across_id(group): rank_figure(group) for group in report.across},
        **{series.series_id: stress_figure(series) for series in report.stress},
        **{board.board_id: cost_figure(board) for board in report.boards},
        **{spread_id(board): settings_figure(board) for board in report.boards},
    }
    return {place: figure for place, figure in drawn.items() if figure is not None}


def _presets(board: Board) -> list[tuple[str, list[float]]]:
    """Return the weights that buttons of a board restore: its own, then those of the task's other rules."""
    others = (
        (rule.title, [rule.weights[aspect] for aspect in board.aspects])
        for rule in TASKS[board.task].named_rules.values()
        if rule != board.rule and rule.needs <= set(board.aspects)
    )
    return [("Reset", list(board.weights.values())), *others]


def _shown(report: Report) -> set[str]:
    """Return the anchors of the methods that the tables show."""
    rows = (row for made in report.board_reports for table in made.tables for row in table.rows)
    return {row.href.removeprefix("#") for row in rows if row.track}


def _stamp(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
