"""Compute the scores of a result folder again from the kept outputs, without running a method."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import relabelling, scoring
from cellular_bench.benchmark.execution.preparation import (
    add_inputs,
    lacking_inputs,
    read_inputs,
    read_truth,
)
from cellular_bench.benchmark.results.contents import check_data, check_split
from cellular_bench.benchmark.results.store import OUTPUTS, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.tasks import Task
from cellular_bench.core.errors import ContractError, UndefinedError, UserError
from cellular_bench.core.outputs import read_outputs
from cellular_bench.core.types import ProfileName
from cellular_bench.metrics.spec import required_inputs
from cellular_bench.workflows.progress import SILENT, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RescoreResult:
    """What became of the records of a folder.

    Attributes
    ----------
    n_changed
        Records with other scores than before.
    n_without_outputs
        Records of runs that did not end well; they stay as they are.
    n_failed
        Records that keep their scores because outputs or truth are missing or damaged.
    unknown_metrics
        Metrics that are not known here; their scores are kept.
    """

    n_changed: int
    n_without_outputs: int
    n_failed: int
    unknown_metrics: tuple[str, ...]


def rescore_folder(
    folder: Path,
    *,
    profile: ProfileName | None = None,
    min_cells: int | None = None,
    plugins: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> RescoreResult:
    """Compute the scores of a result folder again, and write them to the records.

    Parameters
    ----------
    profile
        How exact scores are; None: as in each record.
    min_cells
        Least number of cells of a batch in metrics that read batches; None: as in each record.
    plugins
        Files with metrics whose scores are added to every run.

    Raises
    ------
    UserError
        If it is no result folder, or another process writes to it.
    """
    store = Store.open(folder)
    store.check_version_of_runs()  # before the first is changed
    registry.load(plugins)
    n_changed = n_without_outputs = n_failed = 0
    unknown: set[str] = set()
    with store.locked():
        for record in store.records():
            if record.status != "ok":
                n_without_outputs += 1
                continue
            try:
                rescored = rescore(store, record, profile=profile, min_cells=min_cells)
            except UserError as error:
                n_failed += 1
                progress.warning(f"Not rescored, {record.run_id}: {error}")
                continue
            unknown |= unknown_metrics(record)
            if rescored != record:
                store.write(rescored)
                n_changed += 1
    return RescoreResult(
        n_changed=n_changed,
        n_without_outputs=n_without_outputs,
        n_failed=n_failed,
        unknown_metrics=tuple(sorted(unknown)),
    )


def rescore(
    store: Store, record: RunRecord, *, profile: ProfileName | None = None, min_cells: int | None = None
) -> RunRecord:
    """Return a record with its scores computed from the kept outputs, with the record's settings or others.

    Scores of metrics that are not known here are kept.

    Raises
    ------
    UserError
        If the outputs or the truth are missing, damaged or do not belong together.
    """
    outputs = read_outputs(store.run_file(record.run_id, OUTPUTS))
    folder = store.split_folder(record.dataset, record.split)
    check_split(store, record)
    if outputs.genes is not None:
        check_data(store, record.dataset)
    task = registry.task(record.task)
    given = scoring.expression_of(outputs, store.data_file(record.dataset), folder, record.method)
    profile = profile or (record.evaluation.profile if record.evaluation else "standard")
    given |= _inputs(store, record, task, profile)
    min_cells = min_cells or scoring.min_cells_of(record)
    truth = read_truth(folder)
    try:
        scored = scoring.score(task, outputs, truth, given=given, profile=profile, min_cells=min_cells)
    except ContractError as error:
        raise UserError(str(error)) from error
    unknown = unknown_metrics(record)
    scores = list(scored.scores)
    for place, score in enumerate(record.scores):
        if score.metric_id in unknown:
            scores.insert(place, score)
    again = ("per_label", "confusion", "conditions", "per_group", "evaluation")
    changed = {name: getattr(scored, name) for name in again}
    rescored = record.model_copy(update={**changed, "scores": tuple(scores)})
    return relabelling.rescored(store, rescored) if record.relabelled else rescored


def _inputs(store: Store, record: RunRecord, task: Task, profile: ProfileName) -> dict[str, Any]:
    """Return the inputs of the task's metrics; those that the folder lacks are computed from its data.

    Without the data, the metrics that need them have a reason, unless the record has a value of one.

    Raises
    ------
    UserError
        If a file that a value of the record rests on is missing or damaged, or the data are other ones.
    """
    folder = store.split_folder(record.dataset, record.split)
    wanted: dict[str, Any] = {"study_metrics": scoring.has_study_metrics(record), "profile": profile}
    lacking = lacking_inputs(task, folder, **wanted)
    data = store.data_file(record.dataset)
    if lacking and data.exists():
        check_data(store, record.dataset)
        add_inputs(data, folder, lacking, kind=record.split.kind, profile=profile)
        lacking = {}
    absent = {
        name: UndefinedError(f"needs the data of the run, and {data.name} is missing")
        for name, one in lacking.items()
        if not _has_value_of(record, one.inputs)
    }
    return read_inputs(task, folder, absent=absent, **wanted)


def _has_value_of(record: RunRecord, inputs: Collection[str]) -> bool:
    """Whether a record has a value that was computed from one of some inputs."""
    known = registry.metrics()
    return any(
        score.value is not None and not set(required_inputs(known[score.metric_id])).isdisjoint(inputs)
        for score in record.scores
        if score.metric_id in known
    )


def unknown_metrics(record: RunRecord) -> set[str]:
    """Return the metrics of a record that are not known here, so that their scores stay as they are."""
    return {score.metric_id for score in record.scores} - registry.metrics().keys()
