"""Score against cost: which methods are worth their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cellular_bench.benchmark.analysis.leaderboard import RANKED, Board, method_key
from cellular_bench.reports.figures.canvas import COLOURS, MARKERS, Figure, as_vectors, label_axes, new_canvas
from cellular_bench.reports.figures.point_labels import place_names
from cellular_bench.reports.tables.formatting import number, quantity
from cellular_bench.reports.tables.method_rows import full_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


#: Points with a name; those that no other beats come first.
MOST_NAMED: Final = 40


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
    names = full_names(board)
    ranked = [
        (seconds, row.overall.mean, row.track, names[method_key(row.method)])
        for row in board.rows
        if row.rank is not None
        and (seconds := row.cpu_time_s.mean or 0.0) > 0
        and row.overall.mean is not None
    ]
    made = []
    # The best of each track so far; among equally quick ones the best comes first.
    best: dict[str, tuple[float, float]] = {}
    for seconds, score, track, name in sorted(ranked, key=lambda item: (item[0], -item[1])):
        quicker = best.get(track)
        is_efficient = quicker is None or score > quicker[1] or (seconds, score) == quicker
        if is_efficient:
            best[track] = seconds, score
        made.append(Point(name=name, track=track, seconds=seconds, score=score, is_efficient=is_efficient))
    return tuple(made)


def cost_canvas(board: Board) -> Canvas | None:
    """Draw overall score against CPU time; None with fewer than two methods."""
    shown = points(board)
    if len(shown) < 2:
        return None
    from matplotlib.ticker import LogLocator

    canvas = new_canvas(6.4, 3.6, layout=None)
    ax = canvas.subplots()
    for place, track in enumerate(track for track in RANKED if any(p.track == track for p in shown)):
        mine = [(p.seconds, p.score) for p in shown if p.track == track]
        efficient = [(p.seconds, p.score) for p in shown if p.track == track and p.is_efficient]
        colour = COLOURS[place]
        x, y = zip(*efficient, strict=True)
        ax.plot(x, y, color=colour, linewidth=1, drawstyle="steps-post")
        x, y = zip(*mine, strict=True)
        ax.plot(x, y, MARKERS[place], color=colour, markersize=5, linestyle="", label=track)
    ax.set_xscale("log")
    # As plain text: the usual labels, powers as mathematics, take most of the time of the whole picture.
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.minorticks_off()
    ax.margins(x=0.15)
    label_axes(ax, "CPU time per run, s (logarithmic)", "overall score", size=9)
    named = [point for point in shown if point.is_efficient]
    named = (named + [point for point in shown if not point.is_efficient])[:MOST_NAMED]
    place_names(
        ax,
        np.array([(point.seconds, point.score) for point in named]),
        [point.name for point in named],
        bold=[point.is_efficient for point in named],
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=7, frameon=False)
    return canvas


def cost_figure(board: Board) -> Figure | None:
    """Draw overall score against CPU time for the page; None with fewer than two methods."""
    canvas = cost_canvas(board)
    if canvas is None:
        return None
    best = [p for p in points(board) if p.is_efficient][:MOST_NAMED]
    names = "; ".join(f"{p.name} ({p.track}): {number(p.score)} in {quantity(p.seconds)} s" for p in best)
    return Figure(
        kind="cost",
        caption=f"Overall score against CPU time. No other method of the track is better in both: {names}.",
        data=as_vectors(canvas),
    )
