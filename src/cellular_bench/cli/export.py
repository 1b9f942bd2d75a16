"""``run-benchmark export``: results for other programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellular_bench.cli.options import EXISTING_FOLDER
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import short

if TYPE_CHECKING:
    from cellular_bench.benchmark.schema.records import RunRecord


@click.command(
    "export",
    epilog="""\b
Examples:
  run-benchmark export results --format csv
  run-benchmark export results --format parquet
  run-benchmark export results --format h5ad --out for_scanpy

A file of cells, one for each data set and split, has the embedding of METHOD in obsm["X_METHOD"], its
labels in obs["METHOD_label"], and the true ones in obs["label"].""",
)
@click.argument("folder", type=EXISTING_FOLDER)
@click.option(
    "--format",
    "output",
    type=click.Choice(["csv", "parquet", "h5ad"]),
    required=True,
    help="csv, parquet: a row per run and metric; h5ad: cells with embeddings and predictions.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: FOLDER/export]")
def command(folder: Path, *, output: str, out: Path | None) -> None:
    """Write the scores of a result folder as a table, or its cells with what each method made of them."""
    from cellular_bench.results import Results

    if output == "parquet" and find_spec("pyarrow") is None:
        raise UserError(
            "Parquet needs pyarrow, which is not installed. "
            'To mend it: pip install -c constraints.txt "cellular-bench[parquet]"'
        )
    results = Results(folder)
    if not results.records:
        raise UserError(f"{folder} holds no record yet; start with `run-benchmark run --out {folder}`.")
    target = out or folder / "export"
    target.mkdir(parents=True, exist_ok=True)
    if output == "h5ad":
        _write_cells(results.folder, results.records, target)
        return
    path = target / f"scores.{output}"
    frame = results.to_frame()
    if output == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    click.echo(path)


def _write_cells(folder: Path, records: Sequence[RunRecord], target: Path) -> None:
    from cellular_bench.benchmark.analysis.data_versions import version_names
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.workflows.export import as_anndata, by_cells

    store = Store.open(folder)
    versions = version_names(record.dataset for record in records)
    for runs in by_cells(records):
        first = runs[0]
        data = first.dataset
        # Data of one name may be cut into the same cells, such as the same file with other labels.
        known = data.version_id if versions[data.dataset_id, data.digest] else data.dataset_id
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{known}-{first.split.split_id}")
        path = target / f"{short(name)}-{first.split.digest[:8]}.h5ad"
        as_anndata(store, runs).write_h5ad(path, compression="gzip")
        click.echo(path)
