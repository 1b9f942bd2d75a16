"""``run-benchmark check``: whether methods, metrics and data sets keep the promises of the interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellular_bench.cli.options import param_option, plugin_option

if TYPE_CHECKING:
    from cellular_bench.benchmark.conformance import CheckResult


@click.command(
    "check",
    epilog="""\b
Examples:
  run-benchmark check harmony
  run-benchmark check accuracy
  run-benchmark check my_method --plugin my_method.py
  run-benchmark check my_method.py""",
)
@click.argument("names", metavar="NAME|FILE...", nargs=-1, required=True)
@plugin_option
@param_option
def command(names: Sequence[str], plugins: Sequence[Path], params: Mapping[str, Mapping[str, Any]]) -> None:
    """Check methods, metrics and data sets, by name or all of a file; exit code 1 if one fails.

    Every failure says what was promised, what happened and how to fix it. Methods and metrics are checked in
    another process, as in a run; --verbose and --log-file show what they print.
    """
    from cellular_bench.workflows.check import check

    failed = False
    for title, results in check(names, plugins=plugins, params=params):
        click.echo(title)
        for result in results:
            click.echo(f"  {result.status:<17} {result.check_id}{_details(result)}")
            failed |= result.status == "failed"
    if failed:
        raise click.exceptions.Exit(1)


def _details(result: CheckResult) -> str:
    fix = f"Fix: {result.hint}" if result.hint else ""
    return "".join(f"\n      {line}" for text in (result.message, fix) for line in text.splitlines())
