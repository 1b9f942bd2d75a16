"""``run-benchmark run``: the main job."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.plan.availability import allowed_by, settle
from cellular_bench.benchmark.schema.executor import ExecutorConfig, ExecutorKind
from cellular_bench.benchmark.schema.records import Limits, RunRecord, Status
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite, read_suite
from cellular_bench.cli import messages, options
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import TASKS, Dataset, DatasetSpec, ProfileName, SplitKind, Task

if TYPE_CHECKING:
    from anndata import AnnData
    from rich.console import Console

    from cellular_bench.benchmark.execution.executor import Executor
    from cellular_bench.benchmark.plan.run import Plan
    from cellular_bench.benchmark.results.store import Store

LOG = logging.getLogger(__name__)
_SPLITS = [kind.replace("_", "-") for kind in get_args(SplitKind)]
_BAD = ("failed", "timeout", "out_of_memory")
_RETRIED = (*_BAD, "not_applicable")


@click.command(
    "run",
    epilog="""\b
Examples:
  run-benchmark run
  run-benchmark run --task annotation --method knn,celltypist --seeds 0,1,2
  run-benchmark run --adata my.h5ad --batch-key donor --label-key cell_type
  run-benchmark run --adata my.h5ad --batch-key donor --label-key cell_type \\
      --task annotation --split leave-one-batch-out
  run-benchmark run --plugin my_method.py --out results/mine

Exit code: 0 all runs ended well or do not apply, 1 some did not, 2 the request was wrong.""",
)
@click.option(
    "--suite",
    help="Name of a suite, or a TOML file.  [default: quickstart; standard with --adata or --method]",
)
@click.option("--task", "tasks", type=click.Choice(TASKS), multiple=True, help="Only these tasks.")
@click.option(
    "--dataset",
    "datasets",
    type=options.NameList(),
    multiple=True,
    callback=options.read_by(options.flattened),
    shell_complete=options.names_of(lambda: registry.datasets()),
    help="Instead of the suite's.",
)
@options.adata_option
@options.batch_key_option
@options.label_key_option
@options.counts_layer_option
@click.option(
    "--data-dir", type=options.EXISTING_FOLDER, help="Folder whose h5ad files are data sets of the catalogue."
)
@click.option("--recipe", type=click.Choice(options.RECIPE_NAMES), help=options.RECIPE_HELP)
@click.option("--subsample", type=click.IntRange(min=1), help="Cells to draw from larger data, seeded.")
@click.option(
    "--method",
    "methods",
    type=options.NameList(),
    multiple=True,
    callback=options.read_by(options.flattened),
    shell_complete=options.names_of(lambda: registry.methods()),
    help="Instead of the suite's.",
)
@options.param_option
@options.plugin_option
@click.option("--split", type=click.Choice(_SPLITS), help="Instead of the suite's.")
@click.option("--n-splits", type=click.IntRange(min=2), help="Folds of --split kfold or unseen-label.")
@click.option(
    "--reference",
    type=options.NameList(),
    help="Training batches, for --split reference-query; names with commas in double quotes.",
)
@click.option(
    "--unseen",
    type=options.NameList(),
    help="Labels to hold out, for --split unseen-label or private-label; names with commas in double quotes.",
)
@click.option(
    "--stress",
    metavar="KIND=LEVELS",
    callback=options.read_by(options.parse_stress),
    help="Make the splits harder, such as label_noise=0,0.1,0.3.",
)
@click.option("--seeds", type=options.IntList(), help="Instead of the suite's, such as 0,1,2.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@options.profile_option(None, "the suite's, which is standard unless it says otherwise")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs at a time.  [default: usable cores, or the slots of a cluster]",
)
@click.option("--executor", type=click.Choice(get_args(ExecutorKind)), help="Where runs are carried out.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Of a running Dask cluster, such as tcp://10.0.0.1:8786."
)
@click.option("--slurm-config", type=options.EXISTING_FILE, help="TOML file: what to ask a Slurm system for.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    help="Tries again after a lost worker.  [default: that of the suite or --slurm-config, else 2]",
)
@click.option("--time-limit", type=options.PositiveNumber(), help="Seconds for one run.")
@click.option("--memory-limit", type=options.PositiveNumber(), help="MiB for one run.")
@click.option("--gpu-memory-limit", type=options.PositiveNumber(), help="MiB of GPU memory for one run.")
@click.option(
    "--reuse", type=options.EXISTING_FOLDER, multiple=True, help="Take over results of another result folder."
)
@click.option("--retry", type=click.Choice(_RETRIED), multiple=True, help="Do runs that ended so again.")
@click.option(
    "--fresh/--only-missing", help="Forget the records of these runs first.  [default: only-missing]"
)
@click.option("--figures/--no-figures", default=True, help=options.FIGURES_HELP)
def command(**given: Any) -> None:
    """Run a suite and write its leaderboard.

    Without options: the quickstart suite on the bundled data. Runs that have a record in the result
    folder are not run again.
    """
    raise click.exceptions.Exit(run(**given, console=messages.console()))


def run(
    *,
    suite: str | None,
    tasks: Sequence[Task],
    datasets: Sequence[str],
    adata: Path | AnnData | None,
    batch_key: str | None,
    label_key: str | None,
    counts_layer: str | None,
    data_dir: Path | None,
    recipe: str | None,
    subsample: int | None,
    methods: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
    plugins: Sequence[Path],
    split: str | None,
    n_splits: int | None,
    reference: Sequence[str] | None,
    unseen: Sequence[str] | None,
    stress: Mapping[str, Any] | None,
    seeds: Sequence[int] | None,
    out: Path,
    profile: ProfileName | None,
    jobs: int | None,
    executor: ExecutorKind | None,
    scheduler: str | None,
    slurm_config: Path | None,
    retries: int | None,
    time_limit: float | None,
    memory_limit: float | None,
    gpu_memory_limit: float | None,
    reuse: Sequence[Path],
    retry: Sequence[Status],
    fresh: bool,
    figures: bool,
    console: Console,
) -> int:
    """Plan, execute and report; return the exit code."""
    from cellular_bench.benchmark.plan.planner import choose_methods
    from cellular_bench.benchmark.results.store import Store

    if adata is not None and datasets:
        raise UserError("Give either --adata or --dataset, not both: your file, or the catalogue's data.")
    known = registry.methods(plugins)
    own = own_data(adata, batch_key=batch_key, label_key=label_key, counts_layer=counts_layer)
    chosen = _tailor(
        _find_suite(suite or ("standard" if own or methods else "quickstart")),
        tasks=tasks,
        dataset_ids=(own.dataset_id,) if own else datasets,
        method_ids=methods,
        known=known,
        params=params,
        split=_split(split, n_splits=n_splits, reference=reference, unseen=unseen),
        stress=stress,
        seeds=seeds,
        limits={
            "time_limit_s": time_limit,
            "memory_limit_mib": memory_limit,
            "gpu_memory_limit_mib": gpu_memory_limit,
        },
        profile=profile,
    )
    where = options.choose_executor(
        chosen.executor, kind=executor, scheduler=scheduler, slurm_config=slurm_config, retries=retries
    )
    chosen = chosen.model_copy(update={"executor": where})
    chosen = chosen if recipe is None else chosen.model_copy(update={"recipe": recipe})
    specs = known_datasets(chosen, own, data_dir, plugins)
    chosen = settle(chosen, methods=known, datasets=specs)
    for block in chosen.blocks:
        choose_methods(block, known)  # refuses methods and parameters before data are read, which takes long
    _say_what_is_missing(chosen, console)
    loaded = _load(chosen, specs, subsample=subsample, console=console)
    # Where the suite is our choice, nobody asked for each of its tasks.
    is_asked = not own or bool(suite or tasks or split)
    planned = _planned(chosen, loaded, known, plugins, is_asked=is_asked, console=console)
    earlier = _Earlier(reuse=reuse, retry=frozenset(retry), fresh=fresh)
    store = Store.create(out, planned.suite)
    with store.locked():
        return _carry_out(
            planned, store, loaded, jobs=jobs, earlier=earlier, figures=figures, out=out, console=console
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earlier:
    """What becomes of earlier results: taken over from other folders, done again, forgotten."""

    reuse: Sequence[Path]
    retry: frozenset[Status]
    fresh: bool


def _planned(
    suite: Suite,
    datasets: Mapping[str, Dataset],
    known: Mapping[str, registry.Method],
    plugins: Sequence[Path],
    *,
    is_asked: bool,
    console: Console,
) -> Plan:
    """Plan a suite; tasks that the cells do not allow are left out unless they were asked for."""
    from cellular_bench.benchmark.plan.planner import plan

    make = partial(plan, datasets=datasets, methods=known, plugins=[p.resolve() for p in plugins])
    try:
        return make(suite)
    except UserError:
        if is_asked:
            raise
    allowed = allowed_by(suite, datasets, known)
    _say_what_is_missing(allowed, console)
    return make(allowed)


def _carry_out(
    planned: Plan,
    store: Store,
    datasets: Mapping[str, Dataset],
    *,
    out: Path,
    jobs: int | None,
    earlier: _Earlier,
    figures: bool,
    console: Console,
) -> int:
    from cellular_bench.benchmark.execution.executor import Executor
    from cellular_bench.benchmark.isolation import scratch
    from cellular_bench.benchmark.results import index as summaries
    from cellular_bench.benchmark.results.merge import take_over
    from cellular_bench.benchmark.results.progress import write_plan
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.cli.progress import RunProgress
    from cellular_bench.cli.report import write_report

    scratch.remove_abandoned()  # also where nothing is left to do that would need a folder of its own
    if earlier.fresh:
        store.forget(run.run_id for run in planned.runs)
    sources = [Store.open(folder) for folder in earlier.reuse]
    taken = take_over(planned.runs, sources, store, retry=earlier.retry)
    if sources:
        console.print(f"{taken} runs taken over from other folders")
    summaries.read(store, keep=True)
    here = Executor(store=store, n_jobs=jobs or usable_cores(), retry=earlier.retry)
    missing = len(here.missing(planned))
    with _sent_to(planned.suite.executor if missing else ExecutorConfig(), here, jobs=jobs) as executor:
        write_plan(store, planned.runs, n_jobs=executor.n_jobs)
        todo = f"{len(planned.runs)} runs, {missing} to do, {executor.n_jobs} at a time, in {out}"
        console.print(todo, markup=False, soft_wrap=True)
        if missing:
            with RunProgress(missing, console=console) as progress:
                for _ in executor.execute(planned, datasets=datasets, progress=progress):
                    pass
        else:
            here.write_data(planned, datasets)  # which may have been deleted
    pages = write_report(store, figures=figures, n_jobs=here.n_jobs)
    records = [store.record(run.run_id) for run in planned.runs]
    counts = Counter(record.status if record else "missing" for record in records)
    console.print(
        "Done: " + ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items()),
        soft_wrap=True,
    )
    for page in pages:
        console.print(f"  {page}", soft_wrap=True, markup=False, highlight=False)
    _say_what_is_less_exact(records, planned.suite.profile, out=out, console=console)
    found = [record for record in records if record]
    for note in (*_outdated(found, out), *_unscored(planned, found, out)):
        console.print(note, soft_wrap=True, markup=False, highlight=False)
    return 1 if any(counts[status] for status in _BAD) else 0


def _say_what_is_less_exact(
    records: Iterable[RunRecord | None], profile: ProfileName, *, out: Path, console: Console
) -> None:
    """Tell which scores were kept that took shortcuts of another profile than is asked for now."""
    scored = [record.evaluation for record in records if record and record.evaluation]
    other = [found.profile for found in scored if found.profile != profile and found.shortcuts]
    if other:
        console.print(
            f"{len(other)} runs keep approximate scores of the profile {' or '.join(sorted(set(other)))}. "
            f"To score their outputs anew: run-benchmark rescore {out} --profile {profile}",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip


def _outdated(records: Sequence[RunRecord], out: Path) -> Iterator[str]:
    """Say which scores are of another version of their metric than the one here."""
    from cellular_bench.metrics import METRICS
    from cellular_bench.reports.tables.definitions import other_versions

    for text in other_versions(records, METRICS):
        yield f"{text}. To score the kept outputs anew: run-benchmark rescore {out}"


def _unscored(planned: Plan, records: Sequence[RunRecord], out: Path) -> Iterator[str]:
    """Say which metrics of plug-ins some runs lack: those that were done before the metric was there."""
    from cellular_bench.benchmark.execution.scoring import specs_for

    paths = dict.fromkeys(path for run in planned.runs for path in run.plugins)
    for plugin in registry.load(paths):
        for spec in plugin.metrics:
            lacking = sum(
                record.status == "ok"
                and spec in specs_for(record.task)
                and all(score.metric_id != spec.metric_id for score in record.scores)
                for record in records
            )
            if lacking:
                yield (
                    f"{lacking} runs were done before and have no score of {spec.metric_id}. To add it: "
                    f"run-benchmark rescore {out} --plugin {plugin.path}"
                )


@contextmanager
def _sent_to(config: ExecutorConfig, here: Executor, *, jobs: int | None) -> Iterator[Executor]:
    """Return what carries out runs where a suite or the command line wants them."""
    if config.kind == "local":
        yield here
        return
    from cellular_bench.benchmark.cluster.dask import connect

    with connect(config, logs=here.store.root / "jobs") as cluster:
        yield replace(here, n_jobs=jobs or cluster.n_slots, carry_out=cluster.carry_out)


def _find_suite(name: str) -> Suite:
    if name.endswith(".toml"):
        return read_suite(Path(name))
    return read_suite(registry.pick("suite", name, registry.suites()))


def own_data(
    adata: Path | AnnData | None, *, batch_key: str | None, label_key: str | None, counts_layer: str | None
) -> DatasetSpec | None:
    """Describe the user's own file, or cells in memory; None where there is none."""
    if adata is None:
        if batch_key or label_key or counts_layer:
            raise UserError("--batch-key, --label-key and --counts-layer describe --adata, which is missing.")
        return None
    if label_key is None:
        raise UserError("--adata needs --label-key: the column of obs that holds the cell types.")
    from cellular_bench.datasets import catalog

    describe = catalog.from_h5ad if isinstance(adata, Path) else catalog.from_memory
    return describe(adata, batch_key=batch_key, label_key=label_key, counts_layer=counts_layer)


#: Option of the command line and the splits that take it, by the name that splits have for it.
_OPTIONS_OF_SPLITS = {
    "n_splits": ("--n-splits", ("kfold", "unseen-label")),
    "reference": ("--reference", ("reference-query",)),
    "labels": ("--unseen", ("unseen-label", "private-label")),
}


def _split(
    kind: str | None,
    *,
    n_splits: int | None,
    reference: Sequence[str] | None,
    unseen: Sequence[str] | None,
) -> SplitChoice | None:
    given = {"n_splits": n_splits, "reference": reference, "labels": unseen}
    chosen = {name: value for name, value in given.items() if value is not None}
    if kind is None:
        if chosen:
            raise UserError("--n-splits, --reference and --unseen are options of --split, which is missing.")
        return None
    for name in chosen:
        option, kinds = _OPTIONS_OF_SPLITS[name]
        if kind.replace("_", "-") not in kinds:
            raise UserError(f"{option} is for --split {' or '.join(kinds)}, not for {kind}.")
    return SplitChoice.model_validate({"kind": kind.replace("-", "_"), "options": chosen})


def _tailor(
    suite: Suite,
    *,
    tasks: Sequence[Task],
    dataset_ids: Sequence[str],
    method_ids: Sequence[str],
    known: Mapping[str, registry.Method],
    params: Mapping[str, Mapping[str, Any]],
    split: SplitChoice | None,
    stress: Mapping[str, Any] | None,
    seeds: Sequence[int] | None,
    limits: Mapping[str, float | None],
    profile: ProfileName | None,
) -> Suite:
    """Change a suite as the command line asks."""
    blocks = [block for block in suite.blocks if not tasks or block.task in tasks]
    if not blocks:
        raise UserError(f"Suite '{suite.suite_id}' has no block for {', '.join(tasks)}.")
    changes: dict[str, Any] = {}
    if dataset_ids:
        changes["datasets"] = tuple(dataset_ids)
    if split is not None:
        changes["splits"] = (split,)
    if seeds:
        changes["seeds"] = tuple(seeds)
    named = {choice.method_id for block in blocks for choice in block.methods}
    tailored = []
    for block in blocks:
        # A method that the suite names runs where the suite names it, others wherever they can.
        elsewhere = named - {choice.method_id for choice in block.methods}
        here = [name for name in method_ids if name not in elsewhere]
        chosen = () if method_ids and not here else _methods_of(block, here, known, params)
        if chosen:
            tailored.append(_stressed(block.model_copy(update={**changes, "methods": chosen}), stress))
    _check_names_used(tailored, method_ids, params, known)
    bounds = {name: value for name, value in limits.items() if value is not None}
    title = f"{suite.title}: {', '.join(dataset_ids)}" if dataset_ids else suite.title
    return suite.model_copy(
        update={
            "title": title,
            "blocks": tuple(tailored),
            "limits": Limits(**{**suite.limits.model_dump(), **bounds}),
            "profile": profile or suite.profile,
        }
    )


def _stressed(block: Block, stress: Mapping[str, Any] | None) -> Block:
    if stress is None:
        return block
    splits = tuple(
        choice.model_copy(update={"options": {**choice.options, "stress": dict(stress)}})
        for choice in block.splits
    )
    return block.model_copy(update={"splits": splits})


def _methods_of(
    block: Block,
    method_ids: Sequence[str],
    known: Mapping[str, registry.Method],
    params: Mapping[str, Mapping[str, Any]],
) -> tuple[MethodChoice, ...]:
    """Pick the methods of a block; plug-ins join the suite's own, ``all`` means every one."""
    can = [name for name, method in known.items() if block.task in method.spec.tasks]
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
        for choice in _choices(block, name)
    )


def _choices(block: Block, method_id: str) -> list[MethodChoice]:
    """Return a method as the suite chose it, perhaps more than once; as it is by itself otherwise."""
    own = [choice for choice in block.methods if choice.method_id == method_id]
    return own or [MethodChoice(method_id=method_id)]


def _check_names_used(
    blocks: Sequence[Block],
    method_ids: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, registry.Method],
) -> None:
    """Refuse names of methods and parameters that nothing would come of."""
    for name in {*method_ids, *params} - {"all"}:
        method = registry.pick("method", name, known)
        for parameter in params.get(name, ()):
            registry.pick(f"{name} parameter", parameter, method.defaults)
    used = {choice.method_id for block in blocks for choice in block.methods}
    for name in {*method_ids, *params} - used - {"all"}:
        can = ", ".join(known[name].spec.tasks)
        raise UserError(
            f"Method '{name}' is not run: it does {can}, which no chosen block of the suite asks for."
        )
    if not blocks:
        raise UserError("No method is left to run.")


def known_datasets(
    suite: Suite, own: DatasetSpec | None, data_dir: Path | None, plugins: Sequence[Path] = ()
) -> dict[str, DatasetSpec]:
    """Describe every data set that a suite may name: the catalogue's, its own, the user's."""
    from cellular_bench.datasets import catalog
    from cellular_bench.datasets.sources import local

    brought = [catalog.described(table, where=f"suite '{suite.suite_id}'") for table in suite.data]
    brought += [own] if own else []
    known = {**registry.datasets(plugins), **{spec.dataset_id: spec for spec in brought}}
    if data_dir is not None:
        known |= local.found_in(data_dir, known)
    return known


def _say_what_is_missing(suite: Suite, console: Console) -> None:
    for item in suite.missing:
        for line in item.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _load(
    suite: Suite, known: Mapping[str, DatasetSpec], *, subsample: int | None, console: Any
) -> dict[str, Dataset]:
    """Load and validate the data sets of a suite, by its recipe where it has one."""
    from cellular_bench.datasets import catalog

    wanted = dict.fromkeys(name for block in suite.blocks for name in block.datasets)
    specs = [registry.pick("data set", name, known) for name in wanted]
    loaded = {}
    for spec in specs:
        dataset = catalog.load(spec if suite.recipe is None else replace(spec, recipe=suite.recipe))
        if subsample is not None:
            dataset = catalog.subsampled(dataset, subsample)
        loaded[spec.dataset_id] = dataset
        adata = dataset.adata
        LOG.info("loaded %s: %s cells x %s genes", spec.dataset_id, adata.n_obs, adata.n_vars)
        console.print(f"{spec.dataset_id}: {adata.n_obs} cells x {adata.n_vars} genes", highlight=False)
        for warning in dataset.warnings:
            console.print(f"  note: {warning}", markup=False, highlight=False, soft_wrap=True)
    return loaded
