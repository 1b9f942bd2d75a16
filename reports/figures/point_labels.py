"""Names beside the points of a drawing, without overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.reports.figures.canvas import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 7
HEIGHT = 1.15 * SIZE
#: Half the side of the square that a point takes.
REACH = 3.5
#: Where a name may lie: distances from its point, and directions, the upper right first. In points of print.
DISTANCES = (5.0, 12.0, 20.0, 30.0, 42.0, 56.0)
DIRECTIONS = ((1.0, 0.5), (1.0, -0.7), (-1.0, 0.5), (-1.0, -0.7), (0.0, 1.6), (0.0, -1.6))
#: From here on a thin line leads from the point to its name.
NEAR = 10.0


def place_names(
    ax: Axes,
    xy: NDArray[np.floating[Any]],
    names: Sequence[str],
    *,
    bold: Sequence[bool],
    halo: bool = False,
) -> None:
    """Write names beside their points, the ones in bold first, each at the nearest place that is free.

    If no place is free, it is the one that covers least. Points are (n_points, 2), in data coordinates; axes
    must have their scales. A ``halo`` sets names off from other drawings.
    """
    from matplotlib.patheffects import withStroke

    names = list(map(plain, names))
    effects = [withStroke(linewidth=2.2, foreground="white")] if halo else None
    ax.autoscale_view()  # limits wait until the drawing is drawn
    scale = 72 / ax.figure.dpi
    at = ax.transData.transform(xy) * scale
    left, bottom, right, top = np.asarray(ax.bbox.extents) * scale
    taken = np.column_stack([at - REACH, at + REACH])
    for i in sorted(range(len(names)), key=lambda i: (not bold[i], -at[i, 1], at[i, 0])):
        width = _width(names[i], bold=bold[i])
        inside = [
            (box, distance) for distance, box in _places(at[i], width)
            if left <= box[0] and box[2] <= right + width / 2 and bottom <= box[1] and box[3] <= top + HEIGHT
        ] or [(box, distance) for distance, box in _places(at[i], width)]  # fmt: skip
        covered = [_overlap(box, taken) for box, _ in inside]
        box, distance = inside[int(np.argmin(covered))]
        taken = np.vstack([taken, box])
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "#7A7A7A", "shrinkA": 0, "shrinkB": 2}
        ax.annotate(
            names[i],
            tuple(xy[i]),
            xytext=((box[0] - at[i, 0]), (box[1] - at[i, 1])),
            textcoords="offset points",
            fontsize=SIZE,
            weight="bold" if bold[i] else "normal",
            arrowprops=line if distance > NEAR else None,
            path_effects=effects,
        )


def _places(point: NDArray[np.float64], width: float) -> list[tuple[float, NDArray[np.float64]]]:
    """Return the boxes that a name may take, the nearest first, with their distances from the point."""
    places = []
    for distance, (right, up) in product(DISTANCES, DIRECTIONS):
        middle_y = point[1] + up * distance
        start = {1.0: 0.0, -1.0: -width, 0.0: -width / 2}[right] + right * distance + point[0]
        box = np.array([start, middle_y - HEIGHT / 2, start + width, middle_y + HEIGHT / 2])
        places.append((distance, box))
    return places


def _overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the area of a box that others cover, with what several cover counted for each."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(np.prod(np.clip(sides, 0, None), axis=1).sum())


def _width(name: str, *, bold: bool) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(weight="bold" if bold else "normal", size=SIZE)
    width, _, _ = text_to_path.get_text_width_height_descent(name, font, ismath=False)
    return float(width) + 1
