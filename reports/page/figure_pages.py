"""Pages with the figures of each board, for figures that are too heavy for the main page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.core.files import folder_below, short, write_text_atomically
from cellular_bench.reports.figures.canvas import Figure, FigureKind
from cellular_bench.reports.page.templating import render_page
from cellular_bench.reports.tables.formatting import anchor, plural
from cellular_bench.reports.tables.overview import board_title, subtitle

#: The most figures inside a page, in bytes; as text they are a third longer.
MOST_FIGURE_BYTES: Final = 1_500_000
#: Figures of all methods together are few and stay in the page.
ALWAYS_INSIDE: Final[tuple[FigureKind, ...]] = ("curves",)
FOLDER: Final = "boards"
HEADINGS: Final[Mapping[FigureKind, str]] = {
    "embedding": "Embeddings, by label and by batch",
    "confusion": "Confusion matrices",
    "samples": "Samples called novel",
    "history": "Training",
    "curves": "Curves",
}


def too_heavy(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """Return the figures that are too heavy for the page; none if all of them fit into it."""
    if sum(len(figure.data) for figure in figures) <= MOST_FIGURE_BYTES:
        return ()
    return tuple(figure for figure in figures if figure.kind not in ALWAYS_INSIDE)


def figure_page(board: Board) -> str:
    """Return the address of a board's figures, from the page."""
    return f"{FOLDER}/{short(anchor(board.board_id))}.html"


def write_figure_pages(
    boards: Sequence[Board], figures: Sequence[Figure], out: Path, *, back: str
) -> list[Path]:
    """Write a page for each board that has figures: methods side by side, the best first.

    The page that links to them is ``out / back``.
    """
    written = []
    for board in boards:
        mine = [figure for figure in figures if figure.board_id == board.board_id]
        if mine:
            folder_below(out, FOLDER)
            path = out / figure_page(board)
            write_text_atomically(path, _page(board, mine, back=f"../{back}#{anchor(board.board_id)}"))
            written.append(path)
    return written


def _page(board: Board, figures: Sequence[Figure], *, back: str) -> str:
    order = {row.method.method_id: place for place, row in reversed(list(enumerate(board.rows)))}
    ordered = sorted(figures, key=lambda figure: order.get(figure.method_id, -1))
    groups = [(text, [f for f in ordered if f.kind == kind]) for kind, text in HEADINGS.items()]
    return render_page(
        "figures.html.j2",
        title=board_title(board),
        lead=f"{plural(len(figures), 'figure')}; {subtitle(board)}. The best overall score first.",
        back=back,
        groups=[(text, mine) for text, mine in groups if mine],
    )
