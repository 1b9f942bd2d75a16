"""What tables are made of: numbers as text, and the reasons of those that are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from cellular_bench.benchmark.analysis.leaderboard import Summary, Track

MISSING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its title, what hovering says, and which end of it is good.

    Attributes
    ----------
    best
        Which end sorts first on the first click.
    key
        Fixed name of a column that the page's script writes to; empty for others.
    """

    title: str
    hint: str = ""
    group: str = ""
    best: Literal["high", "low"] = "high"
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number as text.

    Attributes
    ----------
    sort
        What the column is sorted by; None sorts last.
    detail
        Standard deviation or confidence interval.
    count
        How many runs have a value, where not all have.
    share
        0 (worst end of the range) ... 1 (best end), for shading; None for no shading.
    note
        Number of the footnote that says why something is missing; None where nothing is.
    reason
        The same in words.
    approximate
        What the value is not exact for; empty where it is.
    """

    text: str
    sort: float | None = None
    detail: str = ""
    count: str = ""
    share: float | None = None
    note: int | None = None
    reason: str = ""
    approximate: str = ""


#: Mark of a method that :func:`~cellular_bench.benchmark.analysis.leaderboard.is_transductive`.
TRANSDUCTIVE = "transductive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One method in a table.

    Attributes
    ----------
    anchor
        The ``id`` of its entry among the methods.
    detail
        What tells it from another row of the same name.
    remark
        Why it is not ranked, or what is odd about it.
    scales
        For other scales and weights, as JSON: for each scale the aspect scores of every split, and what their
        standard deviation is multiplied with for half of the confidence interval (null for a single split).
    """

    name: str
    method_id: str
    anchor: str
    detail: str
    track: Track
    badges: tuple[str, ...]
    remark: str
    cells: tuple[Cell, ...]
    scales: str = ""

    @property
    def marked_name(self) -> str:
        """The name with what tells it from others of that name, and the mark of transductive methods."""
        told = (self.detail, TRANSDUCTIVE if TRANSDUCTIVE in self.badges else "")
        told_in_words = ", ".join(filter(None, told))
        return f"{self.name} ({told_in_words})" if told_in_words else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that may be compared with one another."""

    key: str
    title: str
    meaning: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A reason for missing values, and where they are missing."""

    number: int
    reason: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of methods."""

    table_id: str
    kind: Literal["ranking", "metrics", "labels", "robustness"]
    title: str
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    notes: tuple[Note, ...] = ()
    board_id: str = ""

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """Titles over neighbouring columns, each with the number of columns below it."""
        return tuple((title, len(list(run))) for title, run in groupby(c.group for c in self.columns))


@dataclass(slots=True)
class Notes:
    """Collects reasons and numbers them in order of appearance."""

    _places: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(dict))

    def number(self, reason: str, method: str, column: str) -> int:
        """Return the number of a reason, and remember where it applies."""
        self._places[reason].setdefault(method, []).append(column)
        return list(self._places).index(reason) + 1

    def all(self, n_columns: int) -> tuple[Note, ...]:
        """Every reason with its places, such as ``"Harmony: kBET, iLISI"``."""

        def where(method: str, columns: Sequence[str]) -> str:
            everywhere = len(columns) == n_columns > 1
            return f"{method}: {'every column' if everywhere else ', '.join(columns)}"

        return tuple(
            Note(
                number=number,
                reason=reason,
                places=tuple(where(method, columns) for method, columns in places.items()),
            )
            for number, (reason, places) in enumerate(self._places.items(), 1)
        )


def number(value: float, digits: int = 3) -> str:
    """Write a score: fixed decimals and a true minus sign.

    Examples
    --------
    >>> number(-0.12345)
    '−0.123'
    """
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def quantity(value: float) -> str:
    """Write seconds or mebibytes: about three digits, thousands apart.

    Examples
    --------
    >>> quantity(0.1234), quantity(12.34), quantity(12345.6)
    ('0.12', '12.3', '12,346')
    """
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``"1 run"``, ``"2 runs"``, ``"3 batches"``."""
    ending = "es" if noun.endswith(("ch", "s")) else "s"
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{ending}"


def reason_text(reasons: Mapping[str, int], n_runs: int) -> str:
    """Write why values are missing: ``"2 of 4 runs: one batch only"``."""
    return "; ".join(f"{count} of {plural(n_runs, 'run')}: {reason}" for reason, count in reasons.items())


def score_cell(summary: Summary, n_runs: int, share: float | None, note: tuple[Notes, str, str]) -> Cell:
    """Write a mean with its deviation; say how many runs lack a value, and why."""
    notes, method, column = note
    reason = reason_text(summary.reasons, n_runs)
    place = notes.number(reason, method, column) if reason else None
    if summary.mean is None:
        return Cell(text=MISSING, note=place, reason=reason or "no run has a value")
    return Cell(
        text=number(summary.mean),
        sort=summary.mean,
        detail=f"± {number(summary.std)}" if summary.std is not None else "",
        count=f"{summary.n} of {n_runs}" if summary.n < n_runs else "",
        share=None if share is None else min(1.0, max(0.0, share)),
        note=place,
        reason=reason,
    )


def bounds(low: float, high: float) -> str:
    """Write a confidence interval of a score; what lies beyond 0 and 1, where no score is, is cut off.

    Examples
    --------
    >>> bounds(0.51, 1.02)
    '[0.510, 1.000]'
    """
    return f"[{number(max(low, 0.0))}, {number(min(high, 1.0))}]"


def cost_cell(summary: Summary) -> Cell:
    """Write a mean cost with its deviation."""
    if summary.mean is None:
        return Cell(text=MISSING, reason="no run recorded it")
    detail = f"± {quantity(summary.std)}" if summary.std is not None else ""
    return Cell(text=quantity(summary.mean), sort=summary.mean, detail=detail)
