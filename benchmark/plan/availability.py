"""What of a suite can be run here: a study's suite names more than any machine has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from cellular_bench.benchmark.plan.planner import obstacle
from cellular_bench.benchmark.registry import Method, lookup, task
from cellular_bench.benchmark.schema.records import Missing
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import DatasetSpec, TaskId

if TYPE_CHECKING:
    from cellular_bench.core.types import Dataset

#: What is missing, why, and how it can be had.
Lack = tuple[Literal["method", "data set"], str, str, str]


def drop_unavailable(
    suite: Suite, *, methods: Mapping[str, Method], datasets: Mapping[str, DatasetSpec]
) -> Suite:
    """Leave out of a partial suite what is not here, and write down which rows are missing for it.

    A suite that is not partial is returned as it is: what it lacks is an error later on.

    Raises
    ------
    UserError
        If a task is unknown, or nothing is left to run.
    """
    for block in suite.blocks:
        task(block.task)
    if not suite.partial:
        return suite
    rows: dict[Lack, list[str]] = defaultdict(list)
    found = [_available(suite, block, methods, datasets, rows) for block in suite.blocks]
    left = tuple(block for block in found if block is not None)
    missing = tuple(
        Missing(kind=kind, name=name, reason=reason, remedy=remedy, rows=tuple(dict.fromkeys(absent)))
        for (kind, name, reason, remedy), absent in rows.items()
    )
    if not left:
        reasons = " ".join(f"{item.name}: {item.reason} {item.remedy}" for item in missing)
        raise UserError(f"Nothing of suite '{suite.suite_id}' can be run here. {reasons}")
    return suite.model_copy(update={"blocks": left, "missing": missing})


def drop_impossible_tasks(
    suite: Suite, datasets: Mapping[str, Dataset], *, asked: Sequence[TaskId] = ()
) -> Suite:
    """Leave out the blocks that the cells do not allow, such as integration of one batch, and write down why.

    Raises
    ------
    UserError
        If they allow none, or none of a task that was asked for.
    """
    left: list[Block] = []
    missing: list[Missing] = []
    for block in suite.blocks:
        reason = obstacle(block, datasets)
        if reason is None:
            left.append(block)
        else:
            remedy = f"To run it, ask for it alone (--task {block.task}) with what fits these cells."
            rows = (_row(block),)
            missing.append(Missing(kind="task", name=block.task, reason=reason, remedy=remedy, rows=rows))
    refused = [item for item in missing if item.name in asked and item.name not in {b.task for b in left}]
    if refused or not left:
        raise UserError((refused or missing)[-1].reason)
    return suite.model_copy(update={"blocks": tuple(left), "missing": (*suite.missing, *missing)})


def _available(
    suite: Suite,
    block: Block,
    methods: Mapping[str, Method],
    datasets: Mapping[str, DatasetSpec],
    rows: dict[Lack, list[str]],
) -> Block | None:
    kept = []
    for choice in block.methods:
        lack = _lack_of_method(choice, block, methods)
        if lack is None:
            kept.append(choice)
        else:
            rows[lack] += [f"{block.task} of {name}: {_name(choice)}" for name in block.datasets]
    here = []
    for name in block.datasets:
        found, lack = _data(name, suite.stand_ins.get(name, ()), datasets)
        here += found
        if lack is not None:
            rows[lack].append(_row(block))
    if not (kept and here):
        return None
    return block.model_copy(update={"methods": tuple(kept), "datasets": tuple(dict.fromkeys(here))})


def _row(block: Block) -> str:
    return f"{block.task}: {', '.join(_name(choice) for choice in block.methods)}"


def _name(choice: MethodChoice) -> str:
    return f"{choice.method_id} ({choice.features})" if choice.features else choice.method_id


def _lack_of_method(choice: MethodChoice, block: Block, methods: Mapping[str, Method]) -> Lack | None:
    name = choice.method_id
    if name not in methods:
        return "method", name, "This version has no such method.", "Give one of that name with --plugin."
    if not task(block.task).is_done_by(methods[name].spec):
        can = ", ".join(methods[name].spec.tasks)
        return "method", name, f"It does {can}, not {block.task}.", "Give another one with --plugin."
    unknown = sorted(choice.params.keys() - methods[name].defaults.keys())
    if unknown:
        reason = f"It has no parameter {', '.join(unknown)}, with which the suite runs it."
        return "method", name, reason, "Run it by itself with --method."
    return None


def _data(
    name: str, stand_ins: tuple[str, ...], datasets: Mapping[str, DatasetSpec]
) -> tuple[list[str], Lack | None]:
    from cellular_bench.datasets.sources import local

    specs = [lookup("data set", one, datasets) for one in (name, *stand_ins)]
    here = [spec.dataset_id for spec in specs if local.is_here(spec)][:1]
    if here == [name]:
        return here, None
    instead = f" Run instead: {here[0]}." if here else ""
    return here, ("data set", name, f"It is not here.{instead}", local.how_to_get(specs[0]))
