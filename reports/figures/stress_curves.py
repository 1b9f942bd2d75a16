"""Curves: how the overall score of each method falls as the data get worse.

Boards of the same task, data and cutting that differ only in the level of one stress make one chart. The
numbers are those of the boards; the table below a chart repeats them, with nothing left to colour alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.analysis.leaderboard import Board, Row, Summary, method_key
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import STRESSES, StressKind, TaskId
from cellular_bench.reports.figures.canvas import COLOURS, MARKERS, as_webp, new_canvas, plain
from cellular_bench.reports.tables.common import display_names
from cellular_bench.reports.tables.model import number

#: Lines that a chart shows at most; the table has every method.
MOST_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One method: its overall score at each level, None where it has none."""

    name: str
    is_control: bool
    scores: tuple[Summary | None, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """The scores as text."""
        return tuple(number(s.mean) if s is not None and s.mean is not None else "–" for s in self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One chart and its table.

    Attributes
    ----------
    levels
        From the data as they are to the hardest.
    lines
        Methods, the best mean over all levels first; those that lack a level come last.
    board_ids
        The board of each level.
    """

    task: TaskId
    title: str
    unit: str
    levels: tuple[float, ...]
    lines: tuple[Line, ...]
    board_ids: tuple[str, ...]
    picture: bytes
    alt: str


def curves(boards: Sequence[Board]) -> tuple[Curves, ...]:
    """Return a chart for each task, data set, cutting and stress with two or more levels."""
    plain: dict[tuple[TaskId, str, str], Board] = {}
    stressed: dict[tuple[TaskId, str, str, StressKind], list[tuple[float, Board]]] = defaultdict(list)
    for board in boards:
        split = board.splits[0]
        where = (board.task, board.dataset.digest, split.scheme.partition("~")[0])
        if split.stress is None:
            plain[where] = board
        else:
            stressed[*where, split.stress.kind].append((split.stress.level, board))
    found = []
    for (task, digest, scheme, kind), levels in stressed.items():
        at_none = plain.get((task, digest, scheme))
        every = [*levels, *([(STRESSES[kind].none, at_none)] if at_none else [])]
        if len(every) > 1:
            found.append(
                _curves(kind, sorted(every, key=lambda item: item[0], reverse=kind != "label_noise"))
            )
    return tuple(found)


def _curves(kind: StressKind, levels: Sequence[tuple[float, Board]]) -> Curves:
    boards = [board for _, board in levels]
    unit = STRESSES[kind].unit
    title = f"{TASKS[boards[0].task].title} · {boards[0].dataset_title}: {STRESSES[kind].title.lower()}"
    lines = _lines(boards)
    at = tuple(level for level, _ in levels)
    return Curves(
        task=boards[0].task,
        title=title,
        unit=unit,
        levels=at,
        lines=lines,
        board_ids=tuple(board.board_id for board in boards),
        picture=_picture(at, lines, unit=unit),
        alt=f"Overall score against the {unit}, a line for each {_some(lines)}; the table has the numbers.",
    )


def _lines(boards: Sequence[Board]) -> tuple[Line, ...]:
    rows: dict[str, dict[int, Row]] = defaultdict(dict)
    names: dict[str, str] = {}
    for i, board in enumerate(boards):
        shown = display_names(board)
        for row in board.rows:
            key = method_key(row.method)
            rows[key][i] = row
            names[key] = " ".join(filter(None, shown[key]))
    lines = []
    for key, by_level in rows.items():
        complete = {i: row for i, row in by_level.items() if row.incomplete_because is None}
        scores = tuple(complete[i].overall if i in complete else None for i in range(len(boards)))
        is_control = next(iter(by_level.values())).track == "control"
        lines.append(Line(name=names[key], is_control=is_control, scores=scores))
    return tuple(sorted(lines, key=_order))


def _order(line: Line) -> tuple[bool, float, str]:
    means = [s.mean for s in line.scores if s is not None and s.mean is not None]
    average = sum(means) / len(means) if means else 0.0
    return len(means) < len(line.scores), -average, line.name


def _some(lines: Sequence[Line]) -> str:
    n = sum(any(line.scores) for line in lines)
    return "method" if n <= MOST_LINES else f"of the {MOST_LINES} best of {n} methods"


def _picture(levels: Sequence[float], lines: Sequence[Line], *, unit: str) -> bytes:
    canvas = new_canvas(6.4, 3.6)
    ax = canvas.subplots()
    drawn = [line for line in lines if any(line.scores)][:MOST_LINES]
    for i, line in enumerate(drawn):
        points = [(x, s) for x, s in zip(levels, line.scores, strict=True) if s is not None]
        heights = [s.mean if s.mean is not None else math.nan for _, s in points]
        ax.errorbar(
            [x for x, _ in points],
            heights,
            yerr=[s.std or 0.0 for _, s in points],
            color="#9A9A9A" if line.is_control else COLOURS[i % len(COLOURS)],
            marker=MARKERS[(i // len(COLOURS) + i) % len(MARKERS)],
            linestyle=":" if line.is_control else "-",
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=plain(line.name),
        )
    ax.set_xlabel(unit, fontsize=9)
    ax.set_ylabel("overall score", fontsize=9)
    ax.tick_params(labelsize=8)
    if levels[0] > levels[-1]:
        ax.invert_xaxis()
    ax.spines[["top", "right"]].set_visible(False)
    canvas.legend(loc="outside right upper", fontsize=7, frameon=False)
    return as_webp(canvas)
