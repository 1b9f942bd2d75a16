"""``run-benchmark check``: whether a method keeps the promises of the interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.cli.options import param_option, plugin_option
from cellular_bench.benchmark.errors import UserError


@click.command(
    "check",
    epilog="""\b
Examples:
  run-benchmark check harmony
  run-benchmark check my_method --plugin my_method.py
  run-benchmark check my_method.py""",
)
@click.argument("names", metavar="METHOD|FILE...", nargs=-1, required=True)
@plugin_option
@param_option
def command(names: Sequence[str], plugins: Sequence[Path], params: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that methods keep the promises of the interface; exit code 1 if one does not."""
    from cellular_bench.benchmark.conformance import check_method

    chosen = _chosen(names, plugins)
    failed = False
    for method in chosen:
        results = check_method(method.factory, params=params.get(method.spec.method_id))
        click.echo(f"{method.spec.method_id} ({method.origin})")
        for result in results:
            click.echo(f"  {result.status:<17} {result.check_id}{_details(result.message, result.hint)}")
            failed |= result.status == "failed"
    if failed:
        raise click.exceptions.Exit(1)


def _chosen(names: Sequence[str], plugins: Sequence[Path]) -> list[registry.Method]:
    files = tuple(Path(name) for name in names if name.endswith(".py"))
    for path in files:
        if not path.is_file():
            raise UserError(f"{path} does not exist.")
    known = registry.methods((*plugins, *files))
    of_files = [method for method in known.values() if Path(method.origin) in {f.resolve() for f in files}]
    named = [registry.pick("method", name, known) for name in names if not name.endswith(".py")]
    return [*named, *of_files]


def _details(message: str, hint: str) -> str:
    return "".join(f"\n      {line}" for text in (message, hint) for line in text.splitlines())
