"""From a suite to the list of its runs, each with a name that stays the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cellular_bench.benchmark import keys
from cellular_bench.benchmark.config import Block, MethodChoice, SplitChoice, Suite
from cellular_bench.benchmark.environment import packages_before, packages_of
from cellular_bench.benchmark.errors import UserError
from cellular_bench.benchmark.file_names import fitting
from cellular_bench.benchmark.params import completed, file_digests, members
from cellular_bench.benchmark.records import (
    DatasetIdentity,
    Limits,
    MethodIdentity,
    SplitIdentity,
    StressIdentity,
)
from cellular_bench.benchmark.registry import Method, methods_for, pick
from cellular_bench.benchmark.types import Dataset, DatasetSpec, Features, ProfileName, Split, Task

#: Raised when the way runs are carried out changes their results; old records are then not reused.
PROTOCOL_VERSION = 1
#: How a row is called whose method was given other genes than its own choice.
GENES: Mapping[Features, str] = {"hvg": "highly variable genes", "all": "all genes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run that is to be carried out.

    ``replaces`` are the names that it had when its method's environment, or a package, was missing; that
    it did not apply then says nothing any more once there is this one. ``warnings`` are what was worth
    knowing of the data.
    """

    run_id: str
    suite_id: str
    task: Task
    method: MethodIdentity
    dataset: DatasetIdentity
    split: SplitIdentity
    seed: int
    method_seed: int
    limits: Limits
    profile: ProfileName = "standard"
    plugins: tuple[Path, ...] = ()
    study_metrics: bool = False
    replaces: tuple[str, ...] = ()
    gpu: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every run of a suite, and the splits that they use.

    ``splits`` is keyed by data set digest and split digest.
    """

    suite: Suite
    runs: tuple[Run, ...]
    splits: Mapping[tuple[str, str], Split]


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
    runs: dict[str, Run] = {}
    splits: dict[tuple[str, str], Split] = {}
    for block in suite.blocks:
        chosen = choose_methods(block, methods)
        for dataset_id in block.datasets:
            dataset = datasets[dataset_id]
            _check_task(block.task, dataset)
            for split, cells in _splits(block.splits, dataset):
                _check_split(block.task, split, dataset)
                splits[dataset.digest, split.digest] = split
                for run in _runs(suite, block, dataset, cells, chosen, plugins):
                    runs[run.run_id] = run
    return Plan(suite=suite, runs=tuple(runs.values()), splits=splits)


def choose_methods(block: Block, known: Mapping[str, Method]) -> list[tuple[Method, dict[str, Any]]]:
    """Resolve the methods of a block and check that they can do its task."""
    chosen = []
    for choice in _expanded(block, known):
        method = pick("method", choice.method_id, known)
        if block.task not in method.spec.tasks:
            can = ", ".join(method.spec.tasks)
            raise UserError(f"Method '{choice.method_id}' does {can}, not {block.task}.")
        chosen.append((_given(method, choice.features), completed(method, choice.params)))
    return chosen


def given_genes(method: MethodIdentity) -> Features | None:
    """Return the genes of a method that was given others than its own choice: its name says so."""
    told = method.features is not None and method.name.endswith(f", {GENES[method.features]}")
    return method.features if told else None


def _given(method: Method, features: Features | None) -> Method:
    """Give a method other genes than its own choice; its row is then called after them."""
    spec = method.spec
    if features in (None, spec.features):
        return method
    name = f"{spec.name}, {GENES[features]}"
    return replace(method, spec=replace(spec, name=name, features=features))


def _expanded(block: Block, known: Mapping[str, Method]) -> Iterable[MethodChoice]:
    named = {choice.method_id for choice in block.methods}
    for choice in block.methods:
        if choice.method_id != "all":
            yield choice
        else:
            for name in methods_for(block.task, known):
                if name not in named:
                    yield MethodChoice(method_id=name)


def _check_task(task: Task, dataset: Dataset) -> None:
    n_batches = dataset.adata.obs[keys.BATCH].nunique()
    if task == "integration" and n_batches < 2:
        raise UserError(
            f"Data set '{dataset.spec.dataset_id}' has one batch; integration needs two or more. "
            "Name the column of the batches (--batch-key with --adata, batch_key in a data set of your own), "
            "or choose another task."
        )


def _check_split(task: Task, split: Split, dataset: Dataset) -> None:
    if split.stress and split.stress.kind == "shallow" and keys.COUNTS not in dataset.adata.layers:
        raise UserError(
            f"Stress 'shallow' thins raw counts; data set '{dataset.spec.dataset_id}' has none. "
            "Name their layer (--counts-layer with --adata), or choose another stress."
        )
    if split.stress and split.stress.kind == "shallow" and dataset.recipe:
        raise UserError(
            f"Stress 'shallow' scales thinned counts to 10,000 per cell, and the recipe of data set "
            f"'{dataset.spec.dataset_id}' ({dataset.recipe['name']}) does not. Choose another stress, or no "
            "recipe."
        )
    if task == "novelty" and not split.unseen_labels:
        raise UserError(
            f"Split '{split.split_id}' holds no label back, so no cell is novel and nothing can be scored. "
            "The task novelty needs the split unseen-label or private-label."
        )


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
    chosen: Sequence[tuple[Method, dict[str, Any]]],
    plugins: Sequence[Path],
) -> Iterable[Run]:
    data = dataset_identity(dataset)
    study_metrics = suite.study_metrics and block.task != "annotation"
    for method, params in chosen:
        identity, absent = method_identity(method, params), _before_installing(method, params)
        for seed in block.seeds:
            name = partial(run_id, block.task, method, study_metrics=study_metrics)
            yield Run(
                run_id=name(identity, data, cells, seed),
                replaces=tuple(name(before, data, cells, seed) for before in absent),
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


def method_identity(method: Method, params: Mapping[str, Any]) -> MethodIdentity:
    """Describe a method as it runs."""
    spec = method.spec
    return MethodIdentity(
        method_id=spec.method_id,
        name=spec.name,
        version=spec.version,
        params=dict(params),
        labels=spec.labels,
        inductive=spec.inductive,
        is_control=spec.is_control,
        is_reimplementation=spec.is_reimplementation,
        doi=spec.doi,
        source_digest=method.source_digest[:10] if method.source_digest else None,
        features=spec.features,
        packages=_packages(method, params),
        files=file_digests(method, params),
        members={member.method_id: member.version for member in members(method, params)},
    )


def _before_installing(method: Method, params: Mapping[str, Any]) -> list[MethodIdentity]:
    """Describe a method as it ran, in vain, before its environment or packages were there."""
    own, identity = method.environment(), method_identity(method, params)
    here = _packages_here(method, params)
    earlier = [here, *packages_before(here, *_needs(method, params))]
    states = [own.versions, own.absent] if own else [{}]
    found = [{**packages, **versions} for versions in states for packages in earlier]
    return [
        identity.model_copy(update={"packages": packages})
        for packages in found
        if packages != identity.packages
    ]


def _packages(method: Method, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that the numbers of a method depend on; those of its own environment go first."""
    own = method.environment()
    here = _packages_here(method, params)
    return {**here, **own.versions} if own else here


def _packages_here(method: Method, params: Mapping[str, Any]) -> dict[str, str]:
    return packages_of(*_needs(method, params))


def _needs(method: Method, params: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the modules that a method requires, and the package that it comes from."""
    modules = [name for spec in (method.spec, *members(method, params)) for name in spec.requires]
    return modules, [method.distribution] if method.distribution else []


def dataset_identity(dataset: Dataset) -> DatasetIdentity:
    """Describe a data set as it was loaded."""
    spec: DatasetSpec = dataset.spec
    obs = dataset.adata.obs
    return DatasetIdentity(
        dataset_id=spec.dataset_id,
        title=spec.title,
        digest=dataset.digest,
        n_obs=dataset.adata.n_obs,
        n_vars=dataset.adata.n_vars,
        n_batches=int(obs[keys.BATCH].nunique()),
        n_labels=int(obs[keys.LABEL].nunique()),
        doi=spec.doi,
        license=spec.license,
        subsample=dict(dataset.subsample) if dataset.subsample else None,
        recipe=dict(dataset.recipe) if dataset.recipe else None,
    )


def split_identity(split: Split, options: Mapping[str, Any]) -> SplitIdentity:
    """Describe a split, made with some options, without its cells."""
    return SplitIdentity(
        split_id=split.split_id,
        kind=split.kind,
        scheme=split.scheme,
        digest=split.digest,
        n_train=len(split.train_obs),
        n_test=len(split.test_obs),
        unseen_labels=split.unseen_labels,
        seed=split.seed,
        stress=StressIdentity(**asdict(split.stress)) if split.stress else None,
        options=dict(options),
    )


def run_id(
    task: Task,
    method: Method,
    identity: MethodIdentity,
    dataset: DatasetIdentity,
    split: SplitIdentity,
    seed: int,
    *,
    study_metrics: bool = False,
) -> str:
    """Name a run after what it is, with a digest of everything that can change its result."""
    own_choice = method.factory.spec.features
    genes = [] if identity.features == own_choice else [identity.features]
    # What a file holds, not where it lies.
    params = {**identity.params, **identity.files}
    facts: dict[str, Any] = {
        "protocol": PROTOCOL_VERSION,
        "task": task,
        "method": [identity.method_id, identity.version, params, method.source_digest, *genes],
        "packages": identity.packages,
        "dataset": dataset.digest,
        "split": split.digest,
        "seed": seed,
    }
    if study_metrics:
        facts["study_metrics"] = True
    if identity.members:
        facts["members"] = identity.members
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    what = f"{dataset.dataset_id}-{fitting(split.split_id)}-{identity.method_id}"
    return f"{task}-{what}-s{seed}-{digest}"


def derive_seed(base: int, *parts: str) -> int:
    """Derive the seed of a run, which differs between methods, data sets and splits.

    It has 31 bits: some libraries read a seed as a signed 32-bit number.

    Examples
    --------
    >>> derive_seed(0, "baron", "kfold-5-42.1", "pca") == derive_seed(0, "baron", "kfold-5-42.1", "knn")
    False
    """
    text = "\x1f".join([str(base), *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
