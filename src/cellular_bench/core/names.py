"""Lists of names in one text, whose names can contain commas."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable


def listed(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas; a name with commas or outer spaces stands in double quotes.

    Raises
    ------
    csv.Error
        If a quote is not closed.

    Examples
    --------
    >>> listed('B cell, "CD4-positive, alpha-beta T cell"')
    ('B cell', 'CD4-positive, alpha-beta T cell')
    """
    parts = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(part for part in (parts if '"' in text else map(str.strip, parts)) if part)


def among(texts: Iterable[str], known: Collection[str]) -> list[str]:
    """Return the names that texts list, where a name that is known as a whole is not split.

    What is no known name is split at commas and joined to the longest known names; if that leaves a rest, all
    parts are returned.

    Examples
    --------
    >>> among(["CD4-positive, alpha-beta T cell, B cell"], ["B cell", "CD4-positive, alpha-beta T cell"])
    ['CD4-positive, alpha-beta T cell', 'B cell']
    >>> among(["B cell,NK"], ["B cell"])
    ['B cell', 'NK']
    """
    by_parts = {_parts(name): name for name in known}
    found: list[str] = []
    for text in texts:
        if text in known:
            found.append(text)
        else:
            parts = listed(text)
            found += (None if '"' in text else _joined(parts, by_parts)) or parts
    return list(dict.fromkeys(found))


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in name.split(","))


def _joined(parts: tuple[str, ...], by_parts: dict[tuple[str, ...], str]) -> list[str] | None:
    """Return known names that the parts make, the longest first; None if they make none."""
    # The names that the parts from each place on make, from the last place to the first.
    made: list[list[str] | None] = [None] * len(parts) + [[]]
    for start in range(len(parts) - 1, -1, -1):
        for end in range(len(parts), start, -1):
            name, rest = by_parts.get(parts[start:end]), made[end]
            if name is not None and rest is not None:
                made[start] = [name, *rest]
                break
    return made[0]
