"""Published scores beside ours: ``published.csv`` and ``published.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.external.published_comparison import Compared, compared
from cellular_bench.reports.report import Report
from cellular_bench.reports.tables.published import published_tables
from cellular_bench.reports.text.markdown_and_csv import csv_text, escape, table_markdown

PUBLISHED_COLUMNS: Final = (
    "study", "protocol", "task", "dataset_id", "published_dataset_id", "method_id", "features",
    "metric_id", "published_mean", "published_std", "our_mean", "our_std", "our_n", "our_n_planned",
    "difference", "verdict", "dataset_version",
)  # fmt: skip


def published_csv(boards: Sequence[Board]) -> str:
    """Return one line per published score on the data of the boards, with ours where there is one."""
    by_board = ((board, scores) for board in boards for scores in compared(board).values())
    rows = (_csv_row(board, score) for board, scores in by_board for score in scores)
    return csv_text(PUBLISHED_COLUMNS, rows)


def _csv_row(board: Board, score: Compared) -> dict[str, object]:
    published, ours = score.published, score.ours
    values = {
        "published_std": published.std,
        "our_mean": ours.mean if ours else None,
        "our_std": ours.std if ours else None,
        "difference": score.difference,
    }
    return {
        "study": published.study_id,
        "protocol": published.protocol,
        "task": published.task,
        "dataset_id": board.dataset.dataset_id,
        "published_dataset_id": published.dataset_id,
        "method_id": published.method_id,
        "features": published.features,
        "metric_id": published.metric_id,
        "published_mean": f"{published.mean:.6f}",
        **{name: "" if value is None else f"{value:.6f}" for name, value in values.items()},
        "our_n": score.n_runs,
        "our_n_planned": score.n_planned,
        "verdict": score.verdict,
        "dataset_version": board.dataset.version_id,
    }


def published_markdown(report: Report) -> str:
    """Return every comparison, and what is missing of the suite; empty if there is neither."""
    parts = []
    for board in report.boards:
        for table in published_tables(board):
            title = table.title.removeprefix("Published: ")
            parts += [f"## {escape(f'{board.dataset_title}: {title}')}", *table_markdown(table)]
    if report.missing:
        parts += ["## Missing", "\n".join(_item(line) for item in report.missing for line in item.lines())]
    return "\n\n".join(["# Published scores beside ours", *parts]) + "\n" if parts else ""


def _item(line: str) -> str:
    # A line that begins with spaces belongs to the one above it.
    return f"{'  ' if line.startswith(' ') else ''}- {escape(line)}"
