"""Figures for a paper, sized for a journal's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    method_key,
    overall_interval,
    scaled,
)
from cellular_bench.core.files import write_atomically
from cellular_bench.reports.figures.canvas import COLOURS, as_png, as_vectors, label_axes, new_canvas, plain
from cellular_bench.reports.figures.costs import cost_canvas
from cellular_bench.reports.figures.rank_diagram import rank_canvas
from cellular_bench.reports.report import Report
from cellular_bench.reports.tables.formatting import anchor
from cellular_bench.reports.tables.method_rows import GROUPS, full_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Widths of one and of two columns of a journal, in inches (89 and 183 mm).
ONE_COLUMN: Final = 3.5
TWO_COLUMNS: Final = 7.2

#: The most methods in a figure, besides those that it leaves out itself.
MOST_LINES: Final = 60

FIGURE_WRITERS: Final[dict[str, Callable[[Canvas], bytes]]] = {
    "svg": as_vectors,
    "pdf": lambda canvas: as_vectors(canvas, "pdf"),
    "png": as_png,
}


def write_figures(report: Report, folder: Path, kinds: Sequence[str]) -> list[Path]:
    """Draw every board and every group of data sets into files: ``integration-baron-kfold-ranking.svg``...

    ``kinds`` are those of :data:`FIGURE_WRITERS`; the folder is made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, what, canvas in _canvases(report):
        stem = f"{anchor(name)}-{anchor(what)}"
        for kind in kinds:
            path = folder / f"{stem}.{kind}"
            write_atomically(path, FIGURE_WRITERS[kind](canvas))
            written.append(path)
    return written


def _canvases(report: Report) -> Iterator[tuple[str, str, Canvas]]:
    """Yield each figure with the name of its data and of what it shows."""
    for board in report.boards:
        for what, draw in OF_BOARDS.items():
            if (canvas := draw(board)) is not None:
                yield board.board_id, what, canvas
    for group in report.across:
        if group.test.critical_difference is not None:
            first = group.boards[0]
            rule = "" if first.instead_of is None else f"-{first.rule.name}"
            where = f"{group.task}-{first.splits[0].scheme or first.split_kind}{rule}"
            yield where, f"{group.track}-ranks", rank_canvas(group)


def _shown(board: Board) -> list[tuple[BoardRow, str]]:
    """Return the best complete rows, by track, with their names; a picture of more would be no picture."""
    names = full_names(board)
    rows = [row for row in board.rows if row.incomplete_because is None and row.overall.mean is not None]
    rows = rows[:MOST_LINES]
    order = list(GROUPS)
    rows.sort(key=lambda row: order.index(row.track))
    return [(row, plain(names[method_key(row.method)])) for row in rows]


def _colour(row: BoardRow) -> str:
    return "#9A9A9A" if row.track == "control" else COLOURS[list(GROUPS).index(row.track)]


def ranking_canvas(board: Board) -> Canvas | None:
    """Draw overall scores with their 95 % intervals, one line per method; None without complete methods."""
    shown = _shown(board)
    if not shown:
        return None
    canvas = new_canvas(ONE_COLUMN, 0.8 + 0.2 * len(shown))
    ax = canvas.subplots()
    for place, (row, _) in enumerate(shown):
        if between := overall_interval(row):
            ends = (max(between[0], 0.0), min(between[1], 1.0))
            ax.plot(ends, [place, place], color=_colour(row), linewidth=1.5)
        ax.plot(row.overall.mean or 0.0, place, "o", color=_colour(row), markersize=4)
    ax.set_yticks(range(len(shown)), [name for _, name in shown], fontsize=7)
    ax.invert_yaxis()
    label_axes(ax, "overall score, 95 % interval")
    return canvas


def heat_canvas(board: Board) -> Canvas | None:
    """Draw methods x metrics: larger and darker dots are closer to the best end of the metric's range."""
    shown = _shown(board)
    specs = [spec for spec in board.metrics if spec.in_overall]
    if not shown or not specs:
        return None
    canvas = new_canvas(max(ONE_COLUMN, 1.8 + 0.42 * len(specs)), 1.4 + 0.24 * len(shown))
    ax = canvas.subplots()
    for y, (row, _) in enumerate(shown):
        for x, spec in enumerate(specs):
            value = row.metrics[spec.metric_id].mean
            if value is None:
                ax.text(x, y, "–", ha="center", va="center", fontsize=7)
                continue
            share = float(np.clip(scaled(spec, value), 0, 1))
            ax.scatter(
                x, y, s=20 + 130 * share, c=[share], cmap="Blues", vmin=-0.2, vmax=1.1, edgecolors="#56606b",
                linewidths=0.4,
            )  # fmt: skip
            text = f"{value:.2f}".replace("0.", ".", 1)
            colour = "white" if share > 0.65 else "#1b2026"
            ax.text(x, y, text, ha="center", va="center", fontsize=4.5, color=colour)
    ax.set_xticks(range(len(specs)), [plain(spec.name) for spec in specs], rotation=60, ha="left", fontsize=7)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(shown)), [name for _, name in shown], fontsize=7)
    ax.set_xlim(-0.6, len(specs) - 0.4)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return canvas


def boxes_canvas(board: Board) -> Canvas | None:
    """Draw the runs of each method as a box, a panel per metric; None if no method has three runs."""
    shown = [(row, name) for row, name in _shown(board) if row.track != "control" and len(row.done) > 2]
    specs = [spec for spec in board.metrics if spec.in_overall]
    if not shown or not specs:
        return None
    n_columns = min(3, len(specs))
    n_rows = -(-len(specs) // n_columns)
    canvas = new_canvas(TWO_COLUMNS, n_rows * (0.7 + 0.16 * len(shown)))
    axes = canvas.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for ax in axes.flat[len(specs) :]:
        ax.set_visible(False)
    for ax, spec in zip(axes.flat, specs, strict=False):
        values = [[x for run in row.done if (x := run.value(spec.metric_id)) is not None] for row, _ in shown]
        ax.boxplot(
            values, orientation="horizontal", tick_labels=[name for _, name in shown], widths=0.6,
            flierprops={"markersize": 2}, medianprops={"color": "#1b2026"},
        )  # fmt: skip
        ax.set_title(plain(spec.name) + ("" if spec.higher_is_better else " (lower is better)"), fontsize=8)
        ax.tick_params(labelsize=6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    return canvas


#: Figures of a board, by what they show.
OF_BOARDS: Final[dict[str, Callable[[Board], Canvas | None]]] = {
    "ranking": ranking_canvas,
    "metrics": heat_canvas,
    "boxes": boxes_canvas,
    "cost": cost_canvas,
}
