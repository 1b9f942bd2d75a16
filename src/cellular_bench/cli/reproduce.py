"""``run-benchmark reproduce``: one recorded run again, and whether it comes out the same."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellular_bench.benchmark import registry
from cellular_bench.cli import options

if TYPE_CHECKING:
    from cellular_bench.benchmark.schema.records import RunRecord
    from cellular_bench.core.types import Dataset, DatasetSpec

DEFAULT_TOLERANCE = 1e-6


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
@options.plugin_option
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=DEFAULT_TOLERANCE,
    show_default=True,
    help="Largest difference of a score that counts as the same.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the new result in this folder.")
def command(
    record_file: Path,
    *,
    adata: Path | None,
    batch_key: str | None,
    label_key: str | None,
    counts_layer: str | None,
    data_dir: Path | None,
    plugins: tuple[Path, ...],
    tolerance: float,
    out: Path | None,
) -> None:
    """Run one record again and compare its scores."""
    from cellular_bench.benchmark.schema.record_files import read_record
    from cellular_bench.cli.run import known_datasets, own_data
    from cellular_bench.workflows import reproduce as reproduction

    recorded = read_record(record_file)
    own = own_data(adata, batch_key=batch_key, label_key=label_key, counts_layer=counts_layer)
    # The seed of a run derives from the name of its data, whatever the file is called today.
    own = replace(own, dataset_id=recorded.dataset.dataset_id) if own else None
    suite = reproduction.request(recorded)
    beside = record_file.resolve().parent / "../../suite.json"
    if beside.exists():  # it describes data of the suite's own
        suite = suite.model_copy(update={"data": suite.model_validate_json(beside.read_bytes()).data})
    specs = known_datasets(suite, own, data_dir, plugins)
    spec = registry.lookup("data set", recorded.dataset.dataset_id, specs)
    dataset = _load(recorded, replace(spec, recipe=suite.recipe) if suite.recipe else spec)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        again = _run(recorded, dataset, [path.resolve() for path in plugins], out or Path(folder) / "again")
    for line in reproduction.told(reproduction.changes(recorded, again)):
        click.echo(f"since then  {line}")
    found = reproduction.differences(recorded, again, tolerance=tolerance)
    for line in reproduction.told(found):
        click.echo(f"differs     {line}")
    if not found:
        scores = (
            f"{len(again.scores)} scores within {tolerance:g}" if again.scores else f"again {again.status}"
        )
        click.echo(f"Reproduced: {scores}.")
    raise click.exceptions.Exit(1 if found else 0)


def _load(recorded: RunRecord, spec: DatasetSpec) -> Dataset:
    from cellular_bench.datasets import catalog

    dataset = catalog.load(spec)
    drawn = recorded.dataset.subsample
    return (
        dataset if drawn is None else catalog.subsampled(dataset, recorded.dataset.n_obs, seed=drawn["seed"])
    )


def _run(recorded: RunRecord, dataset: Dataset, plugins: list[Path], out: Path) -> RunRecord:
    from cellular_bench.benchmark.execution.executor import Executor
    from cellular_bench.benchmark.plan.planner import plan
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.workflows import reproduce as reproduction

    known = registry.methods(plugins)
    reproduction.check_inputs(recorded, dataset, known)
    datasets = {recorded.dataset.dataset_id: dataset}
    suite = reproduction.request(recorded)
    planned = reproduction.only(plan(suite, datasets=datasets, methods=known, plugins=plugins), recorded)
    executor = Executor(store=Store.create(out, suite))
    with executor.store.locked():
        executor.store.forget(run.run_id for run in planned.runs)
        (again,) = executor.execute(planned, datasets=datasets, progress=_Silent())
    return again


class _Silent:
    def started(self, run: object) -> None:
        """One run needs no progress."""

    def finished(self, record: object) -> None:
        """One run needs no progress."""
