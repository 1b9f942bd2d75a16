"""A site of static pages: an index, and for each task a page and its numbers as JSON. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.files import write_text_atomically
from cellular_bench.reports.figures.canvas import Figure
from cellular_bench.reports.page.figure_pages import too_heavy, write_figure_pages
from cellular_bench.reports.page.page import page
from cellular_bench.reports.page.templating import render_page
from cellular_bench.reports.report import Report
from cellular_bench.reports.tables.overview import formula, runs_in_words
from cellular_bench.reports.text.board_json import boards_json, sections_json


def write_site_pages(report: Report, out: Path, *, figures: Sequence[Figure] = ()) -> list[Path]:
    """Write ``index.html``, and ``TASK.html`` and ``TASK.json`` of each task that has records.

    ``TASK.json`` holds the boards, ``TASK-summary.json`` the tables over all of them.
    """
    out.mkdir(parents=True, exist_ok=True)
    written, entries = [out / "index.html"], []
    for task in TASKS:
        part = report.of_task(task, title=f"{report.title}: {TASKS[task].title.lower()}")
        if not part.records:
            continue
        ids = {board.board_id for board in part.boards}
        shown = [figure for figure in figures if figure.board_id in ids]
        heavy = too_heavy(shown)
        texts = {
            f"{task}.html": page(part, shown, heavy=heavy),
            f"{task}.json": boards_json(part),
            f"{task}-summary.json": sections_json(part),
        }
        for name, text in texts.items():
            write_text_atomically(out / name, text)
            written.append(out / name)
        written += write_figure_pages(part.boards, heavy, out, back=f"{task}.html")
        words = dict.fromkeys(formula(board) for board in part.boards)
        entries.append({"name": task, "formula": " or ".join(words), "boards": part.board_reports})
    about = {
        "title": report.title,
        "summary": runs_in_words(report.records),
        "titles": {name: task.title for name, task in TASKS.items()},
    }
    write_text_atomically(out / "index.html", render_page("index.html.j2", tasks=entries, **about))
    return written
