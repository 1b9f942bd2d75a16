"""Score against cost: which methods are worth their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.benchmark.analysis.leaderboard import Board, method_key
from cellular_bench.reports.figures.canvas import COLOURS, MARKERS, new_canvas, plain
from cellular_bench.reports.figures.point_labels import place_names
from cellular_bench.reports.tables.common import RANKED, display_names
from cellular_bench.reports.tables.model import number, quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A complete method: its mean CPU time per run and its overall score.

    ``is_efficient``: no other method of its track is both as quick and better, or as good and quicker.
    """

    name: str
    track: str
    seconds: float
    score: float
    is_efficient: bool


def points(board: Board) -> tuple[Point, ...]:
    """Return the ranked methods with a known cost, the quickest first."""
    names = display_names(board)
    found = [
        (
            row.track,
            row.cpu_time_s.mean,
            row.overall.mean,
            " ".join(filter(None, names[method_key(row.method)])),
        )
        for row in board.rows
        if row.rank is not None and row.cpu_time_s.mean and row.overall.mean is not None
    ]
    return tuple(
        Point(
            name=name,
            track=track,
            seconds=seconds,
            score=score,
            is_efficient=not any(
                track == other and s <= seconds and q >= score and (s, q) != (seconds, score)
                for other, s, q, _ in found
            ),
        )
        for track, seconds, score, name in sorted(found, key=lambda item: item[1])
    )


def cost_canvas(board: Board) -> Canvas | None:
    """Draw overall score against CPU time; None with fewer than two methods."""
    found = points(board)
    if len(found) < 2:
        return None
    from matplotlib.ticker import LogLocator

    canvas = new_canvas(6.4, 3.6, layout=None)
    ax = canvas.subplots()
    for place, track in enumerate(track for track in RANKED if any(p.track == track for p in found)):
        mine = [point for point in found if point.track == track]
        efficient = [point for point in mine if point.is_efficient]
        colour = COLOURS[place]
        ax.plot(
            [p.seconds for p in efficient],
            [p.score for p in efficient],
            color=colour,
            linewidth=1,
            drawstyle="steps-post",
        )
        ax.plot(
            [p.seconds for p in mine],
            [p.score for p in mine],
            MARKERS[place],
            color=colour,
            markersize=5,
            linestyle="",
            label=track,
        )
    ax.set_xscale("log")
    # As plain text: the usual labels, powers as mathematics, take most of the time of the whole picture.
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.minorticks_off()
    ax.margins(x=0.15)
    ax.set_xlabel("CPU time per run, s (logarithmic)", fontsize=9)
    ax.set_ylabel("overall score", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    place_names(
        ax,
        np.array([(point.seconds, point.score) for point in found]),
        [plain(point.name) for point in found],
        bold=[point.is_efficient for point in found],
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=7, frameon=False)
    return canvas


def cost_in_words(board: Board) -> str:
    """Name the methods that no other of their track beats in both, for readers who do not see the picture."""
    best = [p for p in points(board) if p.is_efficient]
    told = "; ".join(f"{p.name} ({p.track}): {number(p.score)} in {quantity(p.seconds)} s" for p in best)
    return f"Overall score against CPU time. Not beaten in both by another of their track: {told}."
