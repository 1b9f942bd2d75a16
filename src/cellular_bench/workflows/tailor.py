"""The suite of a request: found by name, then changed as the request asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.executor import ExecutorConfig, read_executor
from cellular_bench.benchmark.schema.records import Limits
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite, read_suite
from cellular_bench.benchmark.tasks import check_weights
from cellular_bench.core.errors import UserError
from cellular_bench.core.toml import explain
from cellular_bench.workflows.requests import RunRequest

Methods = Mapping[str, registry.Method]

#: Option of the command line and the splits that take it, by the name that splits have for it.
_OPTIONS_OF_SPLITS = {
    "n_splits": ("--n-splits", ("kfold", "unseen-label")),
    "reference": ("--reference", ("reference-query",)),
    "labels": ("--unseen", ("unseen-label", "private-label")),
}


#: What is run on an embedding that was made elsewhere: the methods that read it, with their parameters.
_ON_EMBEDDINGS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("precomputed", {}),
    ("precomputed_classifier", {"classifier": "knn"}),
    ("precomputed_classifier", {"classifier": "logistic_regression"}),
)


def is_file(name: str) -> bool:
    """Whether a suite is named by its file, and not one of this package."""
    return name.endswith(".toml")


def find_suite(name: str) -> Suite:
    """Return a suite by its name, or from a TOML file."""
    if is_file(name):
        return read_suite(Path(name))
    return read_suite(registry.lookup("suite", name, registry.suites()))


def tailored(suite: Suite, request: RunRequest, *, dataset_ids: Sequence[str], known: Methods) -> Suite:
    """Change a suite as a request asks.

    Raises
    ------
    UserError
        If nothing is left to run, or a name of the request would have no effect.
    """
    blocks = [block for block in suite.blocks if not request.tasks or block.task in request.tasks]
    if not blocks:
        raise UserError(f"Suite '{suite.suite_id}' has no block for {', '.join(request.tasks)}.")
    split = _split(request)
    if split is not None and not request.tasks:
        blocks = [block for block in blocks if registry.task(block.task).takes(split.kind)] or blocks
    asked = {
        "datasets": tuple(dataset_ids),
        "splits": () if split is None else (split,),
        "seeds": request.seeds,
    }
    changes = {name: value for name, value in asked.items() if value}
    chosen = [
        _stressed(block.model_copy(update={**changes, "methods": methods}), request.stress)
        for block, methods in _methods_of_blocks(blocks, request, known)
    ]
    chosen = _with_embeddings(chosen, request.embeddings, known)
    canaries = suite.canaries if request.canaries is None else request.canaries
    if canaries:
        chosen = _with_canaries(chosen, known, is_asked=request.canaries is True)
    _check_names_used(chosen, request, known, tasks=list(dict.fromkeys(block.task for block in blocks)))
    _check_weights(suite, request, tasks=[block.task for block in blocks])
    update: dict[str, Any] = {
        "title": f"{suite.title}: {', '.join(dataset_ids)}" if dataset_ids else suite.title,
        "blocks": tuple(chosen),
        "limits": _limits(suite.limits, request),
        "profile": request.profile or suite.profile,
        "recipe": request.recipe or suite.recipe,
        "weights": suite.weights if request.weights is None else request.weights,
        "min_cells": request.min_cells or suite.min_cells,
        "genes": request.genes or suite.genes,
        "hvg": request.hvg or suite.hvg,
        "scale": request.scale or suite.scale,
        "leak_canary": suite.leak_canary if request.leak_canary is None else request.leak_canary,
        "canaries": canaries,
        "executor": choose_executor(suite.executor, request),
    }
    return suite.model_copy(update=update)


def _check_weights(suite: Suite, request: RunRequest, *, tasks: Sequence[str]) -> None:
    """Refuse weights without effect: those of a suite on any of its tasks, others on the tasks asked for."""
    if suite.weights is not None:
        check_weights(suite.weights, [registry.task(block.task) for block in suite.blocks])
    if request.weights is not None:
        check_weights(request.weights, map(registry.task, tasks))


def _split(request: RunRequest) -> SplitChoice | None:
    given = {"n_splits": request.n_splits, "reference": request.reference, "labels": request.unseen}
    options = {name: value for name, value in given.items() if value}
    if request.split is None:
        if options:
            raise UserError("--n-splits, --reference and --unseen are options of --split, which is missing.")
        return None
    for name in options:
        option, kinds = _OPTIONS_OF_SPLITS[name]
        kind = request.split.replace("_", "-")
        if kind not in kinds:
            raise UserError(f"{option} is for --split {' or '.join(kinds)}, not for {kind}.")
    return SplitChoice.model_validate({"kind": request.split, "options": options})


def _limits(limits: Limits, request: RunRequest) -> Limits:
    asked = {
        "time_limit_s": request.time_limit,
        "memory_limit_mib": request.memory_limit,
        "gpu_memory_limit_mib": request.gpu_memory_limit,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        return Limits.model_validate({**limits.model_dump(), **given})
    except ValidationError as error:
        raise UserError(f"Limits of a run: {explain(error)}") from error


def _stressed(block: Block, stress: Mapping[str, Any] | None) -> Block:
    if stress is None:
        return block
    splits = tuple(
        choice.model_copy(update={"options": {**choice.options, "stress": dict(stress)}})
        for choice in block.splits
    )
    return block.model_copy(update={"splits": splits})


def _methods_of_blocks(
    blocks: Sequence[Block], request: RunRequest, known: Methods
) -> list[tuple[Block, tuple[MethodChoice, ...]]]:
    """Return the blocks that are left, each with its methods."""
    named = {choice.method_id for block in blocks for choice in block.methods}
    kept = []
    for block in blocks:
        # A method that the suite names runs in the blocks that name it, others wherever they can.
        elsewhere = named - {choice.method_id for choice in block.methods}
        here = [name for name in request.methods if name not in elsewhere]
        chosen = () if request.methods and not here else _methods_of(block, here, known, request.params)
        if chosen:
            kept.append((block, chosen))
    return kept


def _methods_of(
    block: Block, method_ids: Sequence[str], known: Methods, params: Mapping[str, Mapping[str, Any]]
) -> tuple[MethodChoice, ...]:
    """Choose the methods of a block; plug-ins join the suite's own, ``all`` stands for every method."""
    wanted_task = registry.task(block.task)
    can = [name for name, method in known.items() if wanted_task.is_done_by(method.spec)]
    wanted = [choice.method_id for choice in block.methods]
    if method_ids:
        wanted = [name for name in method_ids if name in can or name == "all"]
    else:
        wanted += [name for name in can if known[name].source_digest is not None]
    if "all" in wanted:
        wanted = [*wanted, *registry.methods_for(block.task, known)]
    return tuple(
        choice.model_copy(update={"params": {**choice.params, **params.get(name, {})}})
        for name in dict.fromkeys(wanted)
        if name != "all"
        # As the suite chose it, perhaps several times; with its defaults otherwise.
        for choice in [c for c in block.methods if c.method_id == name] or [MethodChoice(method_id=name)]
    )


def _with_embeddings(blocks: Sequence[Block], embeddings: Mapping[str, Path], known: Methods) -> list[Block]:
    """Add embeddings that were made elsewhere: as they are, or under each classifier, as blocks have it."""
    if not embeddings:
        return list(blocks)
    made = []
    for name, file in embeddings.items():
        model, at, trained_until = name.partition("@")
        if not model or (at and not trained_until):
            raise UserError(f"--embedding '{name}={file}' is not of the form MODEL=FILE or MODEL@MONTH=FILE.")
        month = {"trained_until": trained_until} if at else {}
        made += [
            MethodChoice(method_id=method_id, params={"file": str(file), "model": model, **month, **params})
            for method_id, params in _ON_EMBEDDINGS
        ]
    added = [
        tuple(choice for choice in made if block.task in known[choice.method_id].spec.tasks)
        for block in blocks
    ]
    if not any(added):
        asked = " and ".join(dict.fromkeys(block.task for block in blocks))
        raise UserError(
            f"--embedding is for integration, annotation and novelty; you asked for {asked} only."
        )
    return [
        block.model_copy(update={"methods": (*block.methods, *choices)})
        for block, choices in zip(blocks, added, strict=True)
    ]


def _with_canaries(blocks: Sequence[Block], known: Methods, *, is_asked: bool) -> list[Block]:
    """Add the canary embeddings, and the methods that they damage, to the blocks of their tasks."""
    added = [registry.canaries_for(block.task, known) for block in blocks]
    if is_asked and blocks and not any(added):
        tasks = " and ".join(dict.fromkeys(block.task for block in blocks))
        raise UserError(f"--canaries adds embeddings to integration; you asked for {tasks} only.")
    return [
        block.model_copy(update={"methods": (*block.methods, *_new(names, block.methods))})
        for block, names in zip(blocks, added, strict=True)
    ]


def _new(names: Sequence[str], methods: Sequence[MethodChoice]) -> Iterator[MethodChoice]:
    """Yield the methods that a block does not run with its defaults yet."""
    there = {choice.method_id for choice in methods if not choice.params and choice.features is None}
    yield from (MethodChoice(method_id=name) for name in names if name not in there)


def _check_names_used(
    blocks: Sequence[Block], request: RunRequest, known: Methods, *, tasks: Sequence[str]
) -> None:
    """Refuse names of methods and parameters that have no effect."""
    named = {*request.methods, *request.params} - {"all"}
    for name in named:
        method = registry.lookup("method", name, known)
        for parameter in request.params.get(name, ()):
            registry.lookup(f"{name} parameter", parameter, method.defaults)
    used = {choice.method_id for block in blocks for choice in block.methods}
    for name in named - used:
        can, asked = (" and ".join(found) for found in (known[name].spec.tasks, tasks))
        article = "an" if can[0] in "aeiou" else "a"
        raise UserError(f"'{name}' is {article} {can} method; you asked for {asked} only.")
    if not blocks:
        raise UserError("No method is left to run.")


def choose_executor(suite: ExecutorConfig, request: RunRequest) -> ExecutorConfig:
    """Return where runs are executed: as the request says, else as the suite does.

    Raises
    ------
    UserError
        If an option belongs to another kind of executor, or something is missing.
    """
    kind = "dask" if request.scheduler else "slurm" if request.slurm_config else suite.kind
    wanted = request.executor or kind
    if request.scheduler and wanted != "dask":
        raise UserError("--scheduler is the address of a Dask cluster; it goes with --executor dask.")
    if request.slurm_config and wanted != "slurm":
        raise UserError("--slurm-config goes with --executor slurm.")
    base = read_executor(request.slurm_config) if request.slurm_config else suite
    given = {**base.model_dump(), "kind": wanted, "scheduler": request.scheduler or base.scheduler}
    if request.retries is not None:
        given["retries"] = request.retries
    try:
        return ExecutorConfig.model_validate(given)
    except ValidationError as error:
        remedy = " Give --scheduler ADDRESS, --slurm-config FILE, or a table [executor] in the suite."
        problem = explain(error) + ("" if "retries" in str(error) else remedy)
        raise UserError(f"--executor {wanted}: {problem}") from error
