"""``run-benchmark export``: results for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellular_bench.cli.options import EXISTING_FOLDER

if TYPE_CHECKING:
    from cellular_bench.workflows.export import Format


@click.command(
    "export",
    epilog="""\b
Examples:
  run-benchmark export results --format csv
  run-benchmark export results --format parquet
  run-benchmark export results --format h5ad --out for_scanpy

A file of cells, one for each data set and split, has the embedding of METHOD in obsm["X_METHOD"], its
labels in obs["METHOD_label"], and the true ones in obs["label"]. Values of single cells, such as
obs["METHOD_batch_mixing"], say where an integration mixes batches and keeps labels apart.""",
)
@click.argument("folder", type=EXISTING_FOLDER)
@click.option(
    "--format",
    "output",
    type=click.Choice(["csv", "parquet", "h5ad"]),
    required=True,
    help="csv, parquet: a row per run and metric; h5ad: cells with embeddings, predictions and scores.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: FOLDER/export]")
def command(folder: Path, *, output: Format, out: Path | None) -> None:
    """Write the scores of a result folder as a table, or its cells with the output of each method."""
    from cellular_bench.workflows.export import export

    for path in export(folder, output=output, out=out):
        click.echo(path)
