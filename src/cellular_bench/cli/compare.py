"""``run-benchmark compare``: what changed between two result folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellular_bench.benchmark import registry
from cellular_bench.cli import messages
from cellular_bench.cli.options import EXISTING_FOLDER, format_option, plugin_option
from cellular_bench.core.text import MOST_REASON, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellular_bench.benchmark.analysis.folder_comparison import Change, FolderComparison, MethodOnData


@click.command(
    "compare",
    epilog="""\b
Examples:
  run-benchmark compare results/main results/mine
  run-benchmark compare results/main results/mine --fail-if-worse 0.02

Exit code: 0 nothing got worse than allowed, 1 something did, 2 the request was wrong.""",
)
@click.argument("before", type=EXISTING_FOLDER)
@click.argument("after", type=EXISTING_FOLDER)
@click.option(
    "--fail-if-worse",
    "threshold",
    type=click.FloatRange(min=0),
    help="End with code 1 where a mean falls by more than this share of its range, or a run or a score is "
    "lost, or absent from the second folder.",
)
@plugin_option
@format_option
def command(
    before: Path, after: Path, *, threshold: float | None, plugins: Sequence[Path], output: str
) -> None:
    """Compare the runs that two result folders share: same method, parameters, cells and seed."""
    from cellular_bench.benchmark.analysis.folder_comparison import compare
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.core.errors import UserError

    first, second = (list(Store.open(folder).records()) for folder in (before, after))
    report = compare(first, second, registry.metrics(plugins))
    if not report.changes and not report.lost and not report.not_compared:
        raise UserError(f"{before} and {after} have no run in common that ended well: nothing to compare.")
    regressions = report.regressions(threshold) if threshold is not None else []
    if output == "json":
        found = {**dataclasses.asdict(report), "regressions": [*map(dataclasses.asdict, regressions)]}
        click.echo(json.dumps(found, indent=1))
    else:
        _print(report, regressions, threshold)
    failed = threshold is not None and bool(regressions or report.lost or report.n_absent)
    raise click.exceptions.Exit(1 if failed else 0)


def _print(report: FolderComparison, regressions: Sequence[Change], threshold: float | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("method", "data", "metric"):
        table.add_column(title, overflow="fold")
    for title in ("before", "after", "gain", "95 % interval", "splits"):
        table.add_column(title, justify="right")
    moved = [change for change in report.changes if change.before != change.after or change.gain.mean != 0]
    for change in moved:
        mark = " worse" if change in regressions else ""
        table.add_row(
            escape(_name(change.subject)), escape(_data(change.subject)), escape(one_line(change.metric_id)),
            f"{change.before:.4f}", f"{change.after:.4f}", f"{change.gain.mean:+.4f}{mark}",
            _interval(change), str(change.gain.n),
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no edge to wrap at
        console = Console(width=200)
    if moved:
        console.print(table)
    unchanged = len(report.changes) - len(moved)
    messages.echo(
        f"{len(moved)} of {len(report.changes)} means differ; {unchanged} are the same to the last digit."
    )
    for apart in report.not_compared:
        metric, reason = one_line(apart.metric_id), one_line(apart.reason, MOST_REASON)
        messages.echo(f"Not compared: {metric} of {apart.n_runs} runs: {reason}.")
    if any(apart.reason.startswith("version") for apart in report.not_compared):
        messages.echo("To recompute the scores of kept outputs: run-benchmark rescore FOLDER")
    for lost in report.lost:
        why = one_line(f"{lost.run}: {lost.reason}", MOST_REASON)
        messages.echo(f"Lost: {_name(lost.subject)} on {_data(lost.subject)}, {why}")
    for where, alone in (("first", report.only_before), ("second", report.only_after)):
        for found in alone:
            runs = f"{found.n_runs} of {found.of} runs"
            messages.echo(
                f"Only in the {where} folder: {_name(found.subject)} on {_data(found.subject)}, {runs}"
            )
    if threshold is not None:
        messages.echo(
            f"{len(regressions)} worse by more than {threshold:g}, {len(report.lost)} lost, "
            f"{report.n_absent} absent from the second folder."
        )


def _name(subject: MethodOnData) -> str:
    return one_line(subject.name, MOST_REASON)


def _data(subject: MethodOnData) -> str:
    # A comma ends the part that distinguishes data of one name: "annotation my, 300 cells, kfold-3-42".
    data = f"{subject.dataset_id}, {subject.data_version}," if subject.data_version else subject.dataset_id
    return one_line(f"{subject.task} {data} {subject.scheme}", MOST_REASON)


def _interval(change: Change) -> str:
    low, high = change.gain.low, change.gain.high
    if low is None or high is None:
        return change.gain.reason
    return f"[{low:+.4f}, {high:+.4f}]{'' if change.is_certain else ' may be chance'}"
