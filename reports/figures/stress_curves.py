"""The overall score of each method as the data get harder, as a chart of lines."""

from __future__ import annotations

import math

from cellular_bench.reports.figures.canvas import (
    COLOURS,
    MARKERS,
    Figure,
    as_webp,
    label_axes,
    new_canvas,
    plain,
)
from cellular_bench.reports.tables.stress_levels import StressSeries

#: Lines that a chart shows at most; the table has every method.
MOST_LINES = 12


def stress_figure(series: StressSeries) -> Figure:
    """Draw the lines of a series."""
    n = sum(any(line.scores) for line in series.lines)
    which = "method" if n <= MOST_LINES else f"of the {MOST_LINES} best of {n} methods"
    return Figure(
        kind="stress",
        caption="Mean of the overall score over splits and seeds, with one standard deviation; the hardest "
        "level at the right. Methods that are incomplete at a level have no point there.",
        data=_picture(series),
        alt=f"Overall score against the {series.unit}, a line for each {which}; the table has the numbers.",
    )


def _picture(series: StressSeries) -> bytes:
    canvas = new_canvas(6.4, 3.6)
    ax = canvas.subplots()
    drawn = [line for line in series.lines if any(line.scores)][:MOST_LINES]
    for i, line in enumerate(drawn):
        known = [(x, s) for x, s in zip(series.levels, line.scores, strict=True) if s is not None]
        ax.errorbar(
            [x for x, _ in known],
            [s.mean if s.mean is not None else math.nan for _, s in known],
            yerr=[s.std or 0.0 for _, s in known], label=plain(line.name),
            color="#9A9A9A" if line.is_control else COLOURS[i % len(COLOURS)],
            marker=MARKERS[(i // len(COLOURS) + i) % len(MARKERS)],
            linestyle=":" if line.is_control else "-", markersize=4, linewidth=1.2, capsize=2,
        )  # fmt: skip
    label_axes(ax, series.unit, "overall score", size=9)
    if series.levels[0] > series.levels[-1]:
        ax.invert_xaxis()
    if drawn:
        canvas.legend(loc="outside right upper", fontsize=7, frameon=False)
    return as_webp(canvas)
