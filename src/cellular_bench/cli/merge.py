"""``run-benchmark merge``: several result folders to one."""

from __future__ import annotations

from pathlib import Path

import click

from cellular_bench.cli.options import EXISTING_FOLDER


@click.command(
    "merge",
    epilog="""\b
Examples:
  run-benchmark merge results/monday results/cluster --out results/all""",
)
@click.argument("folders", type=EXISTING_FOLDER, nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def command(folders: tuple[Path, ...], *, out: Path) -> None:
    """Copy the runs of several result folders into a new one.

    Where two folders hold the same run, the one that ended well is taken, then the later one.
    """
    from cellular_bench.benchmark.results.merge import merge
    from cellular_bench.benchmark.results.store import Store

    merged = merge([Store.open(folder) for folder in folders], out)
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in merged.statuses.items())
    click.echo(f"{merged.n_records} records in {out}: {counts or 'none'}.")
    for reason in merged.refused:
        click.echo(f"Left out: {reason}", err=True)
    for run_id in merged.differing:
        click.echo(
            f"The same run has different scores in two folders, the later is taken: {run_id}", err=True
        )
    click.echo(f"Write the leaderboard with `run-benchmark report {out}`.")
