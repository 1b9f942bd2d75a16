"""``run-benchmark doctor``: what this machine has, what is missing, and what that would enable."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cellular_bench.cli.options import format_option

if TYPE_CHECKING:
    from cellular_bench.workflows.doctor import Finding


@click.command(
    "doctor",
    epilog="""\b
Examples:
  run-benchmark doctor
  run-benchmark doctor --format json

Exit code: 0 the program can be used, 1 a problem must be fixed first.""",
)
@format_option
@click.option("--json", "as_json", is_flag=True, hidden=True)  # deprecated: --format json
def command(*, output: str, as_json: bool) -> None:
    """Look at this machine: versions, cores, memory, disk, GPU, sandbox, R, environments and extras."""
    from cellular_bench.workflows.doctor import examine

    if as_json:
        click.echo("--json is deprecated; use --format json.", err=True)
    findings = list(examine())
    if as_json or output == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    raise click.exceptions.Exit(1 if any(f.status == "problem" for f in findings) else 0)


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        click.echo(f"{finding.status:<8} {finding.topic}: {finding.found}")
        if finding.status != "ok":
            if finding.enables:
                click.echo(f"{'':<8}   would enable {finding.enables}")
            if finding.remedy:
                click.echo(f"{'':<8}   fix: {finding.remedy}")
    n_problems = sum(finding.status == "problem" for finding in findings)
    if n_problems:
        click.echo(f"{n_problems} to be fixed before anything can run.")
    else:
        click.echo("Ready. What is missing above is optional. First steps: run-benchmark run")
