"""``run-benchmark list``: what there is."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cellular_bench.benchmark import registry
from cellular_bench.cli.options import plugin_option
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.text import one_line


@click.command(
    "list",
    epilog="""\b
Examples:
  run-benchmark list methods
  run-benchmark list datasets --format json
  run-benchmark list metrics balanced_accuracy
  run-benchmark list metrics --format markdown""",
)
@click.argument("kind", type=click.Choice(["methods", "metrics", "datasets", "suites"]))
@click.argument("names", nargs=-1)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="markdown: cards of metrics.",
)
@plugin_option
def command(kind: str, names: Sequence[str], output: str, plugins: Sequence[Path]) -> None:
    """List methods, metrics, datasets or suites, or those of the NAMES; a named metric shows its card."""
    if output == "markdown" and kind != "metrics":
        raise UserError("--format markdown is for metrics: they have cards.")
    rows = {
        "methods": lambda: _methods(plugins),
        "metrics": lambda: _metrics(plugins),
        "datasets": lambda: _datasets(plugins),
        "suites": _suites,
    }[kind]()
    rows = _chosen(kind, rows, names)
    if output == "json":
        click.echo(json.dumps(rows, indent=1))
    elif kind == "metrics" and (names or output == "markdown"):
        click.echo(_cards(names), nl=False)
    else:
        _print_table(kind, rows)


def _chosen(kind: str, rows: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of some names, in their order; all rows where none is given."""
    by_name = {next(iter(row.values())): row for row in rows}
    for name in names:
        if name not in by_name:
            raise UnknownNameError({"datasets": "data set"}.get(kind, kind.removesuffix("s")), name, by_name)
    return [by_name[name] for name in names] if names else rows


def _cards(names: Sequence[str]) -> str:
    from cellular_bench.metrics import cards

    if not names:
        return cards.render_all()
    return "\n".join(cards.render(cards.card(name)) for name in names)


def _methods(plugins: Sequence[Path]) -> list[dict[str, Any]]:
    from cellular_bench.benchmark.analysis.fidelity import agreement_of

    return [
        {
            "method_id": name,
            "name": method.spec.name,
            "tasks": list(method.spec.tasks),
            **_attributes(method.spec, "labels", "reads", "inductive", "needs_names"),
            "weights": list(method.spec.weights),
            "control": method.spec.is_control,
            "canary": method.spec.canary,
            "reimplementation": method.spec.is_reimplementation,
            "agreement": found.as_json() if (found := agreement_of(name)) else None,
            "variant_of": method.spec.variant_of,
            "missing": method.missing_modules(),
            "environment": method.spec.environment,
            "environment_problem": state.problem if (state := method.environment()) else None,
            "origin": method.origin,
            "doi": method.spec.doi,
            "params": method.defaults,
        }
        for name, method in registry.methods(plugins).items()
    ]


def _metrics(plugins: Sequence[Path]) -> list[dict[str, Any]]:
    from cellular_bench.metrics import card, required_inputs

    return [
        {
            "metric_id": name,
            **_attributes(spec, "name", "aspect"),
            "range": [spec.minimum, spec.maximum],
            **_attributes(spec, "higher_is_better", "in_overall", "version", "doi", "definition"),
            "needs": list(required_inputs(spec)),
            **_attributes(card(name), "formula", "fooled_by", "example"),
            "measured": {one.data: dict(one.gains) for one in card(name).measured},
        }
        for name, spec in registry.metrics(plugins).items()
    ]


def _datasets(plugins: Sequence[Path]) -> list[dict[str, Any]]:
    size, columns = ("n_obs", "n_vars"), ("batch_key", "label_key", "counts_layer")
    shown = ("dataset_id", "title", *size, *columns, "organism", "license", "doi")
    return [_attributes(spec, *shown) for spec in registry.datasets(plugins).values()]


def _suites() -> list[dict[str, Any]]:
    from cellular_bench.benchmark.schema.suite import read_suite

    suites = [read_suite(path) for path in registry.suites().values()]
    return [
        {
            **_attributes(suite, "suite_id", "title"),
            "tasks": list(dict.fromkeys(block.task for block in suite.blocks)),
            "description": suite.description,
        }
        for suite in suites
    ]


def _attributes(described: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(described, name) for name in names}


#: What a person sees of each kind; ``--format json`` has everything.
_SHOWN = {
    "methods": ("method_id", "tasks", "labels", "unseen cells", "environment", "status"),
    "metrics": ("metric_id", "aspect", "range", "better", "name"),
    "datasets": ("dataset_id", "n_obs", "n_vars", "batches", "title"),
    "suites": ("suite_id", "tasks", "description"),
}


def _print_table(kind: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print one line per row; in a terminal, the last column goes on below itself."""
    table = [list(_SHOWN[kind])]
    for row in rows:
        shown = {**row, **_summary(kind, row)}
        table.append([_text(shown[name]) for name in _SHOWN[kind]])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(30, shutil.get_terminal_size().columns - indent) if sys.stdout.isatty() else None
    for cells in table:
        start = "".join(f"{cell:<{width}}  " for cell, width in zip(cells[:-1], widths, strict=False))
        last = textwrap.wrap(cells[-1], room) if room else [cells[-1]]
        text = f"\n{' ' * indent}".join(last)
        click.secho(f"{start}{text}".rstrip(), bold=(cells is table[0]) or None)


def _summary(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten what JSON gives in full."""
    if kind == "methods":
        status = f"needs {', '.join(row['missing'])}" if row["missing"] else "ready"
        if row["environment_problem"]:
            status = f"environment missing: {row['environment_problem']}"
        if row["control"]:
            status = "control; canary embedding" if row["canary"] else "control"
        if row["reimplementation"]:
            status += "; reimplemented" + (f": {row['agreement']['verdict']}" if row["agreement"] else "")
        if row["needs_names"]:
            status += "; gets the names of cells"
        if row["variant_of"]:
            status += f"; variant of {row['variant_of']}"
        environment = Path(row["environment"] or "common").stem
        return {"status": status, "environment": environment, "unseen cells": row["inductive"]}
    if kind == "metrics":
        low, high = row["range"]
        return {"range": f"{low:g} to {high:g}", "better": "higher" if row["higher_is_better"] else "lower"}
    return {"batches": row.get("batch_key") is not None}


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return one_line(str(value))
