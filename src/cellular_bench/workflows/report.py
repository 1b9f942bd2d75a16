"""Write the leaderboard of result folders: pages, tables, a site, a live page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.results.merge import choose, common_weights
from cellular_bench.benchmark.results.store import LIVE_PAGE, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.benchmark.schema.weights import Weights, read_weights
from cellular_bench.benchmark.tasks import TASKS, check_weights
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.reports import Report, build_report
from cellular_bench.reports.tables.board import View
from cellular_bench.reports.tables.formatting import plural
from cellular_bench.workflows.figures import draw
from cellular_bench.workflows.progress import SILENT, Progress

#: Formats that are written unless others are asked for.
DEFAULT_FORMATS = ("html", "csv", "md")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """A report of result folders.

    Attributes
    ----------
    stores
        The result folders; one leaderboard is written of all.
    out
        Where the report goes.
    figures
        Draw UMAPs, curves, confusion matrices and training.
    n_jobs
        Figures at a time.
    formats
        Any of html, csv, md, latex, svg, pdf, png.
    view
        ``"paper"`` adds the scale of the CELLULAR study; None: as the suites of the folders want it.
    weights
        How aspects make the overall scores; None: as the folders were run with.
    inside
        Keep figures inside the page, so that it is one file.
    """

    stores: Sequence[Store]
    out: Path
    figures: bool = True
    n_jobs: int = 1
    formats: Sequence[str] = DEFAULT_FORMATS
    view: View | None = None
    weights: Weights | None = None
    inside: bool = False


def write_reports(request: ReportRequest, *, progress: Progress = SILENT) -> list[Path]:
    """Write the reports of a request and return their paths; see :func:`cellular_bench.reports.write`.

    Raises
    ------
    UserError
        If the folders hold no record, or a format is unknown.
    """
    from cellular_bench import reports
    from cellular_bench.reports.writing import FORMATS, write_published

    for name in request.formats:
        registry.lookup("format", name, dict.fromkeys(FORMATS))
    report = _report(request, progress)
    drawn = []
    if request.figures and "html" in request.formats:
        drawn = draw(request.stores, request.out, report.boards, n_jobs=request.n_jobs, progress=progress)
    written = reports.write(
        report, request.out, formats=request.formats, figures=drawn, inside=request.inside
    )
    return [*written, *write_published(report, request.out)]


def write_site(request: ReportRequest, *, progress: Progress = SILENT) -> list[Path]:
    """Write a site of static pages: an index, and for each task a page and its numbers as JSON.

    Raises
    ------
    UserError
        If the folders hold no record.
    """
    from cellular_bench.reports.page.site import write_site_pages

    report = _report(request, progress)
    drawn = []
    if request.figures:  # drawn beside the results, so that the site holds nothing but its pages
        beside = request.stores[0].root
        drawn = draw(request.stores, beside, report.boards, n_jobs=request.n_jobs, progress=progress)
    return write_site_pages(report, request.out, figures=drawn)


def watch(store: Store, *, interval: float, progress: Progress = SILENT) -> None:
    """Write ``live.html`` again and again until no benchmark writes to the folder.

    Parameters
    ----------
    interval
        Seconds between two pages.
    """
    from cellular_bench.benchmark.results.progress import overview
    from cellular_bench.reports.page.live import live_page

    page = store.root / LIVE_PAGE
    for number in count():
        seen = overview(store)
        write_text_atomically(page, live_page(seen, title=store.title, interval=interval))
        if number == 0:
            progress.message(str(page))
        if not seen.is_active:
            return
        time.sleep(interval)


def _report(request: ReportRequest, progress: Progress) -> Report:
    """Build the report of what the folders hold together."""
    stores = request.stores
    records = _records(stores, progress)
    if not records:
        where = ", ".join(str(store.root) for store in stores)
        raise UserError(
            f"{where} holds no record yet; start with `run-benchmark run --out {stores[0].root}`."
        )
    _name_unknown_tasks(stores, records, progress)
    unknown = {score.metric_id for record in records for score in record.scores} - set(registry.metrics())
    if unknown:
        progress.warning(
            f"Left out: scores of {', '.join(sorted(unknown))}, no metric that is known here. Where it is of "
            "your own, name its file with --plugin."
        )
    suites = [suite for store in stores if (suite := store.suite)]
    is_paper = any(suite.suite_id == "paper" for suite in suites)
    return build_report(
        records,
        registry.metrics(),
        title=" + ".join(dict.fromkeys(store.title for store in stores)),
        missing=tuple(item for suite in suites for item in suite.missing),
        view=request.view or ("paper" if is_paper else "default"),
        weights=_weights(request, suites, records, progress),
    )


def _weights(
    request: ReportRequest, suites: Sequence[Suite], records: Sequence[RunRecord], progress: Progress
) -> Weights | None:
    """Return the weights of a request, or those that all of its folders were run with."""
    if request.weights is not None:
        return for_tasks(request.weights, records)
    if any(suite.weights != suites[0].weights for suite in suites):
        progress.warning(
            "The folders were run with different weights of aspects; each task's own are taken. To choose "
            "others: --weights"
        )
    return common_weights(suites)


def for_tasks(weights: Any, records: Iterable[RunRecord]) -> Weights:
    """Read weights for the overall scores of some runs.

    Raises
    ------
    UserError
        If they are no weights, or would have no effect on any of the runs.
    """
    known = read_weights(weights)
    check_weights(
        known, [TASKS[task] for task in dict.fromkeys(run.task for run in records) if task in TASKS]
    )
    return known


def _name_unknown_tasks(stores: Sequence[Store], records: Sequence[RunRecord], progress: Progress) -> None:
    """Name the tasks that have no board here; refuse a report without any board."""
    counts = Counter(record.task for record in records if record.task not in TASKS)
    named = ", ".join(f"{plural(n, 'run')} of '{name}'" for name, n in counts.items())
    why = f"{named}, no task that is known here. Name the file that defines it with --plugin."
    if counts and counts.total() == len(records):
        raise UserError(f"{', '.join(str(store.root) for store in stores)} holds only {why}")
    if counts:
        progress.warning(f"Left out, in scores.csv only: {why}")


def _records(stores: Sequence[Store], progress: Progress) -> tuple[RunRecord, ...]:
    """Return every run of the folders once, those of leak canaries too."""
    if len(stores) == 1:
        for damaged in stores[0].damaged():
            progress.warning(
                f"Left out, as damaged: {damaged.reason} The next run of the folder does it again."
            )
        return tuple(stores[0].every_record())
    chosen = choose(stores)
    for reason in chosen.refused:
        progress.warning(f"Left out: {reason}")
    for run_id in chosen.differing:
        progress.warning(f"The same run has different scores in two folders, the later is taken: {run_id}")
    return tuple(record for record, _ in chosen.runs.values())
