"""From a suite to the list of its runs, each with a name that stays the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellular_bench.benchmark.plan.canary import Board, can_be_tested, canary_runs, draw
from cellular_bench.benchmark.plan.identity import (
    dataset_identity,
    method_identity,
    method_seed,
    run_id,
    split_identity,
)
from cellular_bench.benchmark.plan.params import completed, files_of
from cellular_bench.benchmark.plan.preprocessing import at_settings
from cellular_bench.benchmark.plan.run import Access, Plan, PlannedRun
from cellular_bench.benchmark.registry import Method, load, lookup, methods_for, metrics, task, task_origin
from cellular_bench.benchmark.schema.records import GENES, MethodIdentity, SplitIdentity
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite
from cellular_bench.benchmark.tasks import Task
from cellular_bench.core import keys
from cellular_bench.core.errors import UserError
from cellular_bench.core.sizes import in_words, stray, stray_batches
from cellular_bench.core.types import Dataset, Features, Split
from cellular_bench.datasets.splits import scored_batches
from cellular_bench.metrics.spec import reads_batches


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
    left_out: dict[tuple[str, str], dict[str, int]] = {}
    notes: dict[str, None] = {}
    boards: dict[tuple[str, str, str], Board] = {}
    for block in suite.blocks:
        # Versions of packages are read from files: once per method, not once per split.
        chosen = [
            (method, method_identity(method, params)) for method, params in choose_methods(block, methods)
        ]
        for dataset_id in block.datasets:
            dataset = datasets[dataset_id]
            allowed, of_splits = _allowed_splits(block, dataset, suite.min_cells)
            varied, of_settings = at_settings(suite, dataset, chosen)
            notes |= dict.fromkeys((*of_splits, *of_settings))
            for split, cells in allowed:
                key = dataset.digest, split.digest
                splits[key] = split
                scored = Counter(scored_batches(split, dataset.adata.obs[keys.BATCH]).tolist())
                left_out[key] = stray_batches(scored, suite.min_cells)
                notes |= dict.fromkeys(_batch_notes(block, dataset, left_out[key]))
                warned = replace(dataset, warnings=(*dataset.warnings, *of_splits))
                found = tuple(_runs(suite, block, warned, cells, varied, plugins))
                runs |= {run.run_id: run for run in found}
                tested = [run for run in found if run.seed == block.seeds[0] and can_be_tested(run)]
                if suite.leak_canary and tested:
                    name = block.task, dataset.digest, split.scheme
                    board = boards.setdefault(name, Board(task=block.task, dataset=dataset, split=split))
                    if board.split.digest == split.digest:
                        board.runs.extend(tested)
    canaries = [draw(board) for board in boards.values()]
    splits |= {(canary.dataset.digest, canary.split.digest): canary.split for canary in canaries}
    tests = {run.run_id: run for canary in canaries for run in canary_runs(canary, methods)}
    return Plan(
        suite=suite,
        runs=tuple(runs.values()),
        splits=splits,
        left_out=left_out,
        notes=tuple(notes),
        canaries=tuple(tests.values()),
        canary_data={canary.dataset.digest: canary.dataset for canary in canaries},
    )


def choose_methods(block: Block, known: Mapping[str, Method]) -> list[tuple[Method, dict[str, Any]]]:
    """Resolve the task and the methods of a block and check that these can do it."""
    task(block.task)
    chosen = []
    for choice in _expanded(block, known):
        method = lookup("method", choice.method_id, known)
        if not task(block.task).is_done_by(method.spec):
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
            _allowed_splits(block, datasets[dataset_id], 1)
    except UserError as error:
        return str(error)
    return None


def _allowed_splits(
    block: Block, dataset: Dataset, min_cells: int
) -> tuple[list[tuple[Split, SplitIdentity]], list[str]]:
    """Return the splits of a block that score enough cells, and notes of those that score few."""
    _refuse(task(block.task).check_data(dataset))
    found: list[tuple[Split, SplitIdentity]] = []
    notes: list[str] = []
    for choice in block.splits:
        _refuse(_label_obstacle(choice, dataset))
        made = list(_splits(choice, dataset))
        sizes = {split.split_id: len(split.test_obs) for split, _ in made}
        left_out = stray(sizes, min_cells)
        few = {name: n for name, n in sizes.items() if n < min_cells and name not in left_out}
        found += [(split, cells) for split, cells in made if split.split_id not in left_out]
        which = f"of {len(sizes)} splits {choice.kind} of {dataset.spec.dataset_id}"
        if left_out:
            notes.append(
                f"{len(left_out)} {which} left out, with fewer than {min_cells} scored cells: "
                f"{in_words(left_out)}. With --min-cells 1, all are run."
            )
        if few:
            notes.append(f"{len(few)} {which} with fewer than {min_cells} scored cells: {in_words(few)}.")
    for split, _ in found:
        _refuse(_split_obstacle(block, split, dataset))
    return found, notes


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
    wanted = task(block.task)
    if not wanted.takes(split.kind):
        kinds = " or ".join(sorted(kind.replace("_", "-") for kind in wanted.split_kinds or ()))
        return f"The task {wanted.task_id} needs the split {kinds}, not {split.kind.replace('_', '-')}."
    return wanted.check_split(split)


#: Splits and stresses that choose cells by their labels.
_BY_LABEL = ("unseen_label", "private_label", "label_noise", "rare_types")


def _label_obstacle(choice: SplitChoice, dataset: Dataset) -> str | None:
    stress = choice.options.get("stress")
    chosen = {choice.kind, stress.get("kind") if isinstance(stress, Mapping) else None}
    by_label = [name for name in _BY_LABEL if name in chosen]
    if dataset.spec.label_key is not None or not by_label:
        return None
    what = "Split" if by_label[0] == choice.kind else "Stress"
    return (
        f"{what} '{by_label[0]}' chooses cells by their labels; data set '{dataset.spec.dataset_id}' has "
        "none. Name their column (--label-key with --adata), or choose another."
    )


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise UserError(reason)


def _batch_notes(block: Block, dataset: Dataset, left_out: Mapping[str, int]) -> Iterable[str]:
    """Say which batches the metrics of a task leave out."""
    weights = task(block.task).weights
    if left_out and any(spec.aspect in weights and reads_batches(spec) for spec in metrics().values()):
        yield (
            f"Metrics that read batches leave out those of {dataset.spec.dataset_id} with few scored cells: "
            f"{in_words(left_out)}. With --min-cells 1, they read all."
        )


def _splits(choice: SplitChoice, dataset: Dataset) -> Iterable[tuple[Split, SplitIdentity]]:
    from cellular_bench.datasets import splits

    obs = dataset.adata.obs
    label, batch = (np.asarray(obs[key], dtype=str) for key in (keys.LABEL, keys.BATCH))
    names = np.asarray(dataset.adata.obs_names, dtype=str)
    for split in splits.make(choice.kind, label=label, batch=batch, names=names, options=choice.options):
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
    plugins = [path.resolve() for path in plugins]
    loaded = list(zip(plugins, load(plugins), strict=True))
    task_file = str(task_origin(block.task))
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
                method_seed=method_seed(seed, data.dataset_id, cells.split_id, method.spec),
                limits=suite.limits,
                profile=suite.profile,
                plugins=tuple(path for path in plugins if str(path) in (method.origin, task_file)),
                metric_plugins=tuple(path for path, plugin in loaded if plugin.metrics),
                access=_access(method, identity.params, task(block.task)),
                study_metrics=study_metrics,
                min_cells=suite.min_cells,
                gpu=method.spec.gpu,
                needs_batches=method.spec.needs_batches,
                warnings=dataset.warnings,
            )


def _access(method: Method, params: Mapping[str, Any], wanted: Task) -> Access:
    spec = method.spec
    package = method.factory.__module__.partition(".")[0] if method.distribution else None
    return Access(
        needs_train=not wanted.is_at_once(spec),
        needs_names=spec.needs_names,
        is_called_twice=wanted.is_called_twice,
        environment=spec.environment,
        program=spec.program,
        package=package,
        files=tuple(files_of(method, params).values()),
        weights=spec.weights,
    )
