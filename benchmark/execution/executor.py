"""Carry out the runs of a plan: prepare, isolate, score, record; one folder, nothing lost."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cellular_bench.benchmark.execution import preparation
from cellular_bench.benchmark.execution.job import Job
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.execution.run import HARNESS_LIMITS, carry_out, check_disk, recorded, tail
from cellular_bench.benchmark.isolation.call import call
from cellular_bench.benchmark.plan.run import Plan, PlannedRun
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.contents import holds_split
from cellular_bench.benchmark.results.merge import is_whole, replaced_by
from cellular_bench.benchmark.results.store import RUN_LOG, SPLIT, Store
from cellular_bench.benchmark.schema.records import Outcome, RunRecord, Status
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import BenchError, UserError, reason_of
from cellular_bench.core.files import discard, folder_below
from cellular_bench.core.types import Dataset, ProfileName, Split, TaskId

LOG = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives the start and the end of each run."""

    def started(self, run: PlannedRun) -> None:
        """Receive a run that starts."""

    def finished(self, record: RunRecord) -> None:
        """Receive the record of a run that ended."""


class CarryOut(Protocol):
    """The one thing that differs between a machine and a cluster."""

    def __call__(
        self, run: PlannedRun, store: Store, *, cancelled: threading.Event | None = None
    ) -> RunRecord:
        """Carry out a run whose data and split are prepared; return its record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """Carries out a plan, on this machine or wherever its runs are sent.

    Parameters
    ----------
    n_jobs
        Runs at a time; each uses one compute thread.
    retry
        Statuses of existing records that are done again.
    carry_out
        Brings a run to its record: on this machine (:func:`.carry_out`), or on a cluster
        (:meth:`cluster.Cluster.carry_out`).
    """

    store: Store
    n_jobs: int = 1
    retry: frozenset[Status] = frozenset()
    carry_out: CarryOut = carry_out
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _indexing: threading.Lock = field(default_factory=threading.Lock)

    def missing(self, plan: Plan) -> list[PlannedRun]:
        """Return the runs that have no whole record with its outputs, or one that is to be done again."""
        asked = {run.run_id for run in plan.all_runs}
        done = {
            summary.run_id
            for summary in index.read(self.store)[0]
            if summary.run_id in asked and summary.status not in self.retry and is_whole(self.store, summary)
        }
        return [run for run in plan.all_runs if run.run_id not in done]

    def execute(
        self, plan: Plan, *, datasets: Mapping[str, Dataset], progress: Progress
    ) -> Iterator[RunRecord]:
        """Carry out the missing runs and yield their records as they come, but for those of leak canaries.

        Stopping the iteration (Ctrl-C included) ends the runs in flight; what has a record stays.

        Raises
        ------
        UserError
            If the result folder cannot be written any more.
        """
        runs = self.missing(plan)
        self.write_data(plan, datasets)
        replaced = replaced_by(runs, self.store)
        try:
            with self._pool(min(self.n_jobs, usable_cores())) as pool:
                unprepared = self._prepare(plan, runs, datasets, pool)
            with self._pool(self.n_jobs) as pool:
                futures = [
                    pool.submit(self._run, run, replaced[run.run_id], progress, unprepared.get(run.run_id))
                    for run in runs
                ]
                yield from (record for record in _as_completed(futures) if not record.is_canary)
        finally:
            with suppress(OSError):  # the next benchmark of the folder deletes them first
                self.store.delete_views()

    @contextmanager
    def _pool(self, n_threads: int) -> Iterator[ThreadPoolExecutor]:
        """Yield threads; on exit, end all that they still do."""
        self._cancelled.clear()
        pool = ThreadPoolExecutor(n_threads)
        try:
            yield pool
        finally:
            self._cancelled.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def write_data(self, plan: Plan, datasets: Mapping[str, Dataset]) -> None:
        """Write the data of all runs, done ones too: new scores of corrected values need them."""
        for identity in {run.dataset.digest: run.dataset for run in plan.all_runs}.values():
            dataset = plan.canary_data.get(identity.digest) or datasets[identity.dataset_id]
            with _disk_errors(self.store):
                folder_below(self.store.root, "data")
                preparation.write_data(dataset, self.store.data_file(identity))

    def _prepare(
        self,
        plan: Plan,
        runs: Sequence[PlannedRun],
        datasets: Mapping[str, Dataset],
        pool: ThreadPoolExecutor,
    ) -> dict[str, str]:
        """Prepare the splits of runs; return why runs cannot be carried out, by their names."""
        with _disk_errors(self.store):
            self.store.delete_views()  # of a benchmark that was killed: they may have been changed since
        runs_of: dict[Path, list[PlannedRun]] = defaultdict(list)
        for run in runs:
            runs_of[self.store.split_folder(run.dataset, run.split)].append(run)
        for folder, (run, *_) in runs_of.items():
            split = plan.splits[run.dataset.digest, run.split.digest]
            data = plan.canary_data.get(run.dataset.digest) or datasets[run.dataset.dataset_id]
            if folder.exists() and not holds_split(folder, split, data.adata.obs):
                discard(folder)
        futures = [
            pool.submit(self._prepare_split, plan.splits[few[0].dataset.digest, few[0].split.digest], few)
            for few in runs_of.values()
        ]
        deque(_as_completed(futures), maxlen=0)
        return {run_id: reason for future in futures for run_id, reason in future.result().items()}

    def _prepare_split(self, split: Split, runs: Sequence[PlannedRun]) -> dict[str, str]:
        """Write what the runs of a split read; return why that failed, by the names of the runs.

        What is given at other settings of the preprocessing is written by itself, in another process: if
        memory is too small for scaled genes, runs at the default setting do not suffer.
        """
        reasons: dict[str, str] = {}
        for is_default in (True, False):
            some = [run for run in runs if (run.method.preprocessing is None) == is_default]
            reasons |= self._prepare_views(split, some) if some else {}
        return reasons

    def _prepare_views(self, split: Split, runs: Sequence[PlannedRun]) -> dict[str, str]:
        """Write the split, and what some of its runs are given.

        Raises
        ------
        UserError
            If the disk is at fault: then no run can be carried out.
        """
        run = runs[0]
        inputs: dict[str, tuple[TaskId, ProfileName]] = {}
        for other in runs:
            files = TASKS[other.task].input_files(study_metrics=other.study_metrics, profile=other.profile)
            inputs |= dict.fromkeys(files, (other.task, other.profile))
        views = {
            (method.features, method.preprocessing): Job(run=other, store=self.store).views
            for other in sorted(runs, key=lambda one: one.run_id)
            if (method := other.method).features is not None
        }
        plugins = tuple(dict.fromkeys(path for other in runs for path in other.plugins))
        folder = self.store.split_folder(run.dataset, run.split)
        LOG.info("preparing %s of %s", split.split_id, run.dataset.dataset_id)
        with _disk_errors(self.store):
            folder_below(self.store.root, *folder.relative_to(self.store.root).parts)
            split_file, log = folder / SPLIT, folder / RUN_LOG
            for old in (split_file, log):
                discard(old)  # of an earlier try, or a link that somebody left there
            preparation.write_split(split, run.dataset, split_file)
        data = self.store.data_file(run.dataset)
        prepare = partial(preparation.prepare_split_or_exit, inputs=inputs, views=views, plugins=plugins)
        ended = call(
            prepare, data, split_file, folder, limits=HARNESS_LIMITS, log=log, cancelled=self._cancelled
        )
        if ended.status == "ok":
            split_file.unlink()
            lacking = {
                other.run_id: preparation.why_missing(Job(run=other, store=self.store).views)
                for other in runs
            }
            return {
                run_id: why.read_text(encoding="utf-8") for run_id, why in lacking.items() if why.exists()
            }
        last = tail(log).rstrip().rpartition("\n")[-1]
        with _disk_errors(self.store):
            check_disk(folder)
            if ended.exit_code == os.EX_IOERR:
                raise OSError(errno.EIO, last)
        reason = reason_of(BenchError(f"Its split could not be prepared: {ended.reason} {last}"))
        return dict.fromkeys((other.run_id for other in runs), reason)

    def _run(
        self, run: PlannedRun, replaced: Sequence[str], progress: Progress, unprepared: str | None
    ) -> RunRecord:
        progress.started(run)
        LOG.info("started %s", run.run_id)
        with _disk_errors(self.store):
            if unprepared is None:
                record = self.carry_out(run, self.store, cancelled=self._cancelled)
            else:
                self.store.clear_run(run.run_id)
                failed = Outcome(status="failed", reason=unprepared)
                record = recorded(run, failed, started_at=datetime.now(UTC))
            self.store.forget(replaced)
            self.store.write(record)
            with self._indexing:
                index.append(self.store, record)
        why = f": {record.reason}" if record.reason else ""
        LOG.info("ended %s: %s after %.1f s%s", run.run_id, record.status, record.seconds, why)
        progress.finished(record)
        return record


@contextmanager
def _disk_errors(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{store.root} cannot be written: {error.strerror}. Records written so far are intact; "
            "free space or fix the permissions, then run the same command again."
        ) from error


def _as_completed(futures: Iterable[Future[Any]]) -> Iterator[Any]:
    """Yield results as they come, in a wait that Ctrl-C can interrupt."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
