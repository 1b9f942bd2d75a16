"""Groups of cells that are too small to be scored: one stray cell must not count as much as a donor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Default of the least size: a share of fewer cells moves by more than a tenth with a single one of them.
MIN_CELLS: Final = 10


def stray(sizes: Mapping[str, int], min_cells: int = MIN_CELLS, *, n_kept: int = 1) -> dict[str, int]:
    """Return the groups that are too small beside the others, with their sizes.

    A group is stray if it has fewer than ``min_cells`` cells, and fewer than half as many as the group of
    the median cell: half of all cells are in groups of that size or larger. So data of small groups alone
    keep them all.

    Parameters
    ----------
    sizes
        Number of cells of each batch, or of each set of scored cells.
    min_cells
        1: no group is stray.
    n_kept
        No group is stray if fewer than so many others would be left.

    Examples
    --------
    >>> stray({"d1": 90, "d2": 110, "d3": 100, "d4": 1})
    {'d4': 1}
    >>> stray({"d1": 8, "d2": 7, "d3": 9})
    {}
    """
    seen, half = 0, sum(sizes.values()) / 2
    usual = 0
    for usual in sorted(sizes.values()):
        seen += usual
        if seen >= half:
            break
    found = {name: n for name, n in sizes.items() if n < min_cells and 2 * n < usual}
    return found if len(sizes) - len(found) >= n_kept else {}


def stray_batches(sizes: Mapping[str, int], min_cells: int = MIN_CELLS) -> dict[str, int]:
    """Return the batches that metrics leave out, by name: those that are stray, if two others are left.

    Examples
    --------
    >>> stray_batches({"d1": 50, "d2": 50, "d3": 1}), stray_batches({"d1": 50, "d2": 1})
    ({'d3': 1}, {})
    """
    return stray(dict(sorted(sizes.items())), min_cells, n_kept=2)


def in_words(sizes: Mapping[str, int], *, most: int = 5) -> str:
    """Write groups with their sizes.

    Examples
    --------
    >>> in_words({"d4": 1, "d5": 3})
    "'d4' (1), 'd5' (3)"
    """
    shown = [f"'{name}' ({n})" for name, n in list(sizes.items())[:most]]
    return ", ".join(shown + (["..."] if len(sizes) > most else []))
