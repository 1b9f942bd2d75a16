"""Spread of each method over the settings of the preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cellular_bench.benchmark.analysis.leaderboard import Board, method_key
from cellular_bench.benchmark.analysis.preprocessing import at_settings
from cellular_bench.reports.figures.canvas import COLOURS, Figure, as_vectors, label_axes, new_canvas, plain
from cellular_bench.reports.tables.formatting import number
from cellular_bench.reports.tables.method_rows import full_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: The most methods in a figure.
MOST_LINES: Final = 40


def settings_canvas(board: Board) -> Canvas | None:
    """Draw the overall score of each method at each setting on a line; None without other settings."""
    methods = [one for one in at_settings(board) if one.scores][:MOST_LINES]
    if not methods:
        return None
    names = full_names(board)
    canvas = new_canvas(6.4, 0.9 + 0.28 * len(methods))
    ax = canvas.subplots()
    for place, one in enumerate(methods):
        scores, key = one.scores, method_key(one.default.method)
        ax.plot([min(scores.values()), max(scores.values())], [place] * 2, color="#9A9A9A", linewidth=1)
        others = [value for name, value in scores.items() if name != key]
        ax.plot(others, [place] * len(others), "o", color=COLOURS[0], markersize=4, markerfacecolor="white")
        if key in scores:
            ax.plot(scores[key], place, "D", color=COLOURS[5], markersize=5)
    ax.plot([], [], "D", color=COLOURS[5], markersize=5, label="default setting")
    ax.plot([], [], "o", color=COLOURS[0], markersize=4, markerfacecolor="white", label="another setting")
    ax.set_yticks(range(len(methods)), [plain(names[method_key(one.default.method)]) for one in methods])
    ax.set_ylim(len(methods) - 0.5, -0.5)
    label_axes(ax, "overall score", size=9)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.3 / (0.3 * len(methods))),
        ncols=2,
        fontsize=7,
        frameon=False,
    )
    return canvas


def settings_figure(board: Board) -> Figure | None:
    """Draw the spread over settings for the page; None without other settings."""
    canvas = settings_canvas(board)
    if canvas is None:
        return None
    names = full_names(board)
    spreads = {
        names[method_key(one.default.method)]: max(one.scores.values()) - min(one.scores.values())
        for one in at_settings(board)
        if one.scores
    }
    widest = max(spreads, key=lambda name: spreads[name])
    return Figure(
        kind="settings",
        caption="Overall score of each method at every setting of the preprocessing. The widest spread is "
        f"that of {widest}: {number(spreads[widest])}.",
        data=as_vectors(canvas),
    )
