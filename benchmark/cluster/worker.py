"""The part of a run that happens on a worker of a cluster.

A worker that sees the result folder and may write there works in it. Any other gets the data and splits
of its runs sent, works in its own folder, and sends back what is to be kept.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.execution.run import carry_out as carry_out_here
from cellular_bench.benchmark.isolation import scratch
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results.store import RECORD, Store
from cellular_bench.core.errors import BenchError

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
    store = Store(_own_root(os.getpid()))
    for name, content in inputs.items():
        place(store.root / name, content)
    placed = {}
    for number, (name, content) in enumerate(plugins.items()):
        placed[name] = store.root / "plugins" / str(number) / Path(name).name
        place(placed[name], content)
    files = {
        kind: tuple(placed[str(path)] for path in getattr(run, kind))
        for kind in ("plugins", "metric_plugins")
    }
    record = _carried_out(run.model_copy(update=files), store, cancelled)
    folder = store.run_folder(run.run_id)
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != RECORD]
    sent = {str(path.relative_to(folder)): path.read_bytes() for path in kept}
    shutil.rmtree(folder)
    return {**sent, RECORD: record}


@functools.cache
def _own_root(pid: int) -> Path:
    del pid  # a forked process has another folder
    root = scratch.home() / "results"
    (root / "runs").mkdir(parents=True)
    return root


def place(path: Path, content: bytes) -> None:
    """Write a file unless it is there; names of inputs hold digests, and of plug-ins only the last counts."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    temporary.write_bytes(content)
    temporary.replace(path)


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
