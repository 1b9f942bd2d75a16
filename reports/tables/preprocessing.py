"""What preprocessing does to scores: default and best settings, every setting, and gaps at equal settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key
from cellular_bench.benchmark.analysis.preprocessing import (
    AtSettings,
    Gap,
    at_settings,
    effective,
    gaps,
    in_words,
)
from cellular_bench.core.types import aspect_title
from cellular_bench.reports.tables.formatting import number, plural, signed
from cellular_bench.reports.tables.method_rows import full_names, method_anchor, overall_spread
from cellular_bench.reports.tables.model import Cell, Column, Remarks, Table, TableRow, count_cell, missing

FOLD: Final = "Preprocessing"
DEFAULT: Final = "default setting"
BEST: Final = "best setting"
#: Gaps that are written as sentences.
MOST_GAPS: Final = 3
EXPLORATORY: Final = (
    "Not ranked. The best setting was chosen on the scores that it is shown with, so it is too good: it is "
    "exploratory, and a new experiment would have to confirm it."
)


def preprocessing_tables(board: Board) -> Iterator[Table]:
    """Yield the tables of a board whose methods have rows at other settings; the others have none."""
    methods = at_settings(board)
    if not methods:
        return
    names = full_names(board)
    yield _extremes(board, methods, names)
    yield _every(board, methods, names)
    found = gaps(board)
    if found:
        yield _equal(board, found, names)


def spread_id(board: Board) -> str:
    """Return the id of the table that the figure of the spread belongs to."""
    return f"{board.board_id}-preprocessing"


def _extremes(board: Board, methods: Iterable[AtSettings], names: Mapping[str, str]) -> Table:
    return Table(
        table_id=spread_id(board),
        title="Default and best setting",
        lead=EXPLORATORY,
        caption="Overall scores over the settings of the preprocessing that a method can have.",
        columns=(
            Column("Default", "bar", hint="Overall score at the default setting"),
            Column("Best", "bar", hint="Overall score at the best setting; exploratory"),
            Column("Best setting", "text", hint="Genes, how they are chosen, and whether they are scaled"),
            Column("Gain", hint="Best minus default"),
            Column("Lowest", "bar", hint="Overall score at the worst setting"),
            Column("Spread", hint="Best minus lowest", best="low"),
            Column("Settings", hint="Complete settings of all that were run"),
        ),
        rows=tuple(_row(one.default, names, _summary(board, one)) for one in methods),
        fold_title=FOLD,
    )


def _summary(board: Board, one: AtSettings) -> tuple[Cell, ...]:
    scores, best, n_rows = one.scores, one.best, 1 + len(one.others)
    default = scores.get(method_key(one.default.method))
    own = missing(one.default.incomplete_because or "no score") if default is None else _bar(default)
    if best is None:
        none = missing("no setting is complete")
        return (own, none, none, none, none, none, Cell(f"0 of {n_rows}", sort=0.0))
    high, low = max(scores.values()), min(scores.values())
    gain = missing("no score at the default setting") if default is None else _signed(high - default)
    return (
        own,
        _bar(high),
        Cell(_words(board, best)),
        gain,
        _bar(low),
        Cell(number(high - low), sort=high - low),
        Cell(f"{len(scores)} of {n_rows}", sort=float(len(scores))),
    )


def _every(board: Board, methods: Iterable[AtSettings], names: Mapping[str, str]) -> Table:
    def rows() -> Iterator[TableRow]:
        for one in methods:
            best = one.best
            for row in (one.default, *one.others):
                setting = row.method.preprocessing
                yield replace(
                    _row(one.default, names, _cells(board, one.default, row)),
                    detail=DEFAULT if setting is None else setting.name,
                    badges=(BEST,) if row is best else (),
                    remark=row.incomplete_because or "",
                )

    return Table(
        table_id=f"{board.board_id}-settings",
        title="Every setting",
        caption="Brackets: 95 % confidence interval of the overall score. The metrics compare with the same "
        "unintegrated cells and genes at every setting.",
        columns=(
            Column("Works on", "text", hint="Genes, how they are chosen, and whether they are scaled"),
            Column("Overall", "bar"),
            Column("Versus default", hint="Difference of the overall score from that at the default setting"),
            *(Column(aspect_title(aspect), "bar") for aspect in board.aspects),
            Column("CPU time, s", hint="Mean of the runs", best="low"),
        ),
        rows=tuple(rows()),
        fold_title=FOLD,
    )


def _cells(board: Board, default: BoardRow, row: BoardRow) -> tuple[Cell, ...]:
    score, own, seconds = row.overall.mean, default.overall.mean, row.cpu_time_s.mean
    return (
        Cell(_words(board, row)),
        missing(row.incomplete_because or "no score") if score is None else _bar(score, overall_spread(row)),
        missing("no score") if score is None or own is None else _signed(score - own),
        *(
            missing("no score") if mean is None else _bar(mean)
            for mean in (row.aspects[aspect].mean for aspect in board.aspects)
        ),
        missing("not measured") if seconds is None else Cell(f"{seconds:.1f}", sort=seconds),
    )


def _equal(board: Board, found: tuple[Gap, ...], names: Mapping[str, str]) -> Table:
    def named(row: BoardRow) -> str:
        return names[method_key(row.method)]

    return Table(
        table_id=f"{board.board_id}-equal-settings",
        title="Gaps at equal settings",
        caption="Methods whose default settings differ. Equal settings: the same genes, chosen the same way, "
        "scaled or not, by the harness or by the method itself. Mean and range over those that both have.",
        head="Better by default",
        columns=(
            Column("Than", "text"),
            Column("Gap by default"),
            Column("Gap at equal settings"),
            Column("Remains", hint="Gap at equal settings as a share of that by default"),
            Column("Equal settings"),
        ),
        rows=tuple(
            TableRow(
                named(gap.better),
                (
                    Cell(named(gap.other)),
                    _signed(gap.at_default),
                    Cell(signed(gap.mean_at_equal), sort=gap.mean_at_equal, detail=_range(gap)),
                    Cell(f"{gap.share_remaining:.0%}", sort=gap.share_remaining),
                    count_cell(len(gap.at_equal)),
                ),
            )
            for gap in found
        ),
        remarks=(
            Remarks(
                title="In words",
                items=tuple(gap_in_words(board, gap, names) for gap in found[:MOST_GAPS]),
            ),
        ),
        fold_title=FOLD,
    )


def gap_in_words(board: Board, gap: Gap, names: Mapping[str, str]) -> str:
    """Say how much of the gap between two methods remains at equal settings."""
    better, other = (names[method_key(row.method)] for row in (gap.better, gap.other))
    settings = ", ".join(
        f"{in_words(setting)} {signed(value)}" for setting, value in list(gap.at_equal.items())[:MOST_GAPS]
    )
    more = len(gap.at_equal) - MOST_GAPS
    return (
        f"Of the gap of {better} ({_words(board, gap.better)}) to {other} ({_words(board, gap.other)}), "
        f"{number(gap.at_default)}, {signed(gap.mean_at_equal)} remains on average at "
        f"{plural(len(gap.at_equal), 'equal setting')}: {settings}{f' and {more} more' if more > 0 else ''}."
    )


def _words(board: Board, row: BoardRow) -> str:
    setting = effective(row.method, board.dataset)
    return (
        row.method.preprocessing.name
        if setting is None and row.method.preprocessing
        else (in_words(setting) if setting else "not known")
    )


def _range(gap: Gap) -> str:
    values = gap.at_equal.values()
    return f"[{signed(min(values))}, {signed(max(values))}]" if len(gap.at_equal) > 1 else ""


def _bar(value: float, detail: str = "") -> Cell:
    return Cell(number(value), sort=value, share=min(1.0, max(0.0, value)), detail=detail)


def _signed(value: float) -> Cell:
    return Cell(signed(value), sort=value)


def _row(default: BoardRow, names: Mapping[str, str], cells: tuple[Cell, ...]) -> TableRow:
    """Return a row of a method, with a link to its entry."""
    return TableRow(
        names[method_key(default.method)],
        cells,
        href=f"#{method_anchor(default.method)}",
        method_id=default.method.method_id,
        track=default.track,
    )
