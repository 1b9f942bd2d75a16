"""A record's run again: the request that it answers, and where a second answer differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.plan.params import file_digests
from cellular_bench.benchmark.plan.run import Plan
from cellular_bench.benchmark.schema.records import Limits, RunRecord
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that came out otherwise: the recorded and the new value, in words where they are none."""

    what: str
    recorded: object
    again: object


def request(record: RunRecord) -> Suite:
    """Return the suite that asks for what a record answers: its run, and the other splits of its cutting."""
    method = record.method
    choice = MethodChoice(method_id=method.method_id, params=method.params, features=method.features)
    recipe = record.dataset.recipe
    return Suite(
        suite_id=record.suite_id,
        title=f"Again: {record.run_id}",
        limits=record.limits or Limits(),
        recipe=None if recipe is None else recipe["name"],
        profile=record.evaluation.profile if record.evaluation else "full",
        study_metrics=scoring.has_study_metrics(record),
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
    method = registry.pick("method", record.method.method_id, known)
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
    runs = tuple(run for run in plan.runs if (run.split.split_id, run.split.digest) == own)
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
    before, now = recorded.environment, again.environment
    fields = ("python", "platform", "cpu", "n_threads", "git_commit")
    found = [
        Difference(what=field.replace("_", " "), recorded=getattr(before, field), again=getattr(now, field))
        for field in fields
    ]
    packages = [{**record.environment.packages, **record.method.packages} for record in (recorded, again)]
    found += [
        Difference(what=name, recorded=packages[0].get(name), again=packages[1].get(name))
        for name in sorted({*packages[0], *packages[1]})
    ]
    versions = [{"method": record.method.version, **record.method.members} for record in (recorded, again)]
    found += [
        Difference(what=f"{name} version", recorded=versions[0].get(name), again=versions[1].get(name))
        for name in sorted({*versions[0], *versions[1]})
    ]
    return [difference for difference in found if difference.recorded != difference.again]


def _equal(first: float | None, second: float | None, tolerance: float) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= tolerance


def told(found: Sequence[Difference]) -> list[str]:
    """Say each difference in a line."""
    return [f"{difference.what}: {difference.recorded} -> {difference.again}" for difference in found]
