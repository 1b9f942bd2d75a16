"""Figures and tables for a paper: vectors sized for a journal's columns, LaTeX with intervals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cellular_bench.benchmark.analysis.across_datasets import across
from cellular_bench.benchmark.analysis.leaderboard import Board, Row, method_key, scaled, split_scores
from cellular_bench.benchmark.analysis.statistics import interval
from cellular_bench.core.files import short
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports.figures.canvas import COLOURS, as_png, as_vectors, new_canvas, plain
from cellular_bench.reports.figures.costs import cost_canvas
from cellular_bench.reports.figures.rank_diagram import rank_canvas
from cellular_bench.reports.tables.common import GROUPS, RANKED, display_names, metrics_table
from cellular_bench.reports.tables.model import Table
from cellular_bench.reports.tables.overview import overview
from cellular_bench.reports.tables.ranking import ranking_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Widths of one and of two columns of a journal, in inches (89 and 183 mm).
ONE_COLUMN: Final = 3.5
TWO_COLUMNS: Final = 7.2

FIGURE_WRITERS: Final[dict[str, Callable[[Canvas], bytes]]] = {
    "svg": as_vectors,
    "pdf": lambda canvas: as_vectors(canvas, "pdf"),
    "png": as_png,
}


def write_figures(boards: Sequence[Board], folder: Path, kinds: Sequence[str]) -> list[Path]:
    """Draw every board and every group of data sets into files.

    Parameters
    ----------
    folder
        Made where it does not exist.
    kinds
        ``"svg"``, ``"pdf"``, ``"png"``.

    Returns
    -------
    list of Path
        The files, such as ``integration-baron-kfold-ranking.svg``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, what, canvas in _canvases(boards):
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{short(name)}-{what}")
        for kind in kinds:
            path = folder / f"{stem}.{kind}"
            path.write_bytes(FIGURE_WRITERS[kind](canvas))
            written.append(path)
    return written


def _canvases(boards: Sequence[Board]) -> Iterator[tuple[str, str, Canvas]]:
    """Yield each figure with the name of what it is drawn of, and with what it shows."""
    for board in boards:
        drawn = {
            "ranking": ranking_canvas(board),
            "metrics": heat_canvas(board),
            "boxes": boxes_canvas(board),
            "cost": cost_canvas(board),
        }
        for kind, canvas in drawn.items():
            if canvas is not None:
                yield board.board_id, kind, canvas
    for track in RANKED:
        for found in across(boards, track):
            if found.test.critical_difference is not None:
                scheme = found.boards[0].splits[0].scheme or found.boards[0].split_kind
                yield f"{found.task}-{scheme}", f"{track}-ranks", rank_canvas(found)


def _shown(board: Board) -> list[tuple[Row, str]]:
    """Return the complete rows, by track, the best first, with their names."""
    names = display_names(board)
    rows = [row for row in board.rows if row.incomplete_because is None and row.overall.mean is not None]
    order = list(GROUPS)
    rows.sort(key=lambda row: order.index(row.track))
    return [(row, plain(" ".join(filter(None, names[method_key(row.method)])))) for row in rows]


def _colour(row: Row) -> str:
    return "#9A9A9A" if row.track == "control" else COLOURS[list(GROUPS).index(row.track)]


def ranking_canvas(board: Board) -> Canvas | None:
    """Draw overall scores with their 95 % intervals, one line per method; None without complete rows."""
    shown = _shown(board)
    if not shown:
        return None
    canvas = new_canvas(ONE_COLUMN, 0.8 + 0.2 * len(shown))
    ax = canvas.subplots()
    for place, (row, _) in enumerate(shown):
        scores = split_scores(row)
        found = interval(scores) if len(scores) > 1 else None
        if found is not None and found.low is not None and found.high is not None:
            ends = (max(found.low, 0.0), min(found.high, 1.0))
            ax.plot(ends, [place, place], color=_colour(row), linewidth=1.5)
        ax.plot(row.overall.mean or 0.0, place, "o", color=_colour(row), markersize=4)
    ax.set_yticks(range(len(shown)), [name for _, name in shown], fontsize=7)
    ax.invert_yaxis()
    ax.set_xlabel("overall score, 95 % interval", fontsize=8)
    ax.tick_params(axis="x", labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
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
                x,
                y,
                s=20 + 130 * share,
                c=[share],
                cmap="Blues",
                vmin=-0.2,
                vmax=1.1,
                edgecolors="#56606b",
                linewidths=0.4,
            )
            dark = "white" if share > 0.65 else "#1b2026"
            ax.text(
                x, y, f"{value:.2f}".replace("0.", ".", 1), ha="center", va="center", fontsize=4.5, color=dark
            )
    ax.set_xticks(range(len(specs)), [plain(spec.name) for spec in specs], rotation=60, ha="left", fontsize=7)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(shown)), [name for _, name in shown], fontsize=7)
    ax.set_xlim(-0.6, len(specs) - 0.4)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return canvas


def boxes_canvas(board: Board) -> Canvas | None:
    """Draw the runs of each method as a box, a panel per metric; None where no method has three runs."""
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
        ax.boxplot(
            [_values(row, spec) for row, _ in shown],
            orientation="horizontal",
            tick_labels=[name for _, name in shown],
            widths=0.6,
            flierprops={"markersize": 2},
            medianprops={"color": "#1b2026"},
        )
        ax.set_title(plain(spec.name) + ("" if spec.higher_is_better else " (lower is better)"), fontsize=8)
        ax.tick_params(labelsize=6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    return canvas


def _values(row: Row, spec: MetricSpec) -> list[float]:
    return [
        score.value
        for run in row.done
        for score in run.scores
        if score.metric_id == spec.metric_id and score.value is not None
    ]


def latex(boards: Sequence[Board]) -> str:
    """Return the ranking and the metrics of every board as LaTeX tables (package booktabs)."""
    parts = ["% Needs \\usepackage{booktabs}. Brackets: 95 % confidence interval over splits or labels."]
    for board in boards:
        summary = overview(board)
        caption = f"{summary.title} ({summary.subtitle})"
        parts += [_latex_table(table, caption) for table in (ranking_table(board), metrics_table(board))]
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table, caption: str) -> str:
    columns = "l" + "r" * len(table.columns)
    lines = [
        r"\begin{table}",
        rf"\caption{{{tex(caption)}: {tex(table.title.lower())}}}",
        rf"\label{{tab:{table.table_id}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(["Method", *(tex(column.title) for column in table.columns)]) + r" \\",
    ]
    for group in table.groups:
        lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{\textit{{{tex(group.title)}}}}} \\"]
        for line in group.lines:
            cells = (tex(f"{cell.text} {cell.detail}".strip()) for cell in line.cells)
            lines.append(" & ".join([tex(line.marked_name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def tex(text: str) -> str:
    r"""Make any text safe in LaTeX.

    Examples
    --------
    >>> tex("a_b & 5 % ± −1")
    'a\\_b \\& 5 \\% $\\pm$ $-$1'
    """
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "±": r"$\pm$", "−": "$-$", "–": "--", "↓": r"$\downarrow$", "×": r"$\times$", "·": r"$\cdot$",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}",
    }  # fmt: skip
    special |= {char: f"\\{char}" for char in "&%$#_{}"}
    return "".join(special.get(char, char) for char in text)
