"""Everything that a report shows, built once and handed to every format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from cellular_bench.benchmark.analysis.across_datasets import Across, across
from cellular_bench.benchmark.analysis.leaderboard import Board, build_boards
from cellular_bench.benchmark.schema.records import Missing, RunRecord
from cellular_bench.benchmark.schema.weights import Weights
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import MetricSpec, TaskId
from cellular_bench.reports.tables.across_datasets import across_table
from cellular_bench.reports.tables.agreement import agreement_table
from cellular_bench.reports.tables.board import View, board_tables
from cellular_bench.reports.tables.definitions import definitions_table
from cellular_bench.reports.tables.model import MOST_ROWS, Table, limited, limited_columns
from cellular_bench.reports.tables.overview import BoardSummary, summary_of
from cellular_bench.reports.tables.provenance import RUN_TABLES, missing_table
from cellular_bench.reports.tables.stress_levels import StressSeries, stress_series, stress_table

#: Methods that the boards of a report show together, but never fewer than some on each.
ROWS_OF_ALL: Final = 600
LEAST_ROWS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardReport:
    """A board with its summary and its tables."""

    board: Board
    summary: BoardSummary
    tables: tuple[Table, ...]

    @property
    def title(self) -> str:
        """The task and the data."""
        return self.summary.title


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Tables over all boards under one heading; ``key`` is its ``id`` on the page."""

    key: str
    title: str
    tables: tuple[Table, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is written from; see :func:`build_report`. Tables are made when they are first used.

    Attributes
    ----------
    specs
        Metrics by ``metric_id``, in the order in which columns are shown.
    missing
        What the suite asks for and was not there to be run.
    view
        ``"paper"`` adds the ranking on the scale of the CELLULAR study, which depends on who takes part.
    """

    title: str
    records: tuple[RunRecord, ...]
    specs: Mapping[str, MetricSpec]
    boards: tuple[Board, ...]
    missing: tuple[Missing, ...] = ()
    view: View = "default"

    @cached_property
    def board_reports(self) -> tuple[BoardReport, ...]:
        """Every board with its summary and its tables; of many boards, each has fewer rows."""
        most = max(LEAST_ROWS, min(MOST_ROWS, ROWS_OF_ALL // max(1, len(self.boards))))
        return tuple(
            BoardReport(
                board=board, summary=summary_of(board), tables=board_tables(board, self.view, most=most)
            )
            for board in self.boards
        )

    @cached_property
    def across(self) -> tuple[Across, ...]:
        """Each track, task and kind of split over its data sets."""
        return across(self.boards)

    @cached_property
    def stress(self) -> tuple[StressSeries, ...]:
        """Each task, data set and kind of split over the levels of a stress."""
        return stress_series(self.boards)

    @cached_property
    def comparisons(self) -> tuple[Section, ...]:
        """Tables that compare boards, before these."""
        return _sections(
            ("across", "Across data sets", map(across_table, self.across)),
            ("curves", "Stress tests", map(stress_table, self.stress)),
        )

    @cached_property
    def sources(self) -> tuple[Section, ...]:
        """Tables of what the numbers are and come from, after the boards."""
        runs = self.records
        definitions = definitions_table(self.boards, runs, self.specs)
        sources = (missing_table(self.missing), *(make(runs) for make in RUN_TABLES))
        return _sections(
            ("metrics", "Metrics", [definitions]),
            ("agreement", "Agreement with the originals", [agreement_table(self.boards)]),
            ("provenance", "Provenance", sources),
        )

    @property
    def parts(self) -> tuple[Section | BoardReport, ...]:
        """All that has tables, in order."""
        return (*self.comparisons, *self.board_reports, *self.sources)

    def of_task(self, task: TaskId, *, title: str) -> Report:
        """Return the part of one task."""
        return replace(
            self,
            title=title,
            records=tuple(record for record in self.records if record.task == task),
            boards=tuple(board for board in self.boards if board.task == task),
        )


def _sections(*given: tuple[str, str, Iterable[Table | None]]) -> tuple[Section, ...]:
    made = (
        Section(
            key=key, title=title, tables=tuple(limited(limited_columns(t)) for t in tables if t is not None)
        )
        for key, title, tables in given
    )
    return tuple(section for section in made if section.tables)


def build_report(
    records: Iterable[RunRecord],
    specs: Mapping[str, MetricSpec],
    *,
    title: str,
    missing: Sequence[Missing] = (),
    view: View = "default",
    weights: Weights | None = None,
) -> Report:
    """Rank the methods of all records; for the parameters see :class:`Report`.

    ``weights`` of aspects are for the tasks that have them, see
    :func:`~cellular_bench.benchmark.analysis.leaderboard.build_boards`.
    Records of leak canaries are no results: they show in what boards say of leaks alone.

    Raises
    ------
    UserError
        If there are no records, or a run comes twice.
    """
    everything = tuple(records)
    records = tuple(record for record in everything if not record.is_canary)
    if not records:
        raise UserError("A report needs at least one run record, none came: run a suite first.")
    boards = build_boards(everything, specs.values(), weights=weights)
    return Report(title=title, records=records, specs=specs, boards=boards, missing=tuple(missing), view=view)
