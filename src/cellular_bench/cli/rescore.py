"""``run-benchmark rescore``: new scores from kept outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cellular_bench.cli import messages
from cellular_bench.cli.options import EXISTING_FOLDER, min_cells_option, plugin_option, profile_option
from cellular_bench.core.types import ProfileName


@click.command(
    "rescore",
    epilog="""\b
Examples:
  run-benchmark rescore results
  run-benchmark rescore results --plugin my_metric.py    # adds its scores to every run
  run-benchmark report results

Exit code: 0 every run with outputs was scored, 1 some could not be, 2 the request was wrong.""",
)
@click.argument("folder", type=EXISTING_FOLDER)
@profile_option(None, "that of each record")
@min_cells_option(None, "that of each record")
@plugin_option
def command(
    folder: Path, profile: ProfileName | None, min_cells: int | None, plugins: Sequence[Path]
) -> None:
    """Compute the scores of a result folder again from the kept outputs, and write them to the records.

    A run whose outputs, or what they are compared with, are missing or damaged keeps its scores and is named.
    """
    from cellular_bench.workflows.rescore import rescore_folder

    result = rescore_folder(
        folder, profile=profile, min_cells=min_cells, plugins=plugins, progress=messages.progress()
    )
    click.echo(
        f"{result.n_changed} records changed; {result.n_without_outputs} without outputs were left alone."
    )
    if result.unknown_metrics:
        click.echo(
            f"Scores of {', '.join(result.unknown_metrics)} are kept: not known here. To recompute them, "
            "give their file with --plugin."
        )
    if result.n_failed:
        click.echo(f"{result.n_failed} records keep their scores, for the reasons above.")
    click.echo(f"Update the leaderboard with `run-benchmark report {folder}`.")
    raise click.exceptions.Exit(1 if result.n_failed else 0)
