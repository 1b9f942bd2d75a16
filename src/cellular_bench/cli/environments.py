"""``run-benchmark env``: environments of methods whose packages do not fit beside the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cellular_bench import environments
from cellular_bench.cli.options import format_option, plugin_option
from cellular_bench.core.errors import UserError
from cellular_bench.environments import Declaration, building
from cellular_bench.workflows.environments import declared_with_methods


@click.group(
    "env",
    epilog="""\b
Examples:
  run-benchmark env list
  run-benchmark env create liger
  run-benchmark env create my_environment.toml
  run-benchmark env remove liger""",
)
def command() -> None:
    """Create, list and remove the environments that some methods run in."""


@command.command("list")
@plugin_option
@format_option
def list_command(plugins: Sequence[Path], output: str) -> None:
    """List the environments, whether they are ready, and why not."""
    rows = [_row(declared, methods) for declared, methods in declared_with_methods(plugins)]
    if output == "json":
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        state = f"ready ({row['language']})" if row["problem"] is None else f"missing: {row['problem']}"
        click.echo(f"{row['environment']}: {row['title']}; for {', '.join(row['methods']) or 'no method'}")
        click.echo(f"  {state}")
        if row["problem"] is not None:
            click.echo(f"  fix: {row['remedy']}")
        for folder in row["outdated"]:
            click.echo(f"  of an older declaration, or unfinished: {folder}")


@command.command("create")
@click.argument("name", metavar="NAME|FILE")
@click.option(
    "--with", "installer", type=click.Choice(["pip", "uv"]), help="[default: uv where it is installed]"
)
def create_command(name: str, installer: building.Installer | None) -> None:
    """Build an environment in the cache directory, with the exact versions that it declares.

    For R it says which packages are missing and how to install them; it changes nothing on the system.
    """
    declared = environments.find(name)
    if declared.python is not None:
        building.create(declared, installer=installer, say=click.echo)
        return
    found = environments.state(declared)
    if not found.is_ready:
        raise UserError(environments.missing_text(found))
    click.echo(f"{declared.name} is ready: {found.language}, {found.command[0]}")


@command.command("remove")
@click.argument("name", metavar="NAME|FILE")
def remove_command(name: str) -> None:
    """Delete an environment, with those of its older declarations."""
    declared = environments.find(name)
    if declared.python is None:
        raise UserError(f"Environment '{declared.name}' is R's own: it was not created here, so it stays.")
    removed = building.remove(declared)
    for folder in removed:
        click.echo(f"removed {folder}")
    if not removed:
        click.echo(f"{declared.name}: there was nothing to remove.")


@command.command("lock")
@click.argument("name", metavar="NAME|FILE")
def lock_command(name: str) -> None:
    """Print every package of an environment with its version: the contents of a lock file."""
    found = environments.required(environments.find(name))
    for package, version in found.packages.items():
        click.echo(f"{package}=={version}")


def _row(declared: Declaration, methods: Sequence[str]) -> dict[str, Any]:
    found = environments.state(declared)
    here = building.folders_of(declared.name) if declared.python else []
    return {
        "environment": declared.name,
        "title": declared.title,
        "methods": list(methods),
        "language": found.language,
        "packages": dict(found.packages),
        "problem": found.problem,
        "remedy": found.remedy,
        "outdated": [str(folder) for folder in here if str(folder) not in "".join(found.command)],
    }
