"""Run a record again, and compare the new scores with the recorded ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.isolation import scratch
from cellular_bench.benchmark.plan.params import file_digests
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.plan.run import Plan
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.record_files import read_record
from cellular_bench.benchmark.schema.records import Limits, RunRecord
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import Dataset
from cellular_bench.datasets import catalog
from cellular_bench.workflows import data
from cellular_bench.workflows.progress import SILENT, Progress
from cellular_bench.workflows.requests import OwnCells


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference of two runs: what differs, the recorded and the new value or the reason there is none."""

    what: str
    recorded: object
    again: object

    def __str__(self) -> str:
        return f"{self.what}: {self.recorded} -> {self.again}"


class ReproduceRequest(OwnCells):
    """A record to be reproduced.

    Attributes
    ----------
    record_file
        The record.
    data_of_folder
        Load the data as ``suite.json`` of the record's result folder describes them: it may name any file
        and any address. False: that file is not read.
    data_dir, plugins
        As for a run.
    tolerance
        Largest difference of a score that counts as the same.
    out
        Folder that keeps the new result; None: it is not kept.
    """

    record_file: Path
    data_of_folder: bool = False
    data_dir: Path | None = None
    plugins: tuple[Path, ...] = ()
    tolerance: float = 1e-6
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """The new record, what changed around it since, and where its scores differ."""

    record: RunRecord
    changes: Sequence[Difference]
    differences: Sequence[Difference]


def reproduce(request: ReproduceRequest, *, progress: Progress = SILENT) -> Reproduced:
    """Run a record again and compare its scores.

    Raises
    ------
    UserError
        If the run cannot be repeated: other data, another plug-in, another split, a missing file.
    """
    recorded = read_record(request.record_file.resolve())
    if recorded.is_canary:
        raise UserError(
            f"{request.record_file} is a run of a leak canary, which is no result. Name another record."
        )
    dataset = _dataset(request, recorded)
    plugins = [path.resolve() for path in request.plugins]
    with scratch.folder() as folder:
        out = request.out or folder / "again"
        again = _run(recorded, dataset, plugins, out, progress)
    found = differences(recorded, again, tolerance=request.tolerance)
    return Reproduced(record=again, changes=changes(recorded, again), differences=found)


def _dataset(request: ReproduceRequest, recorded: RunRecord) -> Dataset:
    """Load the data of a record, with its recipe and its subsample."""
    own = data.described(request)
    # The seed of a run derives from the name of its data, whatever the file is called today.
    own = replace(own, dataset_id=recorded.dataset.dataset_id) if own else None
    suite = suite_of(recorded)
    if request.data_of_folder:
        suite = suite.model_copy(update={"data": _suite_beside(request.record_file).data})
    specs = data.known_datasets(suite, own, request.data_dir, request.plugins)
    name = recorded.dataset.dataset_id
    if name not in specs and not request.data_of_folder:
        raise UserError(
            f"Data set '{name}' is not in the catalogue. Name its file by --adata or --data-dir; or, if you "
            "trust the result folder of the record, load the data as its suite.json describes them: "
            "--data-of-folder."
        )
    spec = registry.lookup("data set", name, specs)
    spec = replace(spec, keep=recorded.dataset.keep, donor_key=recorded.dataset.donor_key)
    dataset = catalog.load(replace(spec, recipe=suite.recipe) if suite.recipe else spec)
    drawn = recorded.dataset.subsample
    if drawn is None:
        return dataset
    return catalog.subsampled(dataset, recorded.dataset.n_obs, seed=drawn["seed"])


def _suite_beside(record_file: Path) -> Suite:
    """Return the suite of the result folder that a record is in."""
    suite = Store.open(record_file.resolve().parent.parent.parent).suite
    if suite is None:
        raise UserError(
            f"{record_file} is in no result folder with a suite.json, which --data-of-folder reads."
        )
    return suite


def _run(
    recorded: RunRecord, dataset: Dataset, plugins: Sequence[Path], out: Path, progress: Progress
) -> RunRecord:
    known = registry.methods(plugins)
    check_inputs(recorded, dataset, known)
    datasets = {recorded.dataset.dataset_id: dataset}
    suite = suite_of(recorded)
    planned = only(plan(suite, datasets=datasets, methods=known, plugins=plugins), recorded)
    executor = Executor(store=Store.create(out, suite))
    with executor.store.locked():
        executor.store.forget(run.run_id for run in planned.runs)
        (again,) = executor.execute(planned, datasets=datasets, progress=progress)
    return again


def suite_of(record: RunRecord) -> Suite:
    """Return the suite that asks for what a record answers: its run, and the other splits of its cutting."""
    method = record.method
    setting = method.preprocessing
    given = None if setting and setting.genes is not None else method.features
    choice = MethodChoice(method_id=method.method_id, params=method.params, features=given)
    recipe = record.dataset.recipe
    return Suite(
        suite_id=record.suite_id,
        title=f"Again: {record.run_id}",
        limits=record.limits or Limits(),
        recipe=None if recipe is None else recipe["name"],
        leak_canary=False,
        min_cells=1,  # every split is made; see :func:`only`
        profile=record.profile or (record.evaluation.profile if record.evaluation else "full"),
        study_metrics=scoring.has_study_metrics(record),
        genes=() if setting is None or setting.genes is None else (setting.genes,),
        hvg=() if setting is None or setting.flavor is None else (setting.flavor,),
        scale=(True,) if setting and setting.scale else (),
        blocks=(
            Block(
                task=record.task,
                datasets=(record.dataset.dataset_id,),
                methods=(choice,),
                splits=(SplitChoice(kind=record.split.kind, options=record.split.options),),
                seeds=(record.seed,),
            ),
        ),
    )


def check_inputs(record: RunRecord, dataset: Dataset, known: Mapping[str, registry.Method]) -> None:
    """Refuse other data or another plug-in than the record's: their result would say nothing about it.

    Raises
    ------
    UserError
        Which of them differs.
    """
    name = record.dataset.dataset_id
    if dataset.digest != record.dataset.digest:
        raise UserError(
            f"Data set '{name}' holds other contents than when the record was made: its digest begins with "
            f"{dataset.digest[:10]}, the record's with {record.dataset.digest[:10]}. Name the data that it "
            "was made with, by --adata or --data-dir."
        )
    method = registry.lookup("method", record.method.method_id, known)
    digest = method.source_digest[:10] if method.source_digest else None
    if digest != record.method.source_digest:
        raise UserError(
            f"Method '{record.method.method_id}' was run from a plug-in file whose digest begins with "
            f"{record.method.source_digest}; this one is from {method.origin} ({digest}). Give that file by "
            "--plugin."
        )
    for name, now in file_digests(method, record.method.params).items():
        then = record.method.files.get(name)
        if now != then:
            raise UserError(
                f"Method '{record.method.method_id}' read {record.method.params[name]} with other contents: "
                f"their sha256 began with {(then or 'nothing')[:10]}, now with {now[:10]}. Put the file back."
            )


def only(plan: Plan, record: RunRecord) -> Plan:
    """Return the part of a plan that is a record's own run.

    Raises
    ------
    UserError
        If the split of the record is not among those that the plan has.
    """
    own = record.split.split_id, record.split.digest
    settings = {"min_cells": scoring.min_cells_of(record), "warnings": record.warnings}
    runs = tuple(
        run.model_copy(update=settings)
        for run in plan.runs
        if (run.split.split_id, run.split.digest) == own
        and run.method.preprocessing == record.method.preprocessing
    )
    if not runs:
        raise UserError(
            f"Split '{record.split.split_id}' comes out with other cells today: the recorded run cannot be "
            "done again."
        )
    return replace(plan, runs=runs)


def differences(recorded: RunRecord, again: RunRecord, *, tolerance: float) -> list[Difference]:
    """Return what came out otherwise: the status, or scores that differ by more than the tolerance."""
    if recorded.status != again.status:
        return [
            Difference(
                what="status",
                recorded=f"{recorded.status} {recorded.reason or ''}".strip(),
                again=f"{again.status} {again.reason or ''}".strip(),
            )
        ]
    theirs = {score.metric_id: score for score in again.scores}
    found = []
    for score in recorded.scores:
        other = theirs.get(score.metric_id)
        if other is None:
            found.append(Difference(what=score.metric_id, recorded=score.value, again="not computed"))
        elif not _equal(score.value, other.value, tolerance):
            version = f" (version {score.version}, now {other.version})"
            what = score.metric_id + (version if score.version != other.version else "")
            values = (score.reason or score.value, other.reason or other.value)
            found.append(Difference(what=what, recorded=values[0], again=values[1]))
    return found


def changes(recorded: RunRecord, again: RunRecord) -> list[Difference]:
    """Return what differs between the machines and packages of two runs."""
    return [
        Difference(what=what, recorded=before.get(what), again=now.get(what))
        for before, now in zip(_circumstances(recorded), _circumstances(again), strict=True)
        for what in sorted({*before, *now})
        if before.get(what) != now.get(what)
    ]


def _circumstances(record: RunRecord) -> Iterator[Mapping[str, object]]:
    fields = ("python", "platform", "cpu", "n_threads", "git_commit")
    yield {field.replace("_", " "): getattr(record.environment, field) for field in fields}
    yield {**record.environment.packages, **record.method.packages}
    versions = {"method": record.method.version, **record.method.members}
    yield {f"{name} version": version for name, version in versions.items()}


def _equal(first: float | None, second: float | None, tolerance: float) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= tolerance
