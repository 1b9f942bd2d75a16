"""``run-benchmark report``: records to a leaderboard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.cli import options
from cellular_bench.cli.options import EXISTING_FOLDER, NameList, plugin_option
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.reports import Report, build_report
from cellular_bench.reports.tables.board import View
from cellular_bench.workflows.figures import draw

#: What is written unless ``--format`` asks for others.
DEFAULT_FORMATS = ("html", "csv", "md")


@click.command(
    "report",
    epilog="""\b
Examples:
  run-benchmark report results
  run-benchmark report results --no-figures
  run-benchmark report results/monday results/cluster --out board    # one leaderboard of several
  run-benchmark report results --site public         # index, a page and JSON per task, to be hosted
  run-benchmark report results --watch               # while the benchmark runs
  run-benchmark report results --format latex,pdf    # tables and figures for a paper""",
)
@click.argument("folders", metavar="FOLDER...", type=EXISTING_FOLDER, nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write.  [default: into FOLDER]")
@click.option(
    "--site", type=click.Path(path_type=Path), help="Write a site of static pages into this folder instead."
)
@click.option("--watch", is_flag=True, help="Write live.html until the benchmark of FOLDER ends.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds, for --watch.",
)
@click.option("--figures/--no-figures", default=True, help=options.FIGURES_HELP)
@click.option("--jobs", type=click.IntRange(min=1), help="Figures at a time.  [default: usable cores]")
@click.option(
    "--format",
    "formats",
    type=NameList(),
    help="Any of html, csv, md, latex, and svg, pdf, png for figures sized for a paper.  "
    "[default: html,csv,md]",
)
@click.option(
    "--view",
    type=click.Choice(["default", "paper"]),
    help="paper: also the scale of the CELLULAR study, min-max over methods, which depends on who takes part."
    "  [default: paper for the suite paper]",
)
@plugin_option
def command(
    folders: tuple[Path, ...],
    *,
    out: Path | None,
    site: Path | None,
    watch: bool,
    interval: float,
    figures: bool,
    jobs: int | None,
    formats: Sequence[str] | None,
    view: View | None,
    plugins: Sequence[Path],
) -> None:
    """Write the leaderboard of result folders: a page, a table of scores, Markdown, LaTeX, figures."""
    stores = [Store.open(folder) for folder in folders]
    registry.load(plugins)
    if len(stores) > 1 and out is None and site is None:
        raise UserError("Several folders need a place for their report: give --out FOLDER.")
    if site is not None and (out is not None or formats is not None):
        raise UserError("--site writes HTML and JSON into a folder of its own: leave out --out and --format.")
    if watch and len(stores) > 1:
        raise UserError(f"--watch looks at one benchmark; {len(stores)} folders came.")
    for store in stores if watch else ():
        _watch(store, interval=interval)
    n_jobs = jobs or usable_cores()
    if site is not None:
        written = write_site(stores, site, figures=figures, n_jobs=n_jobs, view=view)
    else:
        to, kinds = out or stores[0].root, formats or DEFAULT_FORMATS
        written = write_reports(stores, to, figures=figures, n_jobs=n_jobs, formats=kinds, view=view)
    for path in written:
        click.echo(path)


def write_report(store: Store, *, figures: bool, n_jobs: int) -> list[Path]:
    """Write the leaderboard of a result folder into it; see :func:`write_reports`."""
    return write_reports([store], store.root, figures=figures, n_jobs=n_jobs)


def write_reports(
    stores: Sequence[Store],
    out: Path,
    *,
    figures: bool,
    n_jobs: int,
    formats: Sequence[str] = DEFAULT_FORMATS,
    view: View | None = None,
    inside: bool = False,
) -> list[Path]:
    """Write one leaderboard of one or more result folders; see :func:`cellular_bench.reports.write`.

    Raises
    ------
    UserError
        If the folders hold no record, or a format is unknown.
    """
    from cellular_bench import reports
    from cellular_bench.reports.writing import FORMATS, write_published

    for name in formats:
        registry.pick("format", name, dict.fromkeys(FORMATS))
    report = _report(stores, view)
    drawn = []
    if figures and "html" in formats:
        drawn = draw(stores, out, report.boards, n_jobs=n_jobs)
    written = reports.write(report, out, formats=formats, figures=drawn, inside=inside)
    return [*written, *write_published(report, out)]


def write_site(
    stores: Sequence[Store], out: Path, *, figures: bool, n_jobs: int, view: View | None = None
) -> list[Path]:
    """Write a site of static pages: an index, and for each task a page and its numbers as JSON.

    Raises
    ------
    UserError
        If the folders hold no record.
    """
    from cellular_bench.reports.page.site import write_site_pages

    report = _report(stores, view)
    # Drawn beside the results, so that the site holds nothing but its pages.
    drawn = draw(stores, stores[0].root, report.boards, n_jobs=n_jobs) if figures else []
    return write_site_pages(report, out, figures=drawn)


def _report(stores: Sequence[Store], view: View | None) -> Report:
    """Build the report of what result folders hold together."""
    from cellular_bench.benchmark.results.merge import choose

    if len(stores) == 1:
        records = tuple(stores[0].records())
        for damaged in stores[0].damaged():
            click.echo(
                f"Left out, as damaged: {damaged.reason} The next run of the folder does it again.", err=True
            )
    else:
        chosen = choose(stores)
        records = tuple(record for record, _ in chosen.runs.values())
        for reason in chosen.refused:
            click.echo(f"Left out: {reason}", err=True)
        for run_id in chosen.differing:
            click.echo(
                f"The same run has different scores in two folders, the later is taken: {run_id}", err=True
            )
    if not records:
        where = ", ".join(str(store.root) for store in stores)
        raise UserError(
            f"{where} holds no record yet; start with `run-benchmark run --out {stores[0].root}`."
        )
    _name_unknown_metrics(records)
    suites = [suite for store in stores if (suite := store.suite)]
    return build_report(
        records,
        registry.metrics(),
        title=" + ".join(dict.fromkeys(store.title for store in stores)),
        missing=tuple(item for suite in suites for item in suite.missing),
        view=view or ("paper" if any(suite.suite_id == "paper" for suite in suites) else "default"),
    )


def _name_unknown_metrics(records: Sequence[RunRecord]) -> None:
    unknown = {score.metric_id for record in records for score in record.scores} - set(registry.metrics())
    if unknown:
        click.echo(
            f"Left out: scores of {', '.join(sorted(unknown))}, no metric that is known here. Where it is of "
            "your own, name its file with --plugin.",
            err=True,
        )


def _watch(store: Store, *, interval: float) -> None:
    """Write the live page again and again until no benchmark writes to the folder."""
    from cellular_bench.benchmark.results.progress import overview
    from cellular_bench.reports.page.live import live_page

    told = False
    while True:
        seen = overview(store)
        write_text_atomically(store.root / "live.html", live_page(seen, title=store.title, interval=interval))
        if not told:
            click.echo(store.root / "live.html")
            told = True
        if not seen.is_active:
            return
        time.sleep(interval)
