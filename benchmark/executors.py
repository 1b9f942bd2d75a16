"""Carry out the runs of a plan: prepare, isolate, score, record; one folder, nothing lost."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cellular_bench.benchmark import isolation, preparation, scoring, worker
from cellular_bench.benchmark.environment import current_environment
from cellular_bench.benchmark.errors import BenchError, UserError
from cellular_bench.benchmark.planner import Plan, Run
from cellular_bench.benchmark.records import Cost, Limits, RunRecord, Status
from cellular_bench.benchmark.store import Store
from cellular_bench.benchmark.types import Dataset, Split

LOG_TAIL_CHARS = 4000
#: Preparing and scoring are the harness's own work; the limits only keep a defect from hanging it.
HARNESS_LIMITS = Limits(time_limit_s=3600, memory_limit_mib=64 * 1024)


class Progress(Protocol):
    """Who wants to know how far the work is."""

    def started(self, run: Run) -> None:
        """Hear that a run begins."""

    def finished(self, record: RunRecord) -> None:
        """Hear that a run has its record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """Runs a plan in local processes.

    Parameters
    ----------
    n_jobs
        Runs at a time; each uses one compute thread.
    retry
        Statuses of existing records that are done again.
    """

    store: Store
    n_jobs: int = 1
    retry: frozenset[Status] = frozenset()
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def missing(self, plan: Plan) -> list[Run]:
        """Return the runs that have no record, or one that is to be done again."""
        records = ((run, self.store.record(run.run_id)) for run in plan.runs)
        return [run for run, record in records if record is None or record.status in self.retry]

    def execute(
        self, plan: Plan, *, datasets: Mapping[str, Dataset], progress: Progress
    ) -> Iterator[RunRecord]:
        """Carry out the missing runs and yield their records as they come.

        Stopping the iteration (Ctrl-C included) ends the runs in flight; what has a record stays.

        Raises
        ------
        UserError
            If the result folder cannot be written any more.
        """
        runs = self.missing(plan)
        with ThreadPoolExecutor(self.n_jobs) as pool, self._ending_all_on_exit(pool):
            self._prepare(plan, runs, datasets, pool)
            futures = [pool.submit(self._guarded, run, progress) for run in runs]
            yield from _as_completed(futures)

    @contextmanager
    def _ending_all_on_exit(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        try:
            yield
        finally:
            self._cancelled.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(
        self, plan: Plan, runs: Sequence[Run], datasets: Mapping[str, Dataset], pool: ThreadPoolExecutor
    ) -> None:
        """Write the data, cells and truth that the missing runs need."""
        needed: dict[Path, tuple[Run, Split]] = {}
        # Of the runs on a split one that asks for more is prepared for: it comes last.
        for run in sorted(runs, key=lambda run: run.scib_metrics):
            folder = self.store.split_folder(run.dataset, run.split)
            needed[folder] = run, plan.splits[run.dataset.digest, run.split.digest]
        for run, _ in needed.values():
            with _disk_errors(self.store):
                preparation.write_data(datasets[run.dataset.dataset_id], self.store.data_file(run.dataset))
        todo = [
            (run, split)
            for folder, (run, split) in needed.items()
            if not preparation.is_prepared(folder, all_genes=run.scib_metrics)
        ]
        for done in _as_completed([pool.submit(self._prepare_split, run, split) for run, split in todo]):
            del done

    def _prepare_split(self, run: Run, split: Split) -> None:
        folder = self.store.split_folder(run.dataset, run.split)
        with _disk_errors(self.store):
            folder.mkdir(parents=True, exist_ok=True)
            split_file, log = folder / "split.npz", folder / "log.txt"
            preparation.write_split(split, split_file)
        data = self.store.data_file(run.dataset)
        prepare = partial(preparation.prepare_split, all_genes=run.scib_metrics)
        outcome = self._call(prepare, data, split_file, folder, log=log)
        if outcome.status != "ok":
            raise BenchError(
                f"Split {split.split_id} of {run.dataset.dataset_id} could not be prepared: "
                f"{outcome.reason}\n{_tail(log)}"
            )
        split_file.unlink()

    def _call(
        self, function: Callable[..., None], *args: Any, log: Path, limits: Limits = HARNESS_LIMITS
    ) -> isolation.Outcome:
        return isolation.call(function, *args, limits=limits, log=log, cancelled=self._cancelled)

    def _guarded(self, run: Run, progress: Progress) -> RunRecord:
        with _disk_errors(self.store):
            return self._run(run, progress)

    def _run(self, run: Run, progress: Progress) -> RunRecord:
        """Carry out one run and write its record."""
        progress.started(run)
        folder = self.store.run_folder(run.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.name != worker.ARTIFACTS:
                old.unlink()
        started_at = datetime.now(UTC)
        ended = self._execute(run, folder)
        log_tail = "" if ended.status == "ok" else _tail(folder / "log.txt")
        record = RunRecord(
            run_id=run.run_id,
            suite_id=run.suite_id,
            task=run.task,
            method=run.method,
            dataset=run.dataset,
            split=run.split,
            seed=run.seed,
            method_seed=run.method_seed,
            limits=run.limits,
            status=ended.status,
            reason=ended.reason,
            scores=ended.scored.scores,
            per_label=ended.scored.per_label,
            confusion=ended.scored.confusion,
            evaluation=ended.scored.evaluation,
            cost=ended.cost,
            environment=current_environment(),
            started_at=started_at,
            finished_at=datetime.now(UTC),
            log_tail=log_tail,
        )
        self.store.write(record)
        progress.finished(record)
        return record

    def _execute(self, run: Run, folder: Path) -> _Ended:
        truth_folder = self.store.split_folder(run.dataset, run.split)
        job = worker.Job(
            run=run,
            data=self.store.data_file(run.dataset),
            cells=truth_folder / preparation.CELLS,
            folder=folder,
        )
        outcome = self._call(worker.execute, job, log=folder / "log.txt", limits=run.limits)
        if outcome.exit_code == os.EX_IOERR:
            _check_disk(folder)
        result = _result(folder / worker.RESULT)
        cost = _cost(outcome, result.get("cost", {}))
        if outcome.status != "ok":
            return _Ended(status=outcome.status, reason=outcome.reason, cost=cost)
        if "status" not in result:
            return _Ended(status="failed", reason=_NO_RESULT, cost=cost)
        if result["status"] != "ok":
            return _Ended(status=result["status"], reason=result["reason"], cost=cost)
        return self._score(run, folder, truth_folder, cost)

    def _score(self, run: Run, folder: Path, truth_folder: Path, cost: Cost) -> _Ended:
        job = scoring.ScoringJob(
            task=run.task,
            method_id=run.method.method_id,
            is_control=run.method.is_control,
            outputs=folder / worker.OUTPUTS,
            data=self.store.data_file(run.dataset),
            truth_folder=truth_folder,
            result=folder / scoring.SCORED,
            scib_metrics=run.scib_metrics,
            profile=run.profile,
        )
        outcome = self._call(scoring.execute, job, log=folder / "log.txt")
        if outcome.status != "ok":
            return _Ended(status="failed", reason=f"Scoring failed: {outcome.reason}", cost=cost)
        scored = scoring.read_scored(job.result)
        job.result.unlink()
        if scored.contract_broken is not None:
            return _Ended(status="failed", reason=scored.contract_broken, cost=cost)
        return _Ended(status="ok", reason=None, cost=cost, scored=scored)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    status: Status
    reason: str | None
    cost: Cost
    scored: scoring.Scored = field(default_factory=scoring.Scored)


_NO_RESULT = "The method ended its process (exit code 0) before it returned anything. It must not exit."


def _check_disk(folder: Path) -> None:
    """Raise OSError where a small file cannot be written: a full disk is not the method's failure."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(2**16))
    finally:
        probe.unlink(missing_ok=True)


def _result(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if result.get("reason"):  # it may hold halves of characters, which no text file can
        result["reason"] = result["reason"].encode(errors="replace").decode()
    path.unlink()
    return result


def _cost(outcome: isolation.Outcome, measured: Mapping[str, float]) -> Cost:
    """Prefer what the worker measured; a run that was ended has only what was seen from outside."""
    return Cost(
        wall_time_s=measured.get("wall_time_s", outcome.wall_time_s),
        cpu_time_s=measured.get("cpu_time_s"),
        peak_rss_mib=max(measured.get("peak_rss_mib", 0.0), outcome.peak_rss_mib),
        baseline_rss_mib=measured.get("baseline_rss_mib"),
    )


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_CHARS))
        return file.read().decode("utf-8", errors="replace")


@contextmanager
def _disk_errors(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{store.root} cannot be written: {error.strerror}. Records written so far are intact; "
            "free space or mend the permissions, then run the same command again."
        ) from error


def _as_completed(futures: Iterable[Future[Any]]) -> Iterator[Any]:
    """Yield results as they come, in a wait that Ctrl-C can interrupt."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
