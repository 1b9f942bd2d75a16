"""``run-benchmark report``: records to a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cellular_bench.cli import messages, options
from cellular_bench.cli.options import EXISTING_FOLDER, NameList, plugin_option
from cellular_bench.core.errors import UserError


@click.command(
    "report",
    epilog="""\b
Examples:
  run-benchmark report results
  run-benchmark report results --no-figures
  run-benchmark report results/monday results/cluster --out board    # one leaderboard of several
  run-benchmark report results --site public         # index, a page and JSON per task, to be hosted
  run-benchmark report results --watch               # while the benchmark runs
  run-benchmark report results --weights scib        # overall scores by another rule
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
@options.weights_option("those that FOLDER was run with")
@plugin_option
def command(
    folders: tuple[Path, ...], *, watch: bool, interval: float, plugins: tuple[Path, ...], **given: Any
) -> None:
    """Write the leaderboard of result folders: a page, a table of scores, Markdown, LaTeX, figures."""
    from cellular_bench.benchmark import registry
    from cellular_bench.benchmark.execution.machine import usable_cores
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.workflows import report

    stores = [Store.open(folder) for folder in folders]
    registry.load(plugins)
    out, site, formats = given["out"], given["site"], given["formats"]
    if len(stores) > 1 and out is None and site is None:
        raise UserError("Several folders need a place for their report: give --out FOLDER.")
    if site is not None and (out is not None or formats is not None):
        raise UserError("--site writes HTML and JSON into a separate folder: leave out --out and --format.")
    if watch and len(stores) > 1:
        raise UserError(f"--watch looks at one benchmark; {len(stores)} folders came.")
    progress = messages.progress()
    for store in stores if watch else ():
        report.watch(store, interval=interval, progress=progress)
    request = report.ReportRequest(
        stores=stores,
        out=site or out or stores[0].root,
        figures=given["figures"],
        n_jobs=given["jobs"] or usable_cores(),
        formats=formats or report.DEFAULT_FORMATS,
        view=given["view"],
        weights=given["weights"],
    )
    write = report.write_reports if site is None else report.write_site
    for path in write(request, progress=progress):
        messages.echo(path)
