"""Run a benchmark: plan it, run what is missing, write its leaderboard."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.agreement import agreement
from cellular_bench.benchmark.execution import relabelling, scoring
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.isolation import sandbox, scratch
from cellular_bench.benchmark.plan.availability import drop_impossible_tasks, drop_unavailable
from cellular_bench.benchmark.plan.planner import choose_methods, plan
from cellular_bench.benchmark.plan.run import Plan
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.merge import take_over
from cellular_bench.benchmark.results.progress import write_plan
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.executor import ExecutorConfig
from cellular_bench.benchmark.schema.records import Missing, RunRecord
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import folder_below
from cellular_bench.core.types import Dataset, ProfileName
from cellular_bench.metrics.spec import reads_batches
from cellular_bench.reports.tables.definitions import other_versions
from cellular_bench.reports.tables.formatting import plural
from cellular_bench.workflows import consent, data
from cellular_bench.workflows.progress import SILENT, Progress
from cellular_bench.workflows.report import ReportRequest, write_reports
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.tailor import find_suite, is_file, tailored

_FAILURES = ("failed", "timeout", "out_of_memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What became of a request.

    Attributes
    ----------
    folder
        The result folder.
    statuses
        How many of the requested runs ended how; ``"missing"`` for those without a record.
    pages
        Reports that were written.
    """

    folder: Path
    statuses: Mapping[str, int]
    pages: tuple[Path, ...]

    @property
    def is_clean(self) -> bool:
        """True if every run ended well or does not apply."""
        return not any(self.statuses.get(status) for status in _FAILURES)


def run(request: RunRequest, *, progress: Progress = SILENT) -> RunResult:
    """Carry out a request; runs that have a record in the result folder are not run again.

    Raises
    ------
    UserError
        If the request cannot be carried out as it was made, or its suite needs consent. A run that fails
        raises nothing.
    """
    if request.adata is not None and request.datasets:
        raise UserError("Give either --adata or --dataset, not both: your file, or the catalogue's data.")
    known = registry.methods(request.plugins)
    for task in request.tasks:
        registry.task(task)  # known now, if a plug-in defines it
    own = data.described(request, request.further_labels)
    name = request.suite or _default_suite(request)
    suite = find_suite(name)
    dataset_ids = (own.dataset_id,) if own else request.datasets
    suite = tailored(suite, request, dataset_ids=dataset_ids, known=known)
    specs = data.known_datasets(suite, own, request.data_dir, request.plugins)
    if is_file(name):
        consent.require(suite, request, path=Path(name), methods=known, datasets=specs)
    suite = drop_unavailable(suite, methods=known, datasets=specs)
    for block in suite.blocks:
        choose_methods(block, known)  # refuses methods and parameters before data are read, which takes long
    _report_missing(suite.missing, progress)
    _check_other_labels(suite, request)
    datasets = data.load(
        suite,
        specs,
        subsample=request.subsample,
        cluster_labels=request.cluster_labels,
        progress=progress,
    )
    planned = _planned(suite, datasets, known, request, progress)
    store = Store.create(request.out, planned.suite)
    with store.locked():
        return _execute(planned, datasets, store, request, progress)


def _default_suite(request: RunRequest) -> str:
    if request.embeddings and not request.methods:
        return "embeddings"
    if request.adata is None:
        return "standard" if request.methods else "quickstart"
    blocks = find_suite("label-free").blocks
    is_possible = set(request.tasks) <= {block.task for block in blocks}
    return "label-free" if request.label_key is None and is_possible else "standard"


def _check_other_labels(suite: Suite, request: RunRequest) -> None:
    """Refuse other labels that nothing would be scored under."""
    if not (request.further_labels or request.cluster_labels):
        return
    if request.adata is not None and request.label_key is None:
        raise UserError(
            "--cluster-labels are compared with the labels of your cells: name their column (--label-key)."
        )
    tasks = dict.fromkeys(block.task for block in suite.blocks)
    if not any(registry.task(task).takes_other_labels for task in tasks):
        raise UserError(
            f"Only embeddings are scored under further labels, and you asked for {', '.join(tasks)}. Leave "
            "out all but the first --label-key, and --cluster-labels."
        )


def _report_missing(missing: Sequence[Missing], progress: Progress) -> None:
    for item in missing:
        for line in item.lines():
            progress.message(line)


def _planned(
    suite: Suite,
    datasets: Mapping[str, Dataset],
    known: Mapping[str, registry.Method],
    request: RunRequest,
    progress: Progress,
) -> Plan:
    """Plan a suite; tasks that the cells do not allow are left out unless the user asked for them."""
    if request.adata is not None and not (request.suite or request.split):
        # The suite is our choice: nobody asked for each of its blocks.
        n_reported = len(suite.missing)
        suite = drop_impossible_tasks(suite, datasets, asked=request.tasks)
        _report_missing(suite.missing[n_reported:], progress)
        left = {block.task for block in suite.blocks}
        for name in dict.fromkeys(item.name for item in suite.missing[n_reported:]):
            if instead := [other for other in sorted(left - {name}) if registry.task(other).done_by == name]:
                progress.message(f"  note: {' and '.join(instead)} of these cells is run instead of {name}")
    plugins = [path.resolve() for path in request.plugins]
    found = plan(suite, datasets=datasets, methods=known, plugins=plugins)
    return found if request.sandbox else found.without_sandbox()


def _execute(
    planned: Plan, datasets: Mapping[str, Dataset], store: Store, request: RunRequest, progress: Progress
) -> RunResult:
    """Run what is missing and write the leaderboard; the result folder is locked."""
    scratch.remove_abandoned()
    _reuse(planned, store, request, progress)
    here = Executor(store=store, n_jobs=request.jobs or usable_cores(), retry=request.retried)
    runs = here.missing(planned)
    missing, n_tests = len(runs), sum(run.is_canary for run in runs)
    config = planned.suite.executor if missing else ExecutorConfig()
    for note in planned.notes:
        progress.message(f"  note: {note}")
    if missing and request.sandbox and config.kind == "local" and sandbox.best().kind == "process":
        reasons = "; ".join(f"{kind}: {reason}" for kind, reason in sandbox.best().missing.items())
        progress.message(f"  note: no sandbox for methods on this machine ({reasons})")
    with _executor(config, here, jobs=request.jobs, progress=progress) as executor:
        write_plan(store, planned.runs, n_jobs=executor.n_jobs, canaries=planned.canaries)
        tests = f"; then {plural(n_tests, 'short run')} of leak canaries" if n_tests else ""
        progress.message(
            f"{len(planned.runs)} runs, {missing - n_tests} to do, {executor.n_jobs} at a time, "
            f"in {request.out}{tests}"
        )
        if missing:
            progress.begin(missing - n_tests)
            try:
                for _ in executor.execute(planned, datasets=datasets, progress=progress):
                    pass
            finally:
                progress.end()
        else:
            here.write_data(planned, datasets)  # which may have been deleted
    _score_under_other_labels(planned, datasets, here, progress)
    how = ReportRequest(stores=(store,), out=store.root, figures=request.figures, n_jobs=here.n_jobs)
    pages = write_reports(how, progress=progress)
    records = {run.run_id: store.record(run.run_id) for run in planned.runs}
    statuses = Counter(record.status if record else "missing" for record in records.values())
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in statuses.items())
    progress.message(f"Done: {counts}")
    for page in pages:
        progress.message(f"  {page}")
    for warning in leaks(store, planned):
        progress.warning(warning)
    for note in notes(planned, [record for record in records.values() if record], request.out):
        progress.message(note)
    return RunResult(folder=store.root, statuses=statuses, pages=tuple(pages))


def _score_under_other_labels(
    planned: Plan, datasets: Mapping[str, Dataset], here: Executor, progress: Progress
) -> None:
    """Add to records the scores under other labels of the data that they lack, from their kept outputs."""
    splits: dict[tuple[str, Path], list[RunRecord]] = defaultdict(list)
    for run in planned.runs:
        record = here.store.record(run.run_id)
        if record is not None and record.status == "ok" and registry.task(run.task).takes_other_labels:
            splits[run.task, here.store.split_folder(run.dataset, run.split)].append(record)
    for (task, folder), records in splits.items():
        adata, split_id = datasets[records[0].dataset.dataset_id].adata, records[0].split.split_id
        if not (names := relabelling.names_of_labellings(adata)):
            continue
        progress.message(f"Other labels of {adata.n_obs} cells, {task}, split {split_id}: {', '.join(names)}")
        for record, others in relabelling.lacking(registry.task(task), adata, folder, records):
            try:
                scored = relabelling.relabel(here.store, record, others, n_jobs=here.n_jobs)
            except UserError as error:
                progress.warning(f"Not scored under other labels, {record.run_id}: {error}")
                continue
            here.store.write(scored)
            index.append(here.store, scored)


def leaks(store: Store, planned: Plan) -> Iterator[str]:
    """Name the methods that a leak canary has flagged."""
    for run in planned.canaries:
        record = store.record(run.run_id)
        if record is None or record.status != "ok" or record.method.is_control:
            continue
        found = agreement(record.confusion)
        if found.is_leak:
            yield (
                f"Warning: {record.method.name} knows labels that it was not shown ({record.task}, "
                f"{record.dataset.dataset_id}): it agrees with permuted labels in {found.share:.0%} of "
                f"{found.n_cells} cells, chance is {found.chance:.0%}. Its scores are worth nothing until it "
                "is known why."
            )


def _reuse(planned: Plan, store: Store, request: RunRequest, progress: Progress) -> None:
    """Delete or copy earlier results, as the request says."""
    if request.fresh:
        store.forget(run.run_id for run in planned.all_runs)
    sources = [Store.open(folder) for folder in request.reuse]
    taken = take_over(planned.runs, sources, store, retry=request.retried)
    take_over(planned.canaries, sources, store, retry=request.retried)
    if sources:
        progress.message(f"{taken} runs copied from other folders")
    index.read(store, keep=True)


@contextmanager
def _executor(
    config: ExecutorConfig, here: Executor, *, jobs: int | None, progress: Progress
) -> Iterator[Executor]:
    """Return the executor that a suite or the request names."""
    if config.kind == "local":
        yield here
        return
    from cellular_bench.benchmark.cluster.dask import connect

    if config.is_open:
        progress.message(
            f"warning: {config.scheduler} is not encrypted, and whoever reaches it can run code on its "
            "workers. Use tls:// outside a network that you trust."
        )
    with connect(config, logs=folder_below(here.store.root, "jobs")) as cluster:
        yield replace(here, n_jobs=jobs or cluster.n_slots, carry_out=cluster.carry_out)


def notes(planned: Plan, records: Sequence[RunRecord], out: Path) -> Iterator[str]:
    """Yield what a reader of kept scores must know: other profiles, other versions, absent metrics."""
    yield from _less_exact(records, planned.suite.profile, out)
    yield from _other_batches(planned, records, out)
    for text in other_versions(records, registry.metrics()):
        yield f"{text}. To recompute the scores of kept outputs: run-benchmark rescore {out}"
    yield from _unscored(planned, records, out)


def _less_exact(records: Sequence[RunRecord], profile: ProfileName, out: Path) -> Iterator[str]:
    """Name kept scores that are less exact than the profile asked for."""
    from cellular_bench.metrics.profiles import APPROXIMATED

    scored = [record.evaluation for record in records if record.evaluation]
    other = [
        found.profile
        for found in scored
        if found.profile != profile and any(one.quantity in APPROXIMATED for one in found.shortcuts)
    ]
    if other:
        yield (
            f"{len(other)} runs keep approximate scores of the profile {' or '.join(sorted(set(other)))}. "
            f"To recompute them: run-benchmark rescore {out} --profile {profile}"
        )


def _other_batches(planned: Plan, records: Sequence[RunRecord], out: Path) -> Iterator[str]:
    """Name kept scores by metrics that read batches if other small batches are left out now."""
    known = registry.metrics()
    n_other = sum(
        any(
            score.left_out != planned.left_out[record.dataset.digest, record.split.digest]
            for score in record.scores
            if score.metric_id in known and reads_batches(known[score.metric_id])
        )
        for record in records
    )
    if n_other:
        n = planned.suite.min_cells
        yield (
            f"{n_other} runs keep scores that leave out other small batches than --min-cells {n} does. "
            f"To recompute them: run-benchmark rescore {out} --min-cells {n}"
        )


def _unscored(planned: Plan, records: Sequence[RunRecord], out: Path) -> Iterator[str]:
    """Name the metrics of plug-ins that runs of before lack."""
    paths = dict.fromkeys(path for run in planned.runs for path in (*run.plugins, *run.metric_plugins))
    for plugin in registry.load(paths):
        for spec in plugin.metrics:
            lacking = sum(
                record.status == "ok"
                and spec in scoring.specs_for(registry.task(record.task))
                and all(score.metric_id != spec.metric_id for score in record.scores)
                for record in records
            )
            if lacking:
                yield (
                    f"{lacking} runs have no score of {spec.metric_id}, which is newer than they are. "
                    f"To add it: run-benchmark rescore {out} --plugin {plugin.path}"
                )
