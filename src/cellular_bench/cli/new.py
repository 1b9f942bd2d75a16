"""``run-benchmark new``: a file to begin with, and its test."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import click

from cellular_bench.benchmark import registry
from cellular_bench.core.errors import UserError

_KINDS = ("method", "metric", "dataset")
_TASKS: Mapping[str, tuple[str, str]] = {
    "annotation": ("random_label", 'split="kfold", n_splits=2'),
    "integration": ("shuffled", 'split="all"'),
}


@click.command(
    "new",
    epilog="""\b
Examples:
  run-benchmark new method my_method
  run-benchmark new method my_method --task integration
  run-benchmark new metric my_metric
  run-benchmark new dataset my_data""",
)
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("name")
@click.option(
    "--task",
    type=click.Choice(list(_TASKS)),
    default="annotation",
    show_default=True,
    help="What a method does.",
)
def command(kind: str, name: str, task: str) -> None:
    """Write NAME.py, which works as it is and says where your own code goes, and test_NAME.py.

    Both go into the current folder; nothing is overwritten.
    """
    _check_name(kind, name)
    texts = {f"{name}.py": f"method_{task}" if kind == "method" else kind, f"test_{name}.py": f"test_{kind}"}
    there = [file for file in texts if Path(file).exists()]
    if there:
        raise UserError(
            f"{' and '.join(there)} exist here already; nothing was written. Choose another name."
        )
    control, split = _TASKS[task]
    class_name = "".join(part.capitalize() for part in name.split("_"))
    words = {"CLASS": class_name, "NAME": name, "CONTROL": control, "TASK": task, "SPLIT": split}
    for file, source in texts.items():
        template = files("cellular_bench.cli").joinpath("templates", f"{source}.txt").read_text("utf-8")
        text = re.sub("|".join(words), lambda found: words[found.group()], template)
        Path(file).write_text(text, encoding="utf-8")
    click.echo(f"Wrote {' and '.join(texts)}. They work as they are; next:")
    click.echo(f"  run-benchmark check {name}.py")
    click.echo(f"  run-benchmark run --plugin {name}.py{f' --dataset {name}' if kind == 'dataset' else ''}")
    click.echo(f"  pytest test_{name}.py")


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"'{name}' cannot be a name: it must be lower-case letters, digits and underscores.")
    known = {"method": registry.methods, "metric": registry.metrics, "dataset": registry.datasets}[kind]()
    if name in known:
        raise UserError(f"There is a {kind} '{name}' already; choose another name.")
