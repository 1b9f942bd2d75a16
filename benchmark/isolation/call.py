"""Call a function in a separate process, within limits of time and memory.

Processes are forked from a server that has imported the common libraries once, so a call costs
milliseconds, not the seconds of a fresh interpreter, and still shares no state with any other.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from cellular_bench.benchmark.isolation import process_tree, scratch
from cellular_bench.benchmark.isolation.supervisor import DONE, END, supervise
from cellular_bench.benchmark.schema.records import Limits
from cellular_bench.core.errors import UserError

#: Every compute library uses one thread; parallel work is done by parallel runs.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")}
_STARTING = threading.Lock()
#: How often a waiting caller looks whether it was cancelled, and how long a supervisor may take to end all.
LOOK_S, ENDING_S = 0.2, 20.0
LONGEST_SOCKET_FOLDER = 70
PRELOADED = ["cellular_bench.benchmark.execution.preload"]


class CancelledError(Exception):
    """The caller asked to stop; the process tree has been ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended.

    Attributes
    ----------
    status
        ``"ok"``: the function returned. ``"failed"``: it raised, or its process died.
    cpu_time_s
        Processor time of the process tree; None where that is not known.
    peak_rss_mib
        Largest resident memory of the process tree that was seen; shared pages count once.
    peak_gpu_mib
        Largest GPU memory of the process tree that was seen; None where there is no GPU.
    is_log_lost
        Whether the log could not be written.
    broken_after
        How the supervisor ended, where it did not carry out to its end what was to follow the call.
    """

    status: Literal["ok", "failed", "timeout", "out_of_memory"]
    reason: str | None
    wall_time_s: float
    exit_code: int | None
    cpu_time_s: float | None = None
    peak_rss_mib: float = 0.0
    peak_gpu_mib: float | None = None
    is_log_lost: bool = False
    broken_after: str | None = None


def call(
    function: Callable[..., None],
    *args: Any,
    limits: Limits,
    log: Path,
    then: Callable[[], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Ended:
    """Run a function in its own session and working directory, and wait for the end of all it started.

    Parameters
    ----------
    function
        Importable function. It hands results over through files; what it prints goes to ``log``,
        of which the beginning and the end are kept (:mod:`cellular_bench.benchmark.isolation.bounded_log`).
    then
        Trusted and importable; called in the supervisor after a function that returned has gone with all
        that it started. It counts for no limit and no cost but an hour's time.
    cancelled
        Set from another thread to end the call early.

    Raises
    ------
    CancelledError
        If ``cancelled`` was set before the function ended.
    """
    with scratch.folder() as folder:
        process = _context().Process(target=supervise, args=(function, args, limits, log, folder, then))
        started = time.monotonic()
        with _STARTING, _without_main():
            process.start()
        try:
            while process.is_alive():
                process.join(LOOK_S)
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError
        finally:
            _end(process)
        return _ended(process, folder, wall_time_s=time.monotonic() - started)


def _end(process: ForkServerProcess) -> None:
    """Let the supervisor end its run; where it cannot, end both from here."""
    if process.is_alive():
        process.terminate()
        process.join(ENDING_S)
    assert process.pid is not None  # it has been started
    if process.is_alive() or process.exitcode != 0:
        process_tree.end(process.pid)
        process.kill()
        process.join()


def _ended(process: ForkServerProcess, folder: Path, *, wall_time_s: float) -> Ended:
    """Return how a call ended; the exit code of its supervisor only explains why one did not do its work.

    It may be wrong: if two threads look after children at once, one of them gets 255.
    """
    code = process.exitcode
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    if (folder / END).exists():
        fields = json.loads((folder / END).read_text(encoding="utf-8"))
        return Ended(**fields, broken_after=None if (folder / DONE).exists() else how)
    return Ended(
        status="failed",
        reason=f"The process that watches the run was ended ({how}), and the run with it.",
        wall_time_s=wall_time_s,
        exit_code=None,
    )


def _context() -> ForkServerContext:
    """Return the context of a running fork server, which inherited the one-thread environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with _STARTING, _without_main():
        before = {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
        folder, tempfile.tempdir = tempfile.tempdir, _socket_folder(str(scratch.home()))
        os.environ.update(ONE_THREAD)
        try:
            forkserver.ensure_running()  # makes the folder of its sockets once: where we remove it
        finally:  # the environment of the caller is not ours to change
            tempfile.tempdir = folder
            for name in ONE_THREAD:
                del os.environ[name]
            os.environ.update(before)
    return context


@functools.cache
def _socket_folder(home: str) -> str:
    """Return a name for the folder of the server's socket that is short enough for one.

    It is the home, which the next harness removes, should this one be killed. The name of a socket holds
    about a hundred bytes; a longer folder is open in this process, and so has a short name as well (Linux).
    """
    if len(os.fsencode(home)) <= LONGEST_SOCKET_FOLDER:
        return home
    if not Path("/proc/self/fd").is_dir():
        raise UserError(f"TMPDIR is too long for the name of a socket: {home}. Set it to a shorter folder.")
    return f"/proc/self/fd/{os.open(home, os.O_RDONLY | os.O_DIRECTORY)}"


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from running the caller's script in every process: functions are imported."""
    main = vars(sys.modules["__main__"])
    # A notebook and ``python -c`` have no file, and must not get the file None: others read it as a path.
    kept: dict[str, Any] = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)
