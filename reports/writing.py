"""Writes a report in the formats that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import folder_below, write_text_atomically
from cellular_bench.reports.figures.canvas import Figure
from cellular_bench.reports.figures.for_papers import FIGURE_WRITERS, write_figures
from cellular_bench.reports.page.figure_pages import too_heavy, write_figure_pages
from cellular_bench.reports.page.page import page
from cellular_bench.reports.report import Report
from cellular_bench.reports.text.latex import latex
from cellular_bench.reports.text.markdown_and_csv import leaderboard_csv, markdown, scores_csv
from cellular_bench.reports.text.published import published_csv, published_markdown

#: What a report can be written as.
FORMATS: Final = ("html", "csv", "md", "latex", *FIGURE_WRITERS)


def write(
    report: Report,
    out: Path,
    *,
    formats: Sequence[str] = ("html", "csv", "md"),
    figures: Sequence[Figure] = (),
    inside: bool = False,
) -> list[Path]:
    """Write ``leaderboard.html``, its numbers as CSV and ``leaderboard.md``, or what ``formats`` asks for.

    Parameters
    ----------
    out
        Folder; made if it does not exist. Older files of the same names are replaced.
    formats
        Of :data:`FORMATS`. ``"csv"`` is ``scores.csv``, a row per run and metric, and ``leaderboard.csv``, a
        row per method and board. ``"latex"`` is ``leaderboard.tex``; ``"svg"``, ``"pdf"`` and ``"png"`` are
        figures for a paper, in the folder ``paper``.
    figures
        Pictures for the page, each of a board and a method of the report; UserError for others.
    inside
        True: every figure is in the page, however heavy they are together.

    Returns
    -------
    list of Path
        The files, in the order of :data:`FORMATS`; after them pages with the figures of each board, if these
        are too heavy for the page.
    """
    _refuse_stray_figures(report, figures)
    out.mkdir(parents=True, exist_ok=True)
    heavy = too_heavy(figures) if "html" in formats and not inside else ()
    writers: tuple[tuple[str, str, Callable[[], str]], ...] = (
        ("html", "leaderboard.html", lambda: page(report, figures, heavy=heavy)),
        ("csv", "scores.csv", lambda: scores_csv(report.records)),
        ("csv", "leaderboard.csv", lambda: leaderboard_csv(report.boards)),
        ("md", "leaderboard.md", lambda: markdown(report)),
        ("latex", "leaderboard.tex", lambda: latex(report)),
    )
    written = _write({name: make() for kind, name, make in writers if kind in formats}, out)
    written += write_figure_pages(report.boards, heavy, out, back="leaderboard.html")
    kinds = [kind for kind in FORMATS if kind in FIGURE_WRITERS and kind in formats]
    return [*written, *(write_figures(report, folder_below(out, "paper"), kinds) if kinds else [])]


def _refuse_stray_figures(report: Report, figures: Sequence[Figure]) -> None:
    known = {(board.board_id, row.method.method_id) for board in report.boards for row in board.rows}
    known |= {(board.board_id, "") for board in report.boards}
    for figure in figures:
        if (figure.board_id, figure.method_id) not in known:
            raise UserError(
                f"A figure of method '{figure.method_id}' for board '{figure.board_id}' has no such row. "
                f"Boards: {', '.join(board.board_id for board in report.boards)}."
            )


def write_published(report: Report, out: Path) -> list[Path]:
    """Write published scores beside ours if a study scored these data, and what the suite lacks."""
    text = published_markdown(report)
    if not text:
        return []
    return _write({"published.csv": published_csv(report.boards), "published.md": text}, out)


def _write(texts: Mapping[str, str], out: Path) -> list[Path]:
    for name, text in texts.items():
        write_text_atomically(out / name, text)
    return [out / name for name in texts]
