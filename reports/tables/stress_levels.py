"""The overall score of each method as the data get harder.

Boards of the same task, data and split that differ only in the level of one stress make one series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cellular_bench.benchmark.analysis.leaderboard import Board, Summary, method_key
from cellular_bench.core.types import STRESSES, StressKind
from cellular_bench.reports.tables.formatting import anchor
from cellular_bench.reports.tables.method_rows import full_names
from cellular_bench.reports.tables.model import Cell, Column, Table, TableRow, missing, number_cell
from cellular_bench.reports.tables.overview import board_title


@dataclass(frozen=True, slots=True, kw_only=True)
class StressLine:
    """One method: its overall score at each level, None where it is incomplete."""

    name: str
    is_control: bool
    scores: tuple[Summary | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StressSeries:
    """Boards of one stress, from the data as they are to the hardest level.

    ``lines`` are methods, the best mean over all levels first; those that lack a level come last.
    """

    kind: StressKind
    boards: tuple[Board, ...]
    lines: tuple[StressLine, ...]

    @property
    def series_id(self) -> str:
        """Name of the series, unique in a report."""
        return f"stress-{self.kind}-{self.boards[0].board_id}"

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of each board."""
        return tuple(_level(board, self.kind) for board in self.boards)

    @property
    def unit(self) -> str:
        """What a level is a share of."""
        return STRESSES[self.kind].unit


def stress_series(boards: Sequence[Board]) -> tuple[StressSeries, ...]:
    """Return a series for each task, data set, kind of split and stress with two or more levels.

    Boards under different rules of weights are not compared.
    """
    plain: dict[tuple[str, ...], Board] = {}
    stressed: dict[tuple[tuple[str, ...], StressKind], list[Board]] = defaultdict(list)
    for board in boards:
        split = board.splits[0]
        scheme = split.scheme.partition("~")[0]
        where: tuple[str, ...] = (board.task, board.dataset.digest, scheme, board.rule.name)
        if split.stress is None:
            plain[where] = board
        else:
            stressed[where, split.stress.kind].append(board)
    series = []
    for (where, kind), harder in stressed.items():
        every = [*harder, *([plain[where]] if where in plain else [])]
        if len(every) > 1:
            every.sort(key=partial(_level, kind=kind), reverse=kind != "label_noise")
            series.append(StressSeries(kind=kind, boards=tuple(every), lines=_lines(every)))
    return tuple(series)


def _level(board: Board, kind: StressKind) -> float:
    stress = board.splits[0].stress
    return STRESSES[kind].none if stress is None else stress.level


def _lines(boards: Sequence[Board]) -> tuple[StressLine, ...]:
    names = {key: name for board in boards for key, name in full_names(board).items()}
    by_key = [{method_key(row.method): row for row in board.rows} for board in boards]
    lines = []
    for key, name in names.items():
        rows = [rows.get(key) for rows in by_key]
        scores = tuple(row.overall if row and row.incomplete_because is None else None for row in rows)
        is_control = any(row is not None and row.track == "control" for row in rows)
        lines.append(StressLine(name=name, is_control=is_control, scores=scores))
    return tuple(sorted(lines, key=_order))


def _order(line: StressLine) -> tuple[bool, float, str]:
    means = [s.mean for s in line.scores if s is not None and s.mean is not None]
    average = sum(means) / len(means) if means else 0.0
    return len(means) < len(line.scores), -average, line.name


def stress_table(series: StressSeries) -> Table:
    """Return the overall score of each method by level."""
    return Table(
        table_id=series.series_id,
        task=series.boards[0].task,
        title=f"{board_title(series.boards[0])}: {STRESSES[series.kind].title.lower()}",
        caption=f"Overall score by {series.unit}, the hardest level last. Each level leads to its board.",
        columns=tuple(
            Column(f"{level:g}", href=f"#{anchor(board.board_id)}")
            for level, board in zip(series.levels, series.boards, strict=True)
        ),
        rows=tuple(
            TableRow(
                line.name, tuple(map(_cell, line.scores)), badges=("control",) if line.is_control else ()
            )
            for line in series.lines
        ),
    )


def _cell(score: Summary | None) -> Cell:
    mean = None if score is None else score.mean
    return missing("incomplete at this level") if mean is None else number_cell(mean)
