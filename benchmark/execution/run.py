"""One run from its beginning to its record: the method in one process, its scores in another."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.execution import scoring, worker
from cellular_bench.benchmark.execution.machine import current_environment
from cellular_bench.benchmark.isolation import call as isolation
from cellular_bench.benchmark.plan.run import Run
from cellular_bench.benchmark.results.progress import RUNNING, mark_running
from cellular_bench.benchmark.results.store import (
    ARTIFACTS,
    CELLS,
    OUTPUTS,
    RECORD,
    RUN_LOG,
    Store,
    describe_outputs,
)
from cellular_bench.benchmark.schema.records import Cost, Limits, OutputFile, RunRecord, Status

LOG_TAIL_CHARS = 4000
#: Preparing is the harness's own work; the limits only keep a defect from hanging it.
HARNESS_LIMITS = Limits(time_limit_s=3600, memory_limit_mib=64 * 1024)

_NO_RESULT = "The method ended its process (exit code 0) before it returned anything. It must not exit."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    status: Status
    reason: str | None
    cost: Cost | None
    scored: scoring.Scored = field(default_factory=scoring.Scored)
    outputs: OutputFile | None = None


def carry_out(run: Run, store: Store, *, cancelled: threading.Event | None = None) -> RunRecord:
    """Carry out a run whose data and split are prepared; return its record, which is not written yet.

    Raises
    ------
    OSError
        If the run's folder cannot be written: the disk is at fault then, not the method.
    isolation.CancelledError
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
        ended = _execute(run, store, folder, cancelled)
    finally:
        (folder / RUNNING).unlink(missing_ok=True)
    log_tail = "" if ended.status == "ok" else tail(folder / RUN_LOG)
    return _record(run, ended, started_at=started_at, log_tail=log_tail)


def unfinished(
    run: Run, *, status: Status, reason: str, started_at: datetime, log_tail: str = ""
) -> RunRecord:
    """Return the record of a run of which nothing came back."""
    ended = _Ended(status=status, reason=reason, cost=None)
    return _record(run, ended, started_at=started_at, log_tail=log_tail)


def _record(run: Run, ended: _Ended, *, started_at: datetime, log_tail: str) -> RunRecord:
    return RunRecord(
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
        warnings=run.warnings,
        scores=ended.scored.scores,
        per_label=ended.scored.per_label,
        confusion=ended.scored.confusion,
        evaluation=ended.scored.evaluation,
        outputs=ended.outputs,
        cost=ended.cost,
        environment=current_environment(),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        log_tail=log_tail,
    )


def call(
    function: Callable[..., None],
    *args: Any,
    log: Path,
    cancelled: threading.Event | None = None,
) -> isolation.Outcome:
    """Call a function of the harness's own in a process of its own."""
    return isolation.call(function, *args, limits=HARNESS_LIMITS, log=log, cancelled=cancelled)


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_CHARS))
        return file.read().decode("utf-8", errors="replace")


def _execute(run: Run, store: Store, folder: Path, cancelled: threading.Event | None) -> _Ended:
    job = worker.Job(
        run=run,
        data=store.data_file(run.dataset),
        cells=store.split_folder(run.dataset, run.split) / CELLS,
        folder=folder,
    )
    scores = _scoring_job(run, store, folder)
    then = partial(scoring.execute_after, folder / worker.RESULT, scores)
    outcome = isolation.call(
        worker.execute, job, log=folder / RUN_LOG, limits=run.limits, then=then, cancelled=cancelled
    )
    if outcome.exit_code == os.EX_IOERR or outcome.is_log_lost:
        _check_disk(folder)
    result = _result(folder / worker.RESULT)
    cost = _cost(outcome, result.get("cost", {}))
    if outcome.status != "ok":
        return _Ended(status=outcome.status, reason=outcome.reason, cost=cost)
    if "status" not in result:
        return _Ended(status="failed", reason=_NO_RESULT, cost=cost)
    if result["status"] != "ok":
        return _Ended(status=result["status"], reason=result["reason"], cost=cost)
    if outcome.broken_after is not None:
        return _Ended(status="failed", reason=f"Scoring failed: {outcome.broken_after}.", cost=cost)
    return _scored(scores, cost)


def _scoring_job(run: Run, store: Store, folder: Path) -> scoring.ScoringJob:
    return scoring.ScoringJob(
        task=run.task,
        method_id=run.method.method_id,
        is_control=run.method.is_control,
        outputs=folder / OUTPUTS,
        data=store.data_file(run.dataset),
        truth_folder=store.split_folder(run.dataset, run.split),
        result=folder / scoring.SCORED,
        study_metrics=run.study_metrics,
        profile=run.profile,
        plugins=run.plugins,
    )


def _scored(job: scoring.ScoringJob, cost: Cost) -> _Ended:
    scored = scoring.read_scored(job.result)
    job.result.unlink()
    if scored.contract_broken is not None:
        return _Ended(status="failed", reason=scored.contract_broken, cost=cost)
    outputs = describe_outputs(job.outputs)
    return _Ended(status="ok", reason=None, cost=cost, scored=scored, outputs=outputs)


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
    gpu = [used for used in (measured.get("peak_gpu_mib"), outcome.peak_gpu_mib) if used is not None]
    return Cost(
        wall_time_s=measured.get("wall_time_s", outcome.wall_time_s),
        cpu_time_s=measured.get("cpu_time_s", outcome.cpu_time_s),
        peak_rss_mib=max(measured.get("peak_rss_mib", 0.0), outcome.peak_rss_mib),
        baseline_rss_mib=measured.get("baseline_rss_mib"),
        peak_gpu_mib=max(gpu, default=None),
    )
