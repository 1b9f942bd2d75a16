"""Rank diagrams: mean ranks of methods across data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cellular_bench.benchmark.analysis.across_datasets import Across
from cellular_bench.reports.figures.canvas import Figure, as_vectors, new_canvas, plain
from cellular_bench.reports.tables.across_datasets import rank_verdict, standing_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


#: The most methods in a diagram.
MOST_LINES: Final = 60


def rank_canvas(group: Across) -> Canvas:
    """Draw average ranks, the best at the left; a bar joins methods that do not differ significantly.

    Of many methods the best ones are drawn.
    """
    named = zip(group.standings, standing_names(group), strict=True)
    ordered = sorted(named, key=lambda pair: (pair[0].mean_rank, pair[1]))
    ordered = ordered[:MOST_LINES]
    ranks = [standing.mean_rank for standing, _ in ordered]
    groups = [
        (start, min(stop, len(ordered))) for start, stop in group.test.groups if start < len(ordered) - 1
    ]
    canvas = new_canvas(6.4, 1.0 + 0.22 * (len(ordered) + len(groups)))
    ax = canvas.subplots()
    for depth, (standing, name) in enumerate(ordered, 1):
        rank = standing.mean_rank
        ax.plot([rank, rank], [0, -depth], color="#9A9A9A", linewidth=0.8)
        ax.plot(rank, 0, "o", color="#1d5c9e", markersize=4)
        ax.annotate(f" {plain(name)} ({rank:.2f})", (rank, -depth), fontsize=8)
    for height, (start, stop) in enumerate(groups, 1):
        ends = (ranks[start], ranks[stop - 1])
        ax.plot(ends, [height * 0.6] * 2, color="#1b2026", linewidth=3, solid_capstyle="round")
    ax.set_xlim(0.8, ranks[-1] + 2.5)
    ax.set_ylim(-len(ordered) - 1.2, 0.6 * len(groups) + 0.8)
    ax.xaxis.tick_top()
    ax.set_xticks(range(1, int(ranks[-1]) + 2, 1 + len(ordered) // 20))
    ax.tick_params(labelsize=8)
    ax.set_yticks([])
    ax.spines[["left", "right", "bottom"]].set_visible(False)
    return canvas


def rank_figure(group: Across) -> Figure | None:
    """Draw average ranks for the page; None if they could not be tested."""
    if group.test.critical_difference is None:
        return None
    return Figure(
        kind="ranks",
        caption="Average rank over data sets, the best at the left. A bar joins methods that do not differ "
        "significantly.",
        data=as_vectors(rank_canvas(group)),
        alt=f"Average ranks; the table has the numbers. {rank_verdict(group)}",
    )
