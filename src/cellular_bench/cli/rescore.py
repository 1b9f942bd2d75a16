"""``run-benchmark rescore``: new scores from kept outputs, without running a method again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.preparation import read_truth
from cellular_bench.benchmark.results.store import OUTPUTS, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.cli.options import EXISTING_FOLDER, plugin_option, profile_option
from cellular_bench.core.errors import ContractError, UserError
from cellular_bench.core.outputs import read_outputs
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
@plugin_option
def command(folder: Path, profile: ProfileName | None, plugins: Sequence[Path]) -> None:
    """Compute the scores of a result folder again from the kept outputs, and write them to the records.

    A run whose outputs, or what they are compared with, are missing or damaged keeps its scores and is named.
    """
    store = Store.open(folder)
    registry.load(plugins)
    changed = kept = failed = 0
    unknown: set[str] = set()
    with store.locked():
        for record in store.records():
            if record.status != "ok":
                kept += 1
                continue
            try:
                rescored = rescore(store, record, profile=profile)
            except UserError as error:
                failed += 1
                click.echo(f"Not scored anew, {record.run_id}: {error}", err=True)
                continue
            unknown |= unknown_metrics(record)
            if rescored != record:
                store.write(rescored)
                changed += 1
    click.echo(f"{changed} records changed; {kept} without outputs were left alone.")
    if unknown:
        click.echo(
            f"Scores of {', '.join(sorted(unknown))} are kept: not known here. To compute them anew, give "
            "their file with --plugin."
        )
    if failed:
        click.echo(f"{failed} records keep their scores, for the reasons above.")
    click.echo(f"Write the leaderboard anew with `run-benchmark report {folder}`.")
    raise click.exceptions.Exit(1 if failed else 0)


def rescore(store: Store, record: RunRecord, *, profile: ProfileName | None = None) -> RunRecord:
    """Return a record with its scores computed from the kept outputs, in the record's profile or another.

    Scores of metrics that are not known here are kept.

    Raises
    ------
    UserError
        If the outputs or the truth are missing, damaged or do not belong together.
    """
    outputs = read_outputs(store.run_folder(record.run_id) / OUTPUTS)
    folder = store.split_folder(record.dataset, record.split)
    expression = scoring.expression_of(outputs, store.data_file(record.dataset), folder)
    on_request = scoring.has_metrics_on_request(record)
    more = scoring.inputs_on_request(record.task, folder) if on_request else None
    try:
        scored = scoring.score(
            record.task,
            outputs,
            read_truth(folder),
            expression=expression,
            more=more,
            profile=profile or _profile_of(record),
        )
    except ContractError as error:
        raise UserError(str(error)) from error
    unknown = unknown_metrics(record)
    kept = tuple(score for score in record.scores if score.metric_id in unknown)
    changed = {name: getattr(scored, name) for name in ("per_label", "confusion", "evaluation")}
    return record.model_copy(update={**changed, "scores": (*scored.scores, *kept)})


def unknown_metrics(record: RunRecord) -> set[str]:
    """Return the metrics of a record that are not known here, so that their scores stay as they are."""
    return {score.metric_id for score in record.scores} - registry.metrics().keys()


def _profile_of(record: RunRecord) -> ProfileName:
    return record.evaluation.profile if record.evaluation else "standard"
