"""``run-benchmark import``: results that others publish, as a result folder of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cellular_bench.cli.options import EXISTING_FILE, NameList


@click.group(
    "import",
    epilog="""\b
Examples:
  run-benchmark import open-problems results.json method_info.json --out results/op
  run-benchmark import scib-metrics scib.csv --dataset-id lung --out results/scib""",
)
def command() -> None:
    """Turn results that others publish into a result folder."""


@command.command(
    "open-problems",
    epilog="""\b
Examples:
  run-benchmark import open-problems results.json method_info.json dataset_info.json --out results/op
  run-benchmark report results/op""",
)
@click.argument("files", type=EXISTING_FILE, nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def open_problems(files: tuple[Path, ...], *, out: Path) -> None:
    """Read the lists of one task of Open Problems: results and methods, and data sets for their titles.

    Checks that their rule gives the mean scores that they publish, and writes OUT/open-problems.md: their
    ranking beside ours, and what moves a method from one to the other.
    """
    from cellular_bench.workflows.import_results import import_open_problems

    imported = import_open_problems(files, out)
    n_datasets = len({run.dataset.dataset_id for run in imported.runs})
    click.echo(f"{len(imported.runs)} results of {n_datasets} data sets in {out}.")
    if imported.n_left_out:
        click.echo(f"Left out: {imported.n_left_out} results that name no data set.")
    click.echo(
        f"Their mean scores are reproduced to {imported.deviation:.4f}; "
        f"{imported.comparison} compares rankings."
    )
    click.echo(f"Write the leaderboard with `run-benchmark report {out} --no-figures`.")


@command.command(
    "scib-metrics",
    epilog="""\b
Examples:
  run-benchmark import scib-metrics scib.csv --dataset-id lung --out results/scib
  run-benchmark import scib-metrics scib.csv --dataset-id lung --saw-labels X_scANVI --out results/scib
  run-benchmark report results/scib results/mine --out board

The table is what Benchmarker writes: benchmarker.get_results(min_max_scale=False).to_csv("scib.csv").""",
)
@click.argument("file", type=EXISTING_FILE)
@click.option(
    "--dataset-id", required=True, help="What to call the data: lower-case letters, digits, underscores."
)
@click.option(
    "--saw-labels",
    type=NameList(),
    default=(),
    help="Embeddings that were made with the labels they are scored on.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def scib_metrics(file: Path, *, dataset_id: str, saw_labels: Sequence[str], out: Path) -> None:
    """Read a table of scib-metrics' Benchmarker: a row per embedding, a column per metric."""
    from cellular_bench.workflows.import_results import import_scib_metrics

    runs = import_scib_metrics(file, out, dataset_id=dataset_id, saw_labels=saw_labels).runs
    click.echo(f"{len(runs)} embeddings of {dataset_id} in {out}; the table has no cells, seeds and costs.")
    others = [run.method.name for run in runs if run.method.labels == "none"]
    click.echo(f"Taken as made without labels: {', '.join(others) or 'none'}; --saw-labels names others.")
    click.echo(f"Write the leaderboard with `run-benchmark report {out} --no-figures`.")
