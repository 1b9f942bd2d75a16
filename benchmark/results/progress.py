"""How far a benchmark is: what ended how, what runs, how long the rest may take."""

from __future__ import annotations

import os
import socket
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from pydantic import Field

from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.index import RunName, RunSummary
from cellular_bench.benchmark.results.store import (
    MOST_MARK_BYTES,
    MOST_PLAN_BYTES,
    PLAN,
    RUNNING,
    Damaged,
    Store,
)
from cellular_bench.benchmark.schema.record_files import NewerVersionError, read_model
from cellular_bench.benchmark.schema.records import Model, Moment, Status
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically


class PlanFile(Model):
    """What the last benchmark of a folder set out to do, how many runs at a time; leak canaries apart."""

    n_jobs: int = Field(ge=1)
    runs: tuple[RunName, ...]
    canaries: tuple[RunName, ...] = ()


class Running(Model):
    """Where a run goes on, and since when."""

    host: str
    pid: int
    started_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The state of a result folder.

    Attributes
    ----------
    n_planned
        Runs that the last benchmark asked for.
    statuses
        How many of them ended how.
    failures
        How often runs ended badly for which reason.
    running
        Runs in flight.
    interrupted
        Runs that had begun when their benchmark was ended; they are done again.
    damaged
        Records that cannot be read; their runs are done again.
    n_other
        Records of earlier requests.
    n_canaries, n_canaries_done
        Runs of leak canaries that were asked for, and those with a record; no other number counts them.
    seconds_left
        Estimate from how long runs of the same method took; None where none has ended yet.
    """

    n_planned: int
    statuses: Mapping[Status, int]
    failures: Mapping[tuple[Status, str], int]
    running: Mapping[str, Running]
    interrupted: tuple[str, ...]
    damaged: tuple[Damaged, ...]
    n_other: int
    seconds_left: float | None
    is_active: bool
    n_canaries: int = 0
    n_canaries_done: int = 0

    @property
    def n_waiting(self) -> int:
        """Runs that have neither a record nor a process."""
        return self.n_planned - sum(self.statuses.values()) - len(self.running)


def write_plan(
    store: Store, runs: Iterable[PlannedRun], *, n_jobs: int, canaries: Iterable[PlannedRun] = ()
) -> None:
    """Write down what is going to be run."""
    names, apart = (tuple(map(RunName.model_validate, group)) for group in (runs, canaries))
    plan = PlanFile(n_jobs=n_jobs, runs=names, canaries=apart)
    write_text_atomically(store.root / PLAN, plan.model_dump_json(indent=1) + "\n")


def mark_running(folder: Path) -> None:
    """Say in a run's folder that it runs in this process now."""
    running = Running(host=socket.gethostname(), pid=os.getpid(), started_at=datetime.now(UTC))
    write_text_atomically(folder / RUNNING, running.model_dump_json())


def overview(store: Store) -> Overview:
    """Look through a result folder.

    Raises
    ------
    UserError
        If it does not say what was asked for.
    """
    plan = _read_plan(store)
    found, damaged = index.read(store)
    records = {record.run_id: record for record in found if not record.is_canary}
    tested = {record.run_id for record in found if record.is_canary}
    planned = {run.run_id for run in plan.runs}
    done = [record for run_id, record in records.items() if run_id in planned]
    begun = {run_id: begun for run_id in planned - records.keys() if (begun := _begun(store, run_id))}
    is_active = store.is_locked
    running = begun if is_active else {}
    bad = [record for record in done if record.status != "ok"]
    return Overview(
        n_planned=len(planned),
        statuses=Counter(record.status for record in done),
        failures=Counter((record.status, record.reason or "") for record in bad),
        running=running,
        interrupted=() if is_active else tuple(sorted(begun)),
        damaged=tuple(damaged),
        n_other=len(records) - len(done),
        seconds_left=_seconds_left(plan, done, running),
        is_active=is_active,
        n_canaries=len(plan.canaries),
        n_canaries_done=sum(run.run_id in tested for run in plan.canaries),
    )


def _read_plan(store: Store) -> PlanFile:
    path = store.root / PLAN
    try:
        return read_model(path, PlanFile, what="plan", most_bytes=MOST_PLAN_BYTES)
    except NewerVersionError:
        raise
    except UserError as error:
        raise UserError(
            f"{path} is missing or damaged, so it is not known what was asked for; "
            "the next `run-benchmark run` into this folder writes it."
        ) from error


def _begun(store: Store, run_id: str) -> Running | None:
    try:
        path = store.run_file(run_id, RUNNING)
        return read_model(path, Running, what="mark", most_bytes=MOST_MARK_BYTES)
    except NewerVersionError:
        raise
    except UserError:
        return None  # not begun, ended this moment, or its mark is half written


def _seconds_left(plan: PlanFile, done: Sequence[RunSummary], running: Mapping[str, Running]) -> float | None:
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in done:
        took[record.task, record.method_id].append(record.seconds)
    if not took:
        return None
    usual = fmean(seconds for found in took.values() for seconds in found)
    ended = {record.run_id for record in done}
    now = datetime.now(UTC)
    total = 0.0
    for run in (run for run in plan.runs if run.run_id not in ended):
        begun = running.get(run.run_id)
        passed = (now - begun.started_at).total_seconds() if begun else 0.0
        total += max(0.0, fmean(took.get((run.task, run.method_id), [usual])) - passed)
    return total / plan.n_jobs
