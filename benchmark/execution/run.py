"""One run from its beginning to its record: the method in one process, its scores in another."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.execution import scoring, worker
from cellular_bench.benchmark.execution.machine import current_environment
from cellular_bench.benchmark.execution.worker import Job
from cellular_bench.benchmark.isolation.call import Ended, call
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results.progress import mark_running
from cellular_bench.benchmark.results.store import (
    ARTIFACTS,
    OUTPUTS,
    RECORD,
    RESULT,
    RUN_LOG,
    RUNNING,
    SCORED,
    Store,
    describe_outputs,
)
from cellular_bench.benchmark.schema.records import Cost, Limits, Outcome, RunRecord

LOG_TAIL_CHARS = 4000
#: Preparing is the harness's own work; the limits only keep a defect from hanging it.
HARNESS_LIMITS = Limits(time_limit_s=3600, memory_limit_mib=64 * 1024)

_NO_RESULT = "The method ended its process (exit code 0) before it returned anything. It must not exit."


def carry_out(run: PlannedRun, store: Store, *, cancelled: threading.Event | None = None) -> RunRecord:
    """Carry out a run whose data and split are prepared; return its record, which is not written yet.

    Raises
    ------
    OSError
        If the run's folder cannot be written: the disk is at fault then, not the method.
    CancelledError
        If ``cancelled`` was set before the end.
    """
    folder = store.run_folder(run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        # An old record stays until the new one replaces it; half-written files of an earlier try go.
        if old.name not in (ARTIFACTS, RECORD):
            old.unlink()
    mark_running(folder)
    started_at = datetime.now(UTC)
    try:
        outcome = _execute(Job(run=run, store=store), cancelled)
    finally:
        (folder / RUNNING).unlink(missing_ok=True)
    if outcome.status != "ok":
        outcome = outcome.model_copy(update={"log_tail": tail(folder / RUN_LOG)})
    return recorded(run, outcome, started_at=started_at)


def recorded(run: PlannedRun, outcome: Outcome, *, started_at: datetime) -> RunRecord:
    """Return the record of a run that ends now, on this machine."""
    here, now = current_environment(), datetime.now(UTC)
    return RunRecord.of(run, outcome, environment=here, started_at=started_at, finished_at=now)


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_CHARS))
        return file.read().decode("utf-8", errors="replace")


def _execute(job: Job, cancelled: threading.Event | None) -> Outcome:
    ended = call(
        worker.execute,
        job,
        log=job.folder / RUN_LOG,
        limits=job.run.limits,
        then=partial(scoring.execute_after, job),
        cancelled=cancelled,
    )
    if ended.exit_code == os.EX_IOERR or ended.is_log_lost:
        _check_disk(job.folder)
    result = _result(job.folder / RESULT)
    cost = _cost(ended, result.get("cost", {}))
    return _outcome(job.folder, ended, result).model_copy(update={"cost": cost})


def _outcome(folder: Path, ended: Ended, result: Mapping[str, Any]) -> Outcome:
    if ended.status != "ok":
        return Outcome(status=ended.status, reason=ended.reason)
    if "status" not in result:
        return Outcome(status="failed", reason=_NO_RESULT)
    if result["status"] != "ok":
        return Outcome(status=result["status"], reason=result["reason"])
    if ended.broken_after is not None:
        return Outcome(status="failed", reason=f"Scoring failed: {ended.broken_after}.")
    scored = Outcome.model_validate_json((folder / SCORED).read_bytes())
    (folder / SCORED).unlink()
    if scored.status != "ok":
        return scored
    return scored.model_copy(update={"outputs": describe_outputs(folder / OUTPUTS)})


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


def _cost(ended: Ended, measured: Mapping[str, Any]) -> Cost:
    """Prefer what the worker measured; a run that was ended has only what was seen from outside."""
    gpu = [used for used in (measured.get("peak_gpu_mib"), ended.peak_gpu_mib) if used is not None]
    return Cost(
        wall_time_s=measured.get("wall_time_s", ended.wall_time_s),
        cpu_time_s=measured.get("cpu_time_s", ended.cpu_time_s),
        peak_rss_mib=max(measured.get("peak_rss_mib", 0.0), ended.peak_rss_mib),
        baseline_rss_mib=measured.get("baseline_rss_mib"),
        peak_gpu_mib=max(gpu, default=None),
        warm_up_s=measured.get("warm_up_s"),
        warm_up_error=measured.get("warm_up_error"),
    )
