"""The table that every format of a report is written from: typed cells, and why one is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from itertools import groupby
from typing import Final, Literal

from cellular_bench.benchmark.analysis.leaderboard import Summary, Track
from cellular_bench.reports.tables.formatting import doi_url, number, plural, quantity, spread

MISSING: Final = "–"
#: Rows of a table besides controls, and controls: a browser must be able to show it.
MOST_ROWS: Final = 200
MOST_CONTROLS: Final = 50
ALL_ROWS: Final = "scores.csv has every run, Results.leaderboard() in Python every method."
#: Columns of a table, such as labels.
MOST_COLUMNS: Final = 100
#: Mark of a method that :func:`~cellular_bench.benchmark.analysis.leaderboard.is_transductive`.
TRANSDUCTIVE: Final = "transductive"

#: Mark of a method that agrees with permuted labels beyond chance.
LEAK: Final = "knows hidden labels"
#: Mark of a row whose method was given the names of cells.
SAW_NAMES: Final = "saw cell names"
#: Mark of a pretrained model where the cells are not newer than its training data.
MAY_HAVE_SEEN: Final = "may have seen these cells"

#: ``bar`` and ``heat`` are scores: numbers with their place between the ends of a range, as a bar or a shade.
ColumnKind = Literal["text", "wide", "code", "number", "bar", "heat"]
Emphasis = Literal["", "mild", "strong"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    ``hint`` says what the numbers mean (a tooltip on the page), ``group`` is a title over neighbouring
    columns, ``sub`` a second line of the title, ``best`` the end that sorts first. The page's script writes
    to columns with a ``key``.
    """

    title: str
    kind: ColumnKind = "number"
    _: KW_ONLY
    hint: str = ""
    group: str = ""
    sub: str = ""
    best: Literal["high", "low"] = "high"
    key: str = ""
    href: str = ""

    @property
    def is_score(self) -> bool:
        """True if reasons of missing values become notes below the table."""
        return self.kind in ("bar", "heat")

    @property
    def is_words(self) -> bool:
        """True if it holds words, not numbers."""
        return self.kind in ("text", "wide", "code")


@dataclass(frozen=True, slots=True)
class Cell:
    """One value as text.

    Attributes
    ----------
    sort
        The number to sort by; None sorts last.
    detail, count
        Standard deviation, confidence interval or the like; how many runs have a value, unless all have.
    share
        0 (worst end of the range) to 1 (best end), for bars and shades; None for neither.
    reason, note
        Why a value or part of it is missing; number of the note that says so, see :func:`with_notes`.
    approximate
        Which approximations the value rests on; empty if it is exact.
    fold
        Title and lines of a text that the page shows on demand.
    below
        A second value in the same place, such as our score under a published one.
    """

    text: str
    _: KW_ONLY
    sort: float | None = None
    detail: str = ""
    count: str = ""
    share: float | None = None
    reason: str = ""
    note: int | None = None
    approximate: str = ""
    emphasis: Emphasis = ""
    href: str = ""
    fold: tuple[str, tuple[str, ...]] | None = None
    below: Cell | None = None

    @property
    def is_missing(self) -> bool:
        """True if there is no value."""
        return self.text == MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that may be compared with one another."""

    key: str
    title: str
    meaning: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: its name, then a cell for each column.

    ``detail`` distinguishes it from other rows of the same name; ``remark`` says why it is not ranked, or
    what is odd about it. The page sorts and filters rows with a ``track`` and a ``method_id``. ``scales`` is
    JSON for other scales and weights: for each scale the aspect scores of every split, and what their
    standard deviation is multiplied with for half of the confidence interval (null for a single split).
    """

    name: str
    cells: tuple[Cell, ...]
    _: KW_ONLY
    group: Group | None = None
    detail: str = ""
    badges: tuple[str, ...] = ()
    remark: str = ""
    href: str = ""
    row_id: str = ""
    method_id: str = ""
    track: Track | Literal[""] = ""
    scales: str = ""

    @property
    def full_name(self) -> str:
        """The name with its detail, and the marks that a reader of any table has to know."""
        shown = (mark for mark in (TRANSDUCTIVE, MAY_HAVE_SEEN, LEAK) if mark in self.badges)
        return marked(self.name, self.detail, *shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """A list of sentences below a table; the numbers of a numbered one stand in its cells."""

    title: str
    items: tuple[str, ...]
    lead: str = ""
    is_numbered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a report, the same for the page, Markdown, LaTeX and JSON.

    ``lead`` says what it shows, ``caption`` what the numbers are, ``head`` is the title of the column of
    names, and ``task`` the task that it belongs to if it is not part of a board. The page folds tables of one
    ``fold_title`` together. Of the kinds, ``"ranking"``
    is ranked again by the page's script, with its first column before the names; ``"dense"`` has many narrow
    columns.
    """

    table_id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    lead: str = ""
    caption: str = ""
    head: str = "Method"
    kind: Literal["ranking", "dense", "plain"] = "plain"
    remarks: tuple[Remarks, ...] = ()
    task: str = ""
    fold_title: str = ""

    @property
    def is_of_methods(self) -> bool:
        """True if rows are methods in their tracks."""
        return any(row.track for row in self.rows)

    @property
    def groups(self) -> tuple[tuple[Group | None, tuple[TableRow, ...]], ...]:
        """Rows by their group, in order."""
        return tuple((group, tuple(rows)) for group, rows in groupby(self.rows, lambda row: row.group))

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """Titles over neighbouring columns, each with the number of columns below it; empty without any."""
        runs = tuple((title, len(list(run))) for title, run in groupby(c.group for c in self.columns))
        return runs if any(title for title, _ in runs) else ()


def limited(table: Table, most: int = MOST_ROWS) -> Table:
    """Return the table with its first ``most`` rows, as many of each group, and a count of the others.

    The first rows of a group are its best ones. Controls come on top of that, at most :data:`MOST_CONTROLS`.
    """
    places: Counter[Group | None] = Counter()
    order = []
    for at, row in enumerate(table.rows):
        order.append((places[row.group], at, row.track == "control"))
        places[row.group] += 1
    order.sort()
    kept = [at for _, at, is_control in order if not is_control][:most]
    kept += [at for _, at, is_control in order if is_control][:MOST_CONTROLS]
    n_left = len(table.rows) - len(kept)
    if not n_left:
        return table
    rows = "methods" if table.is_of_methods else "rows"
    left = Remarks(title="Not shown", items=(f"{n_left:,} more {rows} are left out here. {ALL_ROWS}",))
    return replace(table, rows=tuple(table.rows[at] for at in sorted(kept)), remarks=(left, *table.remarks))


def limited_columns(table: Table, most: int = MOST_COLUMNS) -> Table:
    """Return the table with its first ``most`` columns, and a line that counts the others."""
    n_left = len(table.columns) - most
    if n_left <= 0:
        return table
    left = Remarks(title="Not shown", items=(f"{n_left:,} more columns are left out here.",))
    rows = tuple(replace(row, cells=row.cells[:most]) for row in table.rows)
    return replace(table, columns=table.columns[:most], rows=rows, remarks=(left, *table.remarks))


def with_notes(table: Table) -> Table:
    """Return the table with the reasons of missing scores numbered, and listed below it."""
    places: dict[str, dict[str, list[str]]] = {}
    numbers: dict[str, int] = {}

    def noted(row: TableRow, column: Column, cell: Cell) -> Cell:
        if not column.is_score or not cell.reason:
            return cell
        places.setdefault(cell.reason, {}).setdefault(row.full_name, []).append(column.title)
        return replace(cell, note=numbers.setdefault(cell.reason, len(numbers) + 1))

    rows = tuple(
        replace(row, cells=tuple(noted(row, *pair) for pair in zip(table.columns, row.cells, strict=True)))
        for row in table.rows
    )
    n_scores = sum(column.is_score for column in table.columns)
    items = tuple(f"{reason} ({'; '.join(_places(by_row, n_scores))})" for reason, by_row in places.items())
    notes = Remarks(title="Missing values", items=items, is_numbered=True)
    return replace(table, rows=rows, remarks=(notes, *table.remarks)) if items else table


def _places(by_row: Mapping[str, list[str]], n_scores: int) -> Iterable[str]:
    """Write where values are missing, such as ``"Harmony: kBET, iLISI"``."""
    for name, columns in by_row.items():
        everywhere = len(columns) == n_scores > 1
        yield f"{name}: {'every column' if everywhere else ', '.join(columns)}"


def marked(name: str, *marks: str) -> str:
    """Write a name with what distinguishes it from others, in brackets."""
    words = ", ".join(filter(None, marks))
    return f"{name} ({words})" if words else name


def columns(kind: ColumnKind, *titles: str) -> tuple[Column, ...]:
    """Return columns of one kind that need no more than their titles."""
    return tuple(Column(title, kind) for title in titles)


def missing(reason: str) -> Cell:
    """Return a cell without a value, and why."""
    return Cell(MISSING, reason=reason)


def number_cell(value: float, detail: str = "") -> Cell:
    """Return a score."""
    return Cell(number(value), sort=value, detail=detail)


def count_cell(value: int) -> Cell:
    """Return a whole number."""
    return Cell(f"{value:,}", sort=value)


def score_cell(summary: Summary, n_runs: int, share: float | None) -> Cell:
    """Return a mean with its deviation; the reason says how many runs lack a value, and why."""
    reason = "; ".join(f"{n} of {plural(n_runs, 'run')}: {why}" for why, n in summary.reasons.items())
    if summary.mean is None:
        return missing(reason or "no run has a value")
    return replace(
        number_cell(summary.mean, spread(summary)),
        count=f"{summary.n} of {n_runs}" if summary.n < n_runs else "",
        share=None if share is None else min(1.0, max(0.0, share)),
        reason=reason,
    )


def cost_cell(summary: Summary) -> Cell:
    """Return a mean cost with its deviation."""
    if summary.mean is None:
        return missing("no run recorded it")
    detail = f"± {quantity(summary.std)}" if summary.std is not None else ""
    return Cell(quantity(summary.mean), sort=summary.mean, detail=detail)


def doi_cell(doi: str | None) -> Cell:
    """Return a reference with a link."""
    return Cell(doi, href=doi_url(doi)) if doi else Cell("none given")
