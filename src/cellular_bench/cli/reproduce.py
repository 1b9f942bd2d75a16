"""``run-benchmark reproduce``: one recorded run again, and whether it comes out the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cellular_bench.cli import options


@click.command(
    "reproduce",
    epilog="""\b
Examples:
  run-benchmark reproduce results/runs/annotation-baron-.../record.json
  run-benchmark reproduce record.json --adata my.h5ad --batch-key donor --label-key cell_type

Exit code: 0 the same came out, 1 something else did, 2 the run cannot be done again.""",
)
@click.argument("record_file", metavar="RECORD.json", type=options.EXISTING_FILE)
@options.adata_option
@options.batch_key_option
@options.label_key_option
@options.counts_layer_option
@click.option("--data-dir", type=options.EXISTING_FOLDER, help="Folder with files of the data, as for run.")
@click.option(
    "--data-of-folder",
    is_flag=True,
    help="Load the data as suite.json of the record's result folder describes them. It may name any file and "
    "any address: look at it first.",
)
@options.plugin_option
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="Largest difference of a score that counts as the same.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the new result in this folder.")
def command(**given: Any) -> None:
    """Run one record again and compare its scores."""
    from cellular_bench.workflows.reproduce import ReproduceRequest, reproduce

    request = ReproduceRequest.of(**given)
    result = reproduce(request)
    for change in result.changes:
        click.echo(f"since then  {change}")
    for difference in result.differences:
        click.echo(f"differs     {difference}")
    if not result.differences:
        again = result.record
        scores = f"{len(again.scores)} scores within {request.tolerance:g}"
        click.echo(f"Reproduced: {scores if again.scores else f'again {again.status}'}.")
    raise click.exceptions.Exit(1 if result.differences else 0)
