"""Figures of one run: its embedding and its confusion matrix, small enough to travel inside a page.

Nothing is drawn through ``pyplot``: figures belong to their own canvas, so that a program that
draws elsewhere keeps its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FigureKind = Literal["embedding", "confusion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture for a board of the report.

    Attributes
    ----------
    kind
        What it shows.
    board_id, method_id
        Where it belongs.
    caption
        What a reader must know: which run, which cells.
    data
        PNG, WebP or SVG file.
    alt
        What it shows, for readers who do not see it; the caption where empty.
    """

    kind: FigureKind
    board_id: str
    method_id: str
    caption: str
    data: bytes
    alt: str = ""
