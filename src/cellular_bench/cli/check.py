"""``run-benchmark check``: whether methods, metrics and data sets keep the promises of the interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellular_bench.benchmark import registry
from cellular_bench.cli.options import param_option, plugin_option
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import DatasetSpec

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

    Every failure says what was promised, what was found and how to mend it. Methods and metrics are
    checked in a process of their own, as they are run; --verbose and --log-file tell what they print.
    """
    failed = False
    for title, results in _checked(names, plugins, params):
        click.echo(title)
        for result in results:
            click.echo(f"  {result.status:<17} {result.check_id}{_details(result)}")
            failed |= result.status == "failed"
    if failed:
        raise click.exceptions.Exit(1)


def _checked(
    names: Sequence[str], plugins: Sequence[Path], params: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Iterable[CheckResult]]]:
    """Yield what is checked, and its results as they come."""
    from cellular_bench.benchmark.conformance.isolated import check_isolated

    files = tuple(Path(name) for name in names if name.endswith(".py"))
    for path in files:
        if not path.is_file():
            raise UserError(f"{path} does not exist.")
    loaded = registry.load(files)
    every = (*plugins, *files)
    methods = registry.methods(every)
    metrics, datasets = registry.metrics(plugins), registry.datasets(every)
    chosen = [name for name in names if not name.endswith(".py")]
    for plugin in loaded:
        chosen += [factory.spec.method_id for factory in plugin.methods]
        chosen += [spec.metric_id for spec in plugin.metrics] + [spec.dataset_id for spec in plugin.datasets]
    for name in chosen:
        if name in metrics:
            yield f"{name} (metric)", check_isolated("metric", name, plugins=every)
        elif name in datasets:
            yield f"{name} (data set)", _dataset_results(datasets[name])
        else:
            method = registry.lookup("method", name, methods)
            results = check_isolated("method", name, plugins=every, params=params.get(name))
            yield f"{name} ({method.origin})", results


def _dataset_results(spec: DatasetSpec) -> Iterator[CheckResult]:
    """Check a data set once its name has been told; it is loaded in this process, as a run does."""
    from cellular_bench.benchmark.conformance import check_dataset

    yield from check_dataset(spec)


def _details(result: CheckResult) -> str:
    mend = f"To mend it: {result.hint}" if result.hint else ""
    return "".join(f"\n      {line}" for text in (result.message, mend) for line in text.splitlines())
