"""From a suite to the list of its runs, each with a name that stays the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellular_bench.benchmark.plan.identity import (
    dataset_identity,
    derive_seed,
    method_identity,
    run_id,
    split_identity,
)
from cellular_bench.benchmark.plan.params import completed
from cellular_bench.benchmark.plan.run import Plan, PlannedRun
from cellular_bench.benchmark.registry import Method, lookup, methods_for, task
from cellular_bench.benchmark.schema.records import GENES, MethodIdentity, SplitIdentity
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite
from cellular_bench.core import keys
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import Dataset, Features, Split


def plan(
    suite: Suite,
    *,
    datasets: Mapping[str, Dataset],
    methods: Mapping[str, Method],
    plugins: Sequence[Path] = (),
) -> Plan:
    """Expand a suite to runs: task x data set x split x method x seed.

    Raises
    ------
    UserError
        If a name is unknown, a method cannot do the task, or a split is impossible on the data.
    """
    runs: dict[str, PlannedRun] = {}
    splits: dict[tuple[str, str], Split] = {}
    for block in suite.blocks:
        # Versions of packages are read from files: once per method, not once per split.
        chosen = [
            (method, method_identity(method, params)) for method, params in choose_methods(block, methods)
        ]
        for dataset_id in block.datasets:
            dataset = datasets[dataset_id]
            for split, cells in _allowed_splits(block, dataset):
                splits[dataset.digest, split.digest] = split
                found = _runs(suite, block, dataset, cells, chosen, plugins)
                runs |= {run.run_id: run for run in found}
    return Plan(suite=suite, runs=tuple(runs.values()), splits=splits)


def choose_methods(block: Block, known: Mapping[str, Method]) -> list[tuple[Method, dict[str, Any]]]:
    """Resolve the task and the methods of a block and check that these can do it."""
    task(block.task)
    chosen = []
    for choice in _expanded(block, known):
        method = lookup("method", choice.method_id, known)
        if block.task not in method.spec.tasks:
            can = ", ".join(method.spec.tasks)
            raise UserError(f"Method '{choice.method_id}' does {can}, not {block.task}.")
        chosen.append((_given(method, choice.features), completed(method, choice.params)))
    return chosen


def _given(method: Method, features: Features | None) -> Method:
    """Give a method other genes than its own choice; its row is then called after them."""
    spec = method.spec
    if features in (None, spec.features):
        return method
    name = f"{spec.name}, {GENES[features]}"
    return replace(method, spec=replace(spec, name=name, features=features))


def _expanded(block: Block, known: Mapping[str, Method]) -> Iterable[MethodChoice]:
    named = {choice.method_id for choice in block.methods}
    others = [name for name in methods_for(block.task, known) if name not in named]
    for choice in block.methods:
        if choice.method_id == "all":
            yield from (MethodChoice(method_id=name) for name in others)
        else:
            yield choice


def obstacle(block: Block, datasets: Mapping[str, Dataset]) -> str | None:
    """Say why a block cannot be run on the cells of its data sets; None if it can."""
    try:
        for dataset_id in block.datasets:
            _allowed_splits(block, datasets[dataset_id])
    except UserError as error:
        return str(error)
    return None


def _allowed_splits(block: Block, dataset: Dataset) -> list[tuple[Split, SplitIdentity]]:
    _refuse(task(block.task).check_data(dataset))
    found = list(_splits(block.splits, dataset))
    for split, _ in found:
        _refuse(_split_obstacle(block, split, dataset))
    return found


def _split_obstacle(block: Block, split: Split, dataset: Dataset) -> str | None:
    is_shallow = split.stress is not None and split.stress.kind == "shallow"
    if is_shallow and keys.COUNTS not in dataset.adata.layers:
        return (
            f"Stress 'shallow' thins raw counts; data set '{dataset.spec.dataset_id}' has none. "
            "Name their layer (--counts-layer with --adata), or choose another stress."
        )
    if is_shallow and dataset.recipe:
        return (
            f"Stress 'shallow' scales thinned counts to 10,000 per cell, and the recipe of data set "
            f"'{dataset.spec.dataset_id}' ({dataset.recipe['name']}) does not. Choose another stress, or no "
            "recipe."
        )
    return task(block.task).check_split(split)


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise UserError(reason)


def _splits(choices: Sequence[SplitChoice], dataset: Dataset) -> Iterable[tuple[Split, SplitIdentity]]:
    from cellular_bench.datasets import splits

    obs = dataset.adata.obs
    label, batch = (np.asarray(obs[key], dtype=str) for key in (keys.LABEL, keys.BATCH))
    for choice in choices:
        for split in splits.make(choice.kind, label=label, batch=batch, options=choice.options):
            yield split, split_identity(split, choice.options)


def _runs(
    suite: Suite,
    block: Block,
    dataset: Dataset,
    cells: SplitIdentity,
    chosen: Sequence[tuple[Method, MethodIdentity]],
    plugins: Sequence[Path],
) -> Iterable[PlannedRun]:
    data = dataset_identity(dataset)
    study_metrics = suite.study_metrics and task(block.task).has_study_metrics
    for method, identity in chosen:
        for seed in block.seeds:
            yield PlannedRun(
                run_id=run_id(block.task, method, identity, data, cells, seed, study_metrics=study_metrics),
                suite_id=suite.suite_id,
                task=block.task,
                method=identity,
                dataset=data,
                split=cells,
                seed=seed,
                method_seed=derive_seed(seed, data.dataset_id, cells.split_id, identity.method_id),
                limits=suite.limits,
                profile=suite.profile,
                plugins=tuple(plugins),
                study_metrics=study_metrics,
                gpu=method.spec.gpu,
                warnings=dataset.warnings,
            )
