"""The part of a run that happens on a worker of a cluster.

A worker that sees the result folder and may write there works in it. Any other gets the data and splits
of each run sent, works in a folder that goes with the run, and sends back what is to be kept.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.execution.run import carry_out as carry_out_here
from cellular_bench.benchmark.isolation import scratch
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results.merge import MOST_ARTIFACT_BYTES, MOST_ARTIFACTS
from cellular_bench.benchmark.results.store import ARTIFACTS, OUTPUTS, RECORD, RUN_LOG, Store
from cellular_bench.core.errors import BenchError
from cellular_bench.core.files import is_file_name

#: Dask topic on which workers say that they have begun a run.
TOPIC = "cellular-bench-runs"
#: How often a worker looks whether its run is still wanted.
LOOK_S = 1.0


class NotSharedError(BenchError):
    """The worker does not see the result folder, or may not write there."""


class WorkerDiskError(BenchError):
    """The worker's own disk is full or cannot be written."""


def carry_out(
    run: PlannedRun, root: Path, token: str, inputs: Mapping[str, bytes] | None, plugins: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Carry out a run in a worker's thread; return what is to be kept, by path below the run's folder.

    The record is in it; where the worker shares the result folder, nothing else.

    Parameters
    ----------
    root
        The result folder; ``token`` is the name of a file in it that proves that it is the same.
    inputs
        Files below ``root`` that the run reads, where the worker does not see that folder.
    plugins
        Content of the plug-in files by their path, which then are sent too.

    Raises
    ------
    NotSharedError
        If there are no inputs, and the worker does not share the folder.
    """
    from distributed import get_worker

    worker = get_worker()
    where = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
    if inputs is None and not shares(root, token):
        raise NotSharedError(f"{root} cannot be written on {where['host']}.")
    worker.log_event(TOPIC, {"run_id": run.run_id, **where})
    # A worker under a Dask nanny is a kind of process that may not start others, unless it is configured so.
    multiprocessing.current_process().daemon = False
    with _while_wanted(worker, worker.get_current_task()) as cancelled:
        if inputs is None:
            return {RECORD: _carried_out(run, Store(root), cancelled)}
        try:
            return _apart(run, inputs, plugins, cancelled)
        except OSError as error:
            raise WorkerDiskError(f"{where['host']} cannot write its temporary files: {error}") from error


def shares(root: Path, token: str) -> bool:
    """Whether this machine sees the harness's result folder and may write there."""
    return (root / token).exists() and os.access(root / "runs", os.W_OK | os.X_OK)


def _carried_out(run: PlannedRun, store: Store, cancelled: threading.Event) -> bytes:
    return carry_out_here(run, store, cancelled=cancelled).model_dump_json().encode()


def _apart(
    run: PlannedRun, inputs: Mapping[str, bytes], plugins: Mapping[str, bytes], cancelled: threading.Event
) -> dict[str, bytes]:
    with scratch.folder() as root:
        store = Store(root)
        for name, content in inputs.items():
            _place(root / name, content)
        placed = {}
        for number, (name, content) in enumerate(plugins.items()):
            placed[name] = root / "plugins" / str(number) / Path(name).name
            _place(placed[name], content)
        files = {
            kind: tuple(placed[str(path)] for path in getattr(run, kind))
            for kind in ("plugins", "metric_plugins")
        }
        record = _carried_out(run.model_copy(update=files), store, cancelled)
        folder = store.run_folder(run.run_id)
        kept = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {**{path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}, RECORD: record}


def _place(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def checked(answer: object, run_id: str) -> dict[str, bytes]:
    """Return the files that a worker sent back: a record, outputs, the log and artifacts of one run.

    Raises
    ------
    BenchError
        If it is anything else, or more than a run may leave.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get(RECORD), bytes):
        raise BenchError(f"A worker sent no record of {run_id}.")
    artifacts = 0
    for name, content in answer.items():
        folder, *rest = str(name).split("/")
        is_kept = name in (RECORD, OUTPUTS, RUN_LOG) or (
            folder == ARTIFACTS and rest and all(map(is_file_name, rest))
        )
        if not isinstance(name, str) or not is_kept or not isinstance(content, bytes):
            raise BenchError(f"A worker sent {str(name)[:60]!a} among the files of {run_id}.")
        artifacts += len(content) if rest else 0
    if len(answer) > MOST_ARTIFACTS + 3 or artifacts > MOST_ARTIFACT_BYTES:
        raise BenchError(f"A worker sent more files of {run_id} than a run may leave.")
    return dict(answer)


@contextmanager
def _while_wanted(worker: Any, key: object) -> Iterator[threading.Event]:
    """Yield an event that is set when the scheduler wants the run no longer, or the harness is gone."""
    cancelled, ended = threading.Event(), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                cancelled.set()
                return

    threading.Thread(target=look, daemon=True).start()
    try:
        yield cancelled
    finally:
        ended.set()
