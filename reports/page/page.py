"""Writes the report: one self-contained page, one table for programs, one for repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellular_bench.benchmark.analysis.leaderboard import Board, build_boards
from cellular_bench.benchmark.analysis.scales import Scale
from cellular_bench.benchmark.schema.records import Missing, RunRecord
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.core.types import MetricSpec, TaskId, aspect_title
from cellular_bench.reports.figures.canvas import as_vectors
from cellular_bench.reports.figures.confusion_and_training import Figure
from cellular_bench.reports.figures.costs import cost_canvas, cost_in_words
from cellular_bench.reports.figures.stress_curves import curves
from cellular_bench.reports.page.across_datasets import across_views
from cellular_bench.reports.page.figure_pages import linked, page_of, write_linked
from cellular_bench.reports.page.method_details import method_details
from cellular_bench.reports.page.templating import engine
from cellular_bench.reports.tables.board import View, board_tables
from cellular_bench.reports.tables.common import GROUPS
from cellular_bench.reports.tables.model import Table
from cellular_bench.reports.tables.overview import (
    SPLIT_TITLES,
    Overview,
    overview,
    provenance,
    runs_in_words,
    weights_in_words,
)
from cellular_bench.reports.tables.published import PublishedTable, published_tables
from cellular_bench.reports.text.markdown_and_csv import markdown, scores_csv
from cellular_bench.reports.text.paper import FIGURE_WRITERS, latex, write_figures

#: What a report can be written as.
FORMATS = ("html", "csv", "md", "latex", *FIGURE_WRITERS)

#: Scales to choose from: value, title, what it does.
SCALES: tuple[tuple[Scale, str, str], ...] = (
    ("own", "own range", "Each metric from the worst to the best end of its own range"),
    ("controls", "between controls", "Each metric from the worst to the best control of the same split"),
    ("raw", "raw values", "Values as they are; where lower is better, turned round within the range"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardView:
    """A board as the page shows it."""

    board_id: str
    dataset_id: str
    task: TaskId
    overview: Overview
    tables: tuple[Table, ...]
    failures: tuple[RunRecord, ...]
    figures: tuple[Figure, ...]
    n_linked: int
    figure_page: str
    batch_weight: float | None
    published: tuple[PublishedTable, ...]
    costs: bytes | None
    costs_in_words: str


def write(
    records: Sequence[RunRecord],
    specs: Mapping[str, MetricSpec],
    out: Path,
    *,
    title: str,
    figures: Sequence[Figure] = (),
    missing: Sequence[Missing] = (),
    formats: Sequence[str] = ("html", "csv", "md"),
    view: View = "default",
    inside: bool = False,
) -> list[Path]:
    """Write ``leaderboard.html``, ``scores.csv`` and ``leaderboard.md``, or what ``formats`` asks for.

    Parameters
    ----------
    records
        Every run, failed ones too; at least one.
    specs
        Metrics by ``metric_id``, in the order in which columns are shown.
    out
        Folder; made where it does not exist. Older files of the same names are replaced.
    title
        Heading of the page.
    figures
        Pictures, each of a board and a method that the records hold.
    missing
        What the suite asks for and was not there to be run.
    formats
        Of :data:`FORMATS`. ``"latex"`` is ``leaderboard.tex``; ``"svg"``, ``"pdf"`` and ``"png"`` are
        figures for a paper, in the folder ``paper``.

    view
        ``"paper"`` adds the ranking on the scale of the CELLULAR study, which depends on who takes part.
    inside
        True: every figure is in the page, however heavy they are together.

    Returns
    -------
    list of Path
        The files, in the order of :data:`FORMATS`; after them pages with the figures of each board, where
        these are too heavy for the page.

    Raises
    ------
    UserError
        If there are no records, a run comes twice, or a figure belongs to no board.
    """
    if not records:
        raise UserError("A report needs at least one run record, none came: run a suite first.")
    boards = build_boards(records, specs.values())
    _refuse_stray_figures(boards, figures)
    out.mkdir(parents=True, exist_ok=True)
    heavy = linked(figures) if "html" in formats and not inside else ()
    writers: dict[str, tuple[str, Callable[[], str]]] = {
        "html": (
            "leaderboard.html",
            lambda: page(
                boards, records, specs, title=title, figures=figures, heavy=heavy, missing=missing, view=view
            ),
        ),
        "csv": ("scores.csv", lambda: scores_csv(records)),
        "md": ("leaderboard.md", lambda: markdown(boards, records, specs, title=title, view=view)),
        "latex": ("leaderboard.tex", lambda: latex(boards)),
    }
    written = []
    for name, write_as in (writers[kind] for kind in FORMATS if kind in writers and kind in formats):
        write_text_atomically(out / name, write_as())
        written.append(out / name)
    written += write_linked(boards, heavy, out, back="leaderboard.html")
    kinds = [kind for kind in FORMATS if kind in FIGURE_WRITERS and kind in formats]
    return [*written, *(write_figures(boards, out / "paper", kinds) if kinds else [])]


def page(
    boards: Sequence[Board],
    records: Sequence[RunRecord],
    specs: Mapping[str, MetricSpec],
    *,
    title: str,
    figures: Sequence[Figure] = (),
    heavy: Sequence[Figure] = (),
    missing: Sequence[Missing] = (),
    view: View = "default",
) -> str:
    """Return the page: style, script and pictures are inside it, and it asks the network for nothing.

    Figures that are too ``heavy`` for it are not in it but counted, with a link; see ``linked.write_linked``.
    """
    figures = [figure for figure in figures if figure not in heavy]
    tasks = sorted({board.task for board in boards}, key=list(TASKS).index)
    views = [_board_view(board, figures, heavy, view) for board in boards]
    used = {spec.metric_id: spec for board in boards for spec in board.metrics}
    return (
        engine()
        .get_template("leaderboard.html.j2")
        .render(
            title=title,
            summary=runs_in_words(records),
            absent=missing,
            boards=views,
            curves=curves(boards),
            across=across_views(boards),
            methods=method_details(boards),
            tracks=[(t, t) for t in GROUPS if any(t == row.track for board in boards for row in board.rows)],
            tasks=[(task, TASKS[task].title) for task in tasks],
            datasets=sorted({board.dataset.dataset_id: board.dataset.title for board in boards}.items()),
            scales=SCALES,
            formulas=[(TASKS[task].title, weights_in_words(task, used.values())) for task in tasks],
            metrics=[spec for metric_id, spec in specs.items() if metric_id in used],
            provenance=provenance(records, specs),
            aspect_title=aspect_title,
            split_titles=SPLIT_TITLES,
        )
        .lstrip()
    )


def _board_view(board: Board, figures: Sequence[Figure], heavy: Sequence[Figure], view: View) -> BoardView:
    # The page has one slider: between batch correction and one other aspect.
    weight = board.weights.get("batch_correction") if len(board.weights) == 2 else None
    return BoardView(
        board_id=board.board_id,
        dataset_id=board.dataset.dataset_id,
        task=board.task,
        overview=overview(board),
        tables=board_tables(board, view),
        failures=tuple(run for row in board.rows for run in row.failures),
        figures=tuple(figure for figure in figures if figure.board_id == board.board_id),
        n_linked=sum(figure.board_id == board.board_id for figure in heavy),
        figure_page=page_of(board),
        batch_weight=weight,
        published=published_tables(board),
        costs=as_vectors(costs) if (costs := cost_canvas(board)) else None,
        costs_in_words=cost_in_words(board),
    )


def _refuse_stray_figures(boards: Sequence[Board], figures: Sequence[Figure]) -> None:
    known = {(board.board_id, row.method.method_id) for board in boards for row in board.rows}
    known |= {(board.board_id, "") for board in boards}
    for figure in figures:
        if (figure.board_id, figure.method_id) not in known:
            raise UserError(
                f"A figure of method '{figure.method_id}' for board '{figure.board_id}' has no such row. "
                f"Boards: {', '.join(board.board_id for board in boards)}."
            )
