"""Figures, and the canvases they are drawn on.

Nothing is drawn through ``pyplot``'s list of open figures: each picture has its own canvas, so that a program
that draws elsewhere keeps its state. Lines and names are written as vectors, many points as pixels.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cellular_bench.core.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Okabe and Ito's colours, without the yellow that is lost on white and the black of the text.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A7A7A")
#: Colour and shape together mark a group: 7 x 6 pairs; the number beside it says the same.
MARKERS: Final = ("o", "^", "s", "D", "v", "P")

#: The most characters of a name in a drawing.
MOST_DRAWN: Final = 24

FigureKind = Literal[
    "embedding", "confusion", "history", "curves", "samples", "cost", "ranks", "stress", "settings"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture for a report: a PNG, WebP or SVG file; empty if it could not be drawn, as the caption says.

    The caption says which run and which cells it shows, ``alt`` what there is to see, if that is more.
    ``method_id`` is empty if it shows all methods of the board.
    """

    kind: FigureKind
    caption: str
    data: bytes
    alt: str = ""
    board_id: str = ""
    method_id: str = ""


def new_canvas(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained"
) -> Canvas:
    """Return an empty drawing of a size in inches.

    Without a layout a drawing of one panel takes two thirds of the time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    canvas = MatplotlibFigure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(canvas)
    return canvas


def _saved(canvas: Canvas, **how: Any) -> bytes:
    from matplotlib.text import Text

    for text in canvas.findobj(Text):
        text.set_parse_math(False)
    data = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, and one may leave no room: tables have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing|constrained_layout not applied")
        canvas.savefig(data, bbox_inches="tight", **how)
    return data.getvalue()


def as_webp(canvas: Canvas) -> bytes:
    """Return a drawing as a small file of pixels."""
    return _saved(canvas, format="webp", pad_inches=0.12, pil_kwargs={"quality": 78, "method": 5})


def as_vectors(canvas: Canvas, kind: Literal["svg", "pdf"] = "svg") -> bytes:
    """Return a drawing as vectors, the same for the same drawing; text stays text."""
    from matplotlib import rc_context

    undated = {"Date": None} if kind == "svg" else {"CreationDate": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "cellular-bench", "pdf.fonttype": 42}):
        return _saved(canvas, format=kind, pad_inches=0.12, metadata=undated)


def as_png(canvas: Canvas) -> bytes:
    """Return a drawing as pixels, 300 to the inch."""
    return _saved(canvas, format="png", dpi=300, pad_inches=0.05)


def label_axes(ax: Axes, x: str, y: str = "", *, title: str = "", size: int = 8) -> None:
    """Write the labels of two axes, and leave out the lines at the top and at the right."""
    if title:
        ax.set_title(title, loc="left", fontsize=size + 2)
    ax.set_xlabel(x, fontsize=size)
    ax.set_ylabel(y, fontsize=size)
    ax.tick_params(labelsize=size - 1)
    ax.spines[["top", "right"]].set_visible(False)


def plain(name: str) -> str:
    """Shorten a name for a drawing, in one line in which everything can be seen.

    A legend leaves out names that begin with an underscore; a space before it keeps them.
    """
    text = one_line(name)
    short = text if len(text) <= MOST_DRAWN else text[: MOST_DRAWN - 1] + "…"
    return f" {short}" if short.startswith("_") else short
