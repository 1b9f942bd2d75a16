"""``run-benchmark report``: records to a leaderboard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.cli.drawings import draw
from cellular_bench.benchmark.cli.options import EXISTING_FOLDER, NameList
from cellular_bench.benchmark.errors import UserError
from cellular_bench.benchmark.leaderboard import Board, build_boards
from cellular_bench.benchmark.records import Missing, write_text_atomically
from cellular_bench.benchmark.store import Store
from cellular_bench.reports.contents import View


@click.command(
    "report",
    epilog="""\b
Examples:
  run-benchmark report results
  run-benchmark report results --no-figures
  run-benchmark report results --format latex,pdf    # tables and figures for a paper""",
)
@click.argument("folder", type=EXISTING_FOLDER)
@click.option("--figures/--no-figures", default=True, help="Draw UMAPs and confusion matrices.")
@click.option("--jobs", type=click.IntRange(min=1), help="Figures at a time.  [default: number of cores]")
@click.option(
    "--format",
    "formats",
    type=NameList(),
    default="html,csv,md",
    show_default=True,
    help="Any of html, csv, md, latex, and svg, pdf, png for figures sized for a paper.",
)
@click.option(
    "--view",
    type=click.Choice(["default", "paper"]),
    help="paper: also the scale of the CELLULAR study, min-max over methods, which depends on who takes part."
    "  [default: paper for the suite paper]",
)
def command(
    folder: Path, *, figures: bool, jobs: int | None, formats: Sequence[str], view: View | None
) -> None:
    """Write the leaderboard of a result folder: a page, a table of scores, Markdown, LaTeX, figures."""
    n_jobs = jobs or os.cpu_count() or 1
    for path in write_report(Store.open(folder), figures=figures, n_jobs=n_jobs, formats=formats, view=view):
        click.echo(path)


def write_report(
    store: Store,
    *,
    figures: bool,
    n_jobs: int,
    formats: Sequence[str] = ("html", "csv", "md"),
    view: View | None = None,
) -> list[Path]:
    """Write the leaderboard of a result folder.

    Raises
    ------
    UserError
        If the folder holds no record, or a format is unknown.
    """
    from cellular_bench import reports
    from cellular_bench.reports.pages import FORMATS

    for name in formats:
        registry.pick("format", name, dict.fromkeys(FORMATS))

    records = list(store.records())
    for damaged in store.damaged():
        click.echo(
            f"Left out, as damaged: {damaged.reason} The next run of the folder does it again.", err=True
        )
    if not records:
        raise UserError(
            f"{store.root} holds no record yet; start with `run-benchmark run --out {store.root}`."
        )
    specs = registry.metrics()
    boards = build_boards(records, specs.values())
    drawn = draw(store, boards, n_jobs=n_jobs) if figures and "html" in formats else []
    suite = store.suite
    missing = suite.missing if suite else ()
    is_paper = suite is not None and suite.suite_id == "paper"
    written = reports.write(
        records,
        specs,
        store.root,
        title=store.title,
        figures=drawn,
        missing=missing,
        formats=formats,
        view=view or ("paper" if is_paper else "default"),
    )
    return [*written, *_write_published(store, boards, missing)]


def _write_published(store: Store, boards: Sequence[Board], missing: Sequence[Missing]) -> list[Path]:
    """Write published scores beside ours where a study scored these data, and what its suite lacks."""
    from cellular_bench.reports.published import published_csv, published_markdown, published_tables

    if not (missing or any(published_tables(board) for board in boards)):
        return []
    lines = [line for item in missing for line in item.lines()]
    texts = {
        "published.csv": published_csv(boards),
        "published.md": published_markdown(boards, lines),
    }
    for name, text in texts.items():
        write_text_atomically(store.root / name, text)
    return [store.root / name for name in texts]
