"""Rank diagrams: mean ranks of methods across data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellular_bench.benchmark.analysis.across_datasets import Across
from cellular_bench.benchmark.analysis.leaderboard import method_key
from cellular_bench.reports.figures.canvas import new_canvas, plain
from cellular_bench.reports.tables.common import display_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def _names(found: Across) -> tuple[str, ...]:
    """Return the name of each standing, with what tells it from others of the same name."""
    names = display_names(found.boards[0])
    return tuple(" ".join(filter(None, names[method_key(s.row.method)])) for s in found.standings)


def rank_canvas(found: Across) -> Canvas:
    """Draw average ranks, best at the left; a bar joins methods that are not told apart."""
    ordered = sorted(
        zip(found.standings, _names(found), strict=True), key=lambda pair: (pair[0].mean_rank, pair[1])
    )
    ranks = [standing.mean_rank for standing, _ in ordered]
    canvas = new_canvas(6.4, 1.0 + 0.22 * (len(ordered) + len(found.test.groups)))
    ax = canvas.subplots()
    for depth, (standing, name) in enumerate(ordered, 1):
        rank = standing.mean_rank
        ax.plot([rank, rank], [0, -depth], color="#9A9A9A", linewidth=0.8)
        ax.plot(rank, 0, "o", color="#1d5c9e", markersize=4)
        ax.annotate(f" {plain(name)} ({rank:.2f})", (rank, -depth), fontsize=8)
    for height, (start, stop) in enumerate(found.test.groups, 1):
        ends = (ranks[start], ranks[stop - 1])
        ax.plot(ends, [height * 0.6] * 2, color="#1b2026", linewidth=3, solid_capstyle="round")
    ax.set_xlim(0.8, len(ordered) + 1.5)
    ax.set_ylim(-len(ordered) - 1.2, 0.6 * len(found.test.groups) + 0.8)
    ax.xaxis.tick_top()
    ax.set_xticks(range(1, len(ordered) + 1))
    ax.tick_params(labelsize=8)
    ax.set_yticks([])
    ax.spines[["left", "right", "bottom"]].set_visible(False)
    return canvas
