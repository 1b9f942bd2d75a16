"""What the leak canaries of boards found: which methods know labels that they were not shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cellular_bench.benchmark.analysis.agreement import Agreement, agreement
from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key
from cellular_bench.benchmark.schema.records import RunRecord

Verdict = Literal["passed", "flagged", "no power", "no answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCanary:
    """The leak canary of a board.

    Attributes
    ----------
    by_method
        Agreement with permuted labels of each row that was tested, by ``method_key``.
    unanswered
        Rows whose run on the canary did not end well.
    control
        Agreement of a control that is shown the labels; None if there is none.
    """

    by_method: dict[str, Agreement]
    unanswered: frozenset[str]
    control: Agreement | None

    @property
    def has_power(self) -> bool:
        """True if a method that knows every label would be flagged."""
        return self.control is not None and self.control.is_leak

    @property
    def n_cells(self) -> int:
        """Number of cells that were predicted; 0 if no run ended well."""
        found = [*self.by_method.values(), *([self.control] if self.control else [])]
        return found[0].n_cells if found else 0

    def verdict(self, row: BoardRow) -> Verdict | None:
        """Return what was found of a row; None if it was not tested."""
        key = method_key(row.method)
        if key in self.unanswered:
            return "no answer"
        if key not in self.by_method:
            return None
        if self.by_method[key].is_leak:
            return "flagged"
        return "passed" if self.has_power else "no power"

    def flagged(self, board: Board) -> list[tuple[BoardRow, Agreement]]:
        """Return the rows of a board that agree beyond chance, the highest agreement first."""
        keys = ((row, method_key(row.method)) for row in board.rows)
        found = [(row, self.by_method[key]) for row, key in keys if key in self.by_method]
        return sorted((pair for pair in found if pair[1].is_leak), key=lambda pair: -pair[1].share)


def with_canaries(boards: Sequence[Board], canaries: Iterable[RunRecord]) -> tuple[Board, ...]:
    """Return boards with what their leak canaries found, if there are any."""
    of_boards: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in canaries:
        if record.canary_of is not None:
            of = record.canary_of
            of_boards[record.task, of.dataset_digest, of.scheme].append(record)
    return tuple(_with_canary(board, of_boards.get(_key(board), ())) for board in boards)


def _key(board: Board) -> tuple[str, str, str]:
    split = board.splits[0]
    return board.task, board.dataset.digest, split.scheme or split.kind


def _with_canary(board: Board, records: Sequence[RunRecord]) -> Board:
    if not records:
        return board
    controls = [agreement(run.confusion) for run in records if run.method.is_control and run.status == "ok"]
    tested: dict[str, RunRecord] = {}
    for run in sorted(records, key=lambda run: run.finished_at):
        tested |= {method_key(row.method): run for row in board.rows if _is_of(run, row)}
    return replace(
        board,
        canary=LeakCanary(
            by_method={key: agreement(run.confusion) for key, run in tested.items() if run.status == "ok"},
            unanswered=frozenset(key for key, run in tested.items() if run.status != "ok"),
            control=min(controls, key=lambda found: found.p_value, default=None),
        ),
    )


def _is_of(run: RunRecord, row: BoardRow) -> bool:
    """Whether a canary's run is of the method of a row, but for what shortens its learning."""
    if run.canary_of is None or run.method.is_control or row.track == "control":
        return False
    params = {**row.method.params, **run.canary_of.params}
    return method_key(row.method.model_copy(update={"params": params})) == method_key(run.method)
