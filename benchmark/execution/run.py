"""One run from its beginning to its record: the method in one process, its scores in another."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cellular_bench.benchmark.execution import worker
from cellular_bench.benchmark.execution.finish import Finished, finish
from cellular_bench.benchmark.execution.job import Job
from cellular_bench.benchmark.execution.machine import current_environment
from cellular_bench.benchmark.isolation.call import Ended, call
from cellular_bench.benchmark.isolation.sandbox import Isolation
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results.progress import mark_running
from cellular_bench.benchmark.results.store import (
    OUTPUTS,
    RUN_LOG,
    RUNNING,
    Store,
    describe_outputs,
)
from cellular_bench.benchmark.schema.records import Cost, Limits, Outcome, RunRecord

LOG_TAIL_CHARS = 4000
_NOT_WRITTEN = "Its outputs could not be written; the log has the reason, such as a full disk."
#: Preparing is the harness's own work; the limits only keep a defect from hanging it.
HARNESS_LIMITS = Limits(time_limit_s=3600, memory_limit_mib=64 * 1024)


def carry_out(run: PlannedRun, store: Store, *, cancelled: threading.Event | None = None) -> RunRecord:
    """Carry out a run whose data and split are prepared; return its record, which is not written yet.

    Raises
    ------
    OSError
        If the run's folder cannot be written: the disk is at fault then, not the method.
    CancelledError
        If ``cancelled`` was set before the end.
    """
    folder = store.clear_run(run.run_id)
    mark_running(folder)
    started_at = datetime.now(UTC)
    job = Job(run=run, store=store)
    try:
        job.open()
        outcome, isolation = _execute(job, cancelled)
    finally:
        notes = job.close()
        (folder / RUNNING).unlink(missing_ok=True)
    outcome = outcome.model_copy(update={"notes": (*outcome.notes, *notes)})
    if outcome.status != "ok":
        check_disk(folder)
        outcome = outcome.model_copy(update={"log_tail": tail(folder / RUN_LOG)})
    return recorded(run, outcome, started_at=started_at, isolation=isolation)


def recorded(
    run: PlannedRun, outcome: Outcome, *, started_at: datetime, isolation: Isolation | None = None
) -> RunRecord:
    """Return the record of a run that ends now, on this machine."""
    here, now = current_environment().model_copy(update={"isolation": isolation}), datetime.now(UTC)
    return RunRecord.of(run, outcome, environment=here, started_at=started_at, finished_at=now)


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_CHARS))
        return file.read().decode("utf-8", errors="replace")


def _execute(job: Job, cancelled: threading.Event | None) -> tuple[Outcome, Isolation]:
    confinement = job.confinement()
    ended = call(
        worker.execute,
        job.assignment(),
        log=job.folder / RUN_LOG,
        limits=job.run.limits,
        then=partial(finish, job),
        confinement=confinement,
        cancelled=cancelled,
    )
    return _outcome(job.folder, ended), confinement.kind


def _outcome(folder: Path, ended: Ended) -> Outcome:
    if ended.status != "ok":
        reason = _NOT_WRITTEN if ended.exit_code == os.EX_IOERR else ended.reason
        return Outcome(status=ended.status, reason=reason, cost=_cost(ended))
    if ended.answer is None:
        reason = f"Scoring failed: {ended.broken_after or 'the log could not be written'}."
        return Outcome(status="failed", reason=reason, cost=_cost(ended))
    finished = Finished.model_validate_json(ended.answer)
    outcome = finished.outcome.model_copy(update={"cost": _cost(ended, finished)})
    if outcome.status != "ok":
        return outcome
    return outcome.model_copy(update={"outputs": describe_outputs(folder / OUTPUTS)})


def check_disk(folder: Path) -> None:
    """Raise OSError if a small file cannot be written: then no run can be carried out."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(2**16))
    finally:
        probe.unlink(missing_ok=True)


def _cost(ended: Ended, finished: Finished | None = None) -> Cost:
    """Return what the supervisor has measured; of GPU memory, the method may know of a larger peak."""
    gpu = [ended.peak_gpu_mib, finished.peak_gpu_mib if finished else None]
    return Cost(
        wall_time_s=ended.wall_time_s,
        cpu_time_s=ended.cpu_time_s,
        peak_rss_mib=ended.peak_rss_mib,
        baseline_rss_mib=ended.baseline_rss_mib,
        peak_gpu_mib=max((used for used in gpu if used is not None), default=None),
        warm_up_s=ended.warm_up_s,
        warm_up_error=finished.warm_up_error if finished else None,
    )
