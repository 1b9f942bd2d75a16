"""Figures behind single numbers: curves of all methods of a board, samples of one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from cellular_bench.benchmark.analysis.curves import Curve, Sample, by_threshold
from cellular_bench.core.errors import UserError
from cellular_bench.reports.figures.canvas import COLOURS, Figure, as_webp, label_axes, new_canvas, plain
from cellular_bench.reports.tables.formatting import number, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Curves that a figure shows at most; the tables have every method.
MOST_CURVES: Final = 14
STYLES: Final = ("-", "--", ":", "-.")


def novelty_curves_figure(roc: Mapping[str, Curve], precision_recall: Mapping[str, Curve]) -> Figure:
    """Draw both curves of novelty detection, a line per method; UserError if there is none.

    Curves are given by the name of the method, averaged over its runs.
    """
    names = _largest(roc)
    canvas = new_canvas(8.0, 3.6)
    left, right = canvas.subplots(1, 2)
    _lines(left, roc, names)
    left.plot([0, 1], [0, 1], color="#9A9A9A", linewidth=0.8, linestyle=":")
    label_axes(left, "known cells called novel", "novel cells found", title="ROC")
    _lines(right, precision_recall, names)
    label_axes(right, "novel cells found", "novel among called novel", title="Precision and recall")
    right.set_ylim(-0.03, 1.03)
    _legend(canvas, left)
    areas = [f"{name} {number(_area(roc[name]))}" for name in names[:3]]
    return Figure(
        kind="curves",
        caption="Cells called novel at every threshold, averaged over splits, held-out labels and seeds. "
        f"{_some(len(names), len(roc))}",
        data=as_webp(canvas),
        alt=f"ROC and precision-recall curves of {plural(len(names), 'method')}. Largest areas under the ROC "
        f"curve: {', '.join(areas)}.",
    )


def risk_figure(curves: Mapping[str, Curve]) -> Figure:
    """Draw wrong labels against the share of cells that are labelled; UserError without a method."""
    names = _largest({name: Curve(x=curve.x, y=1 - curve.y) for name, curve in curves.items()})
    canvas = new_canvas(6.4, 3.6)
    ax = canvas.subplots()
    _lines(ax, curves, names)
    ax.set_ylim(bottom=0)
    label_axes(ax, "cells labelled, the surest first", "wrong among them", title="Risk and coverage")
    _legend(canvas, ax)
    half = {name: float(np.interp(0.5, curves[name].x, curves[name].y)) for name in names[:3]}
    shares = ", ".join(f"{name} {share:.1%}" for name, share in half.items())
    return Figure(
        kind="curves",
        caption="Share of wrong labels among the cells with the most confident predictions, averaged over "
        "splits and seeds; all cells at the right. Rejected cells come last and count as wrong. Methods "
        "without probabilities have no curve. "
        f"{_some(len(names), len(curves))}",
        data=as_webp(canvas),
        alt=f"Risk-coverage curves of {plural(len(names), 'method')}. Wrong in the surer half: {shares}.",
    )


def samples_figure(samples: Sequence[Sample], *, threshold: float, title: str) -> Figure:
    """Draw how the CELLULAR study judges samples: by the lowest likelihood of any of their cells.

    At the left precision and coverage against the threshold, with that of the study marked; at the right the
    lowest likelihood of known and novel cells of each run, by the label that was held out. UserError if there
    is no sample.
    """
    if not samples:
        raise UserError("There is no sample: nothing can be drawn.")
    labels = sorted({sample.held_out for sample in samples})
    canvas = new_canvas(8.0, max(3.2, 1.2 + 0.2 * len(labels)))
    left, right = canvas.subplots(1, 2)
    precision, coverage = by_threshold(samples)
    left.plot(precision.x, precision.y, color=COLOURS[0], label="precision")
    left.plot(coverage.x, coverage.y, color=COLOURS[1], linestyle="--", label="coverage")
    label_axes(left, "threshold on the lowest likelihood", "share of samples", title="Samples called novel")
    left.set_ylim(-0.03, 1.03)
    left.legend(frameon=False, fontsize=8)
    for place, label in enumerate(labels):
        mine = [sample for sample in samples if sample.held_out == label]
        right.plot([s.known for s in mine], [place] * len(mine), "o", color=COLOURS[0], markersize=4)
        right.plot([s.novel for s in mine], [place] * len(mine), "^", color=COLOURS[5], markersize=4)
    right.plot([], [], "o", color=COLOURS[0], label="known cells")
    right.plot([], [], "^", color=COLOURS[5], label="cells of the held-out label")
    right.set_yticks(range(len(labels)), [plain(label) for label in labels])
    right.set_xlim(-0.03, 1.03)
    label_axes(right, "lowest likelihood of a run", "", title="Lowest likelihood")
    right.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    for ax in (left, right):
        ax.axvline(threshold, color="#9A9A9A", linewidth=0.8, linestyle=":")
    canvas.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    right_calls = int(sum(sample.novel < threshold for sample in samples))
    wrong_calls = int(sum(sample.known < threshold for sample in samples))
    return Figure(
        kind="samples",
        caption=f"{title}. A sample is called novel if its lowest likelihood is below the threshold; "
        f"the dotted line is the study's, {threshold:g}.",
        data=as_webp(canvas),
        alt=f"At {threshold:g}, {title} calls {right_calls} of {len(samples)} samples with a held-out label "
        f"novel, and {wrong_calls} of {len(samples)} without.",
    )


def _largest(curves: Mapping[str, Curve]) -> list[str]:
    """Return the names of the curves with the largest areas, the largest first."""
    if not curves:
        raise UserError("No method has a curve: nothing can be drawn.")
    return sorted(curves, key=lambda name: (-_area(curves[name]), name))[:MOST_CURVES]


def _area(curve: Curve) -> float:
    return float(np.trapezoid(curve.y, curve.x))


def _lines(ax: Axes, curves: Mapping[str, Curve], names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        colour, style = COLOURS[place % len(COLOURS)], STYLES[place // len(COLOURS) % len(STYLES)]
        curve = curves[name]
        ax.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=1.3, label=plain(name))


def _legend(canvas: Canvas, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)


def _some(shown: int, n: int) -> str:
    return f"The {shown} best of {n} are drawn." if shown < n else ""
