"""Take over results of the same identity from other folders: what was computed once is not computed again."""

from __future__ import annotations

import math
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellular_bench.benchmark.plan.identity import question
from cellular_bench.benchmark.plan.installed import NOT_INSTALLED
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.contents import check_split
from cellular_bench.benchmark.results.index import RunSummary
from cellular_bench.benchmark.results.store import ARTIFACTS, CELLS, OUTPUTS, RUN_LOG, Store, describe_outputs
from cellular_bench.benchmark.schema.records import PUBLISHED_SPLIT, Run, RunRecord, Status
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.benchmark.schema.weights import Weights
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import (
    below,
    copy_regular,
    discard,
    folder_below,
    regular_below,
    truncated,
)
from cellular_bench.environments.status import MISSING

#: What a method kept of a run is copied up to this number of files, and of bytes.
MOST_ARTIFACTS: Final = 10_000
MOST_ARTIFACT_BYTES: Final = 2**33


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What came of a merge.

    Attributes
    ----------
    statuses
        How the runs of the merged folder ended.
    refused
        Records that were left out, each with the reason.
    differing
        Runs that two folders hold with different scores, though nothing that they depend on differs.
    """

    statuses: Counter[Status]
    refused: list[str]
    differing: list[str]

    @property
    def n_records(self) -> int:
        """Records in the merged folder."""
        return self.statuses.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Each run of several folders once, with the folder that it is taken from; see :class:`Merged`."""

    runs: dict[str, tuple[RunRecord, Store]]
    refused: list[str]
    differing: list[str]


def is_whole(store: Store, run: RunSummary) -> bool:
    """Whether the outputs that a record speaks of are there, as long as they were written.

    Only the length is looked at, so that many runs are looked through quickly; see :func:`problem`.
    """
    try:
        path = store.run_file(run.run_id, OUTPUTS)
    except UserError:
        return False
    if run.n_bytes is None:
        return run.status != "ok" or run.split_id == PUBLISHED_SPLIT or path.exists()
    return path.exists() and path.stat().st_size == run.n_bytes


def problem(store: Store, record: RunRecord) -> str | None:
    """Say why a run cannot be taken over from a folder; None where it can."""
    try:
        _files_to_copy(record, store)
        if _files_of_split(record, store):
            check_split(store, record)
        store.data_file(record.dataset)
    except UserError as error:
        return f"{record.run_id}: {error}"
    if not is_whole(store, RunSummary.model_validate(record)):
        return f"{record.run_id}: its outputs are missing or cut short in {store.root}"
    path = store.run_file(record.run_id, OUTPUTS)
    if record.outputs is not None and describe_outputs(path) != record.outputs:
        return f"{record.run_id}: its outputs in {store.root} are not those that were scored"
    return None


def _files_to_copy(record: RunRecord, store: Store) -> dict[tuple[str, ...], Path]:
    """Return the files that are kept of a run, by their place below its folder.

    Raises
    ------
    UserError
        If something there is neither a file nor a folder, or what the method kept is too much to copy.
    """
    found: dict[tuple[str, ...], Path] = {
        (name,): store.run_file(record.run_id, name) for name in (OUTPUTS, RUN_LOG)
    }
    folder = below(store.run_folder(record.run_id), ARTIFACTS)
    for path in _regular_files(folder):
        found[ARTIFACTS, *path.relative_to(folder).parts] = path
    return {place: path for place, path in found.items() if path.exists()}


def _regular_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and those within it, whatever they are called."""
    n_files = n_bytes = 0
    for at, folders, names in os.walk(folder):
        for path in (Path(at, name) for name in (*folders, *names)):
            seen = path.lstat()
            if stat.S_ISDIR(seen.st_mode):
                continue
            if not stat.S_ISREG(seen.st_mode):
                raise UserError(f"{path} is a link, a pipe or a device, which is not copied. Remove it.")
            n_files, n_bytes = n_files + 1, n_bytes + seen.st_size
            yield path
        if n_files > MOST_ARTIFACTS or n_bytes > MOST_ARTIFACT_BYTES:
            raise UserError(
                f"{folder} holds more than {MOST_ARTIFACTS} files or {MOST_ARTIFACT_BYTES >> 30} GiB, the "
                "most that is copied. Delete what is not needed."
            )


def take_over(
    runs: Sequence[PlannedRun], sources: Sequence[Store], store: Store, *, retry: Collection[Status] = ()
) -> int:
    """Copy records and outputs of the same identity into a folder; return how many runs came.

    Runs that have a record are left alone. A run that broke a limit is taken over only where that limit
    was no tighter than now; one whose status is in ``retry`` is not.
    """
    taken = 0
    replaced = replaced_by(runs, store) if sources else {}
    for run in runs:
        if store.record(run.run_id) is not None:
            continue
        for source in sources:
            record = source.record(run.run_id)
            if record is None or record.status in retry or _was_tighter(record, run):
                continue
            if problem(source, record) is None:
                store.forget(replaced[run.run_id])
                copy_run(record, source, store)
                taken += 1
                break
    return taken


def replaced_by(runs: Sequence[Run], store: Store) -> dict[str, list[str]]:
    """Return for each run the records that it replaces.

    They say that the same run did not apply while something that its method needs was not there.
    """
    asked = {_without_digest(run.run_id) for run in runs}
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for summary in index.read(store)[0]:
        if summary.status == "not_applicable" and _without_digest(summary.run_id) in asked:
            record = store.record(summary.run_id)
            if record is not None:
                found[question(record)].append(record)
    return {run.run_id: [old.run_id for old in found[question(run)] if _had_less(old, run)] for run in runs}


def _without_digest(run_id: str) -> str:
    return run_id.rpartition("-")[0]


def _had_less(old: RunRecord, run: Run) -> bool:
    asks_the_same = old.study_metrics in (None, run.study_metrics)
    return asks_the_same and bool(_missing(old.method.packages) - _missing(run.method.packages))


def _missing(packages: Mapping[str, str]) -> set[str]:
    return {name for name, version in packages.items() if version in (NOT_INSTALLED, MISSING)}


def _was_tighter(record: RunRecord, run: PlannedRun) -> bool:
    before, now = record.limits, run.limits
    if before is None or record.status not in ("timeout", "out_of_memory"):
        return False
    if record.status == "timeout":
        return before.time_limit_s < now.time_limit_s
    gpu = before.gpu_memory_limit_mib or math.inf, now.gpu_memory_limit_mib or math.inf
    return before.memory_limit_mib < now.memory_limit_mib or gpu[0] < gpu[1]


def copy_run(record: RunRecord, source: Store, target: Store) -> None:
    """Copy what is kept of a run; the record comes last, as it says that the rest is there."""
    _copy_split(record, source, target)
    new = target.clear_run(record.run_id)
    for (*folders, name), path in _files_to_copy(record, source).items():
        made = new.joinpath(*folders)
        made.mkdir(parents=True, exist_ok=True)
        copy_regular(path, made / name)
    target.write(record)


def _copy_split(record: RunRecord, source: Store, target: Store) -> None:
    """Copy the truth, which pictures and new scores need; the cells last, as in its preparation."""
    files = _files_of_split(record, source)
    new = target.split_folder(record.dataset, record.split)
    if not files or (new / CELLS).exists():
        return
    new.mkdir(parents=True, exist_ok=True)
    for path in files:
        copy_regular(path, new / path.name)


def _files_of_split(record: RunRecord, store: Store) -> list[Path]:
    """Return the files of a prepared split, the cells last; none if it is not there, or the run not scored.

    Raises
    ------
    UserError
        If one of them is no regular file.
    """
    if record.status != "ok" or record.split.split_id == PUBLISHED_SPLIT:
        return []
    folder = store.split_folder(record.dataset, record.split)
    names = [path.name for path in folder.glob("[!.]*.npz")]
    if CELLS not in names:
        return []
    names.sort(key=lambda name: (name == CELLS, name))
    return [regular_below(folder, name) for name in names]


def _copy_data(record: RunRecord, source: Store, target: Store) -> None:
    """Copy the data, which new scores of corrected values need; a link, where the file system has them."""
    old, new = (store.data_file(record.dataset) for store in (source, target))
    if not old.exists() or new.exists():
        return
    folder_below(target.root, "data")
    try:
        new.hardlink_to(old)
    except OSError:
        copy_regular(old, new)


def merge(sources: Sequence[Store], out: Path) -> Merged:
    """Put the runs of several folders into a new one, which is there as a whole or not at all.

    Where two folders hold one run, the one that ended well wins, then the later one.

    Raises
    ------
    UserError
        If ``out`` is there already, or one of the folders does not say what was run in it.
    """
    if out.exists():
        raise UserError(f"{out} is there already; merge writes a new folder.")
    chosen = choose(sources)
    partial = out.with_name(f".{truncated(out.name)}.merging")
    if partial.is_dir() and not Store(partial).is_locked:
        discard(partial)  # of one that was killed
    store = Store.create(partial, merged_suite(sources))
    with store.locked():
        try:
            for record, source in chosen.runs.values():
                copy_run(record, source, store)
                _copy_data(record, source, store)
            partial.rename(out)
        finally:
            discard(partial)
    statuses = Counter(record.status for record, _ in chosen.runs.values() if not record.is_canary)
    return Merged(statuses=statuses, refused=chosen.refused, differing=chosen.differing)


def choose(sources: Sequence[Store]) -> Chosen:
    """Take each run of several folders once: the one that ended well, then the later one."""
    refused = [damaged.reason for source in sources for damaged in source.damaged()]
    best: dict[str, tuple[RunRecord, Store]] = {}
    differing: list[str] = []
    for source in sources:
        for record in source.every_record():
            if why := problem(source, record):
                refused.append(why)
                continue
            other = best.get(record.run_id)
            if other is not None and _disagree(record, other[0]):
                differing.append(record.run_id)
            if other is None or _preference(record) > _preference(other[0]):
                best[record.run_id] = record, source
    return Chosen(runs=best, refused=refused, differing=differing)


def _preference(record: RunRecord) -> tuple[bool, float]:
    return record.status == "ok", record.finished_at.timestamp()


def _disagree(first: RunRecord, second: RunRecord) -> bool:
    if not first.status == second.status == "ok":
        return False
    versions = [
        {score.metric_id: (score.version, score.left_out) for score in record.scores}
        for record in (first, second)
    ]
    return versions[0] == versions[1] and first.scores != second.scores


def common_weights(suites: Sequence[Suite]) -> Weights | None:
    """Return the weights that all suites have; None where they differ."""
    first = suites[0].weights if suites else None
    return first if all(suite.weights == first for suite in suites) else None


def merged_suite(sources: Sequence[Store]) -> Suite:
    """Return one suite that asks for what several folders were run for."""
    suites = []
    for source in sources:
        if (suite := source.suite) is None:
            raise UserError(f"{source.root} has no suite.json, so what was run in it is not known.")
        suites.append(suite)
    data = {table["dataset_id"]: table for suite in suites for table in suite.data}
    return Suite(
        suite_id="merged",
        title=" + ".join(dict.fromkeys(suite.title for suite in suites)),
        limits=suites[0].limits,
        min_cells=suites[0].min_cells,
        leak_canary=any(suite.leak_canary for suite in suites),
        weights=common_weights(suites),
        canaries=any(suite.canaries for suite in suites),
        data=tuple(data.values()),
        missing=tuple(item for suite in suites for item in suite.missing),
        blocks=tuple(block for suite in suites for block in suite.blocks),
    )
