"""Call a function in a process of its own, within limits of time and memory.

Processes are forked from a server that has imported the common libraries once, so a call costs
milliseconds, not the seconds of a fresh interpreter, and still shares no state with any other.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import psutil

from cellular_bench.benchmark.records import Limits

#: Every compute library uses one thread; parallel work is done by parallel runs.
ONE_THREAD = dict.fromkeys(
    [
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ],
    "1",
)
_STARTING = threading.Lock()
POLL_S = 0.05
#: Looking for new children reads all of /proc, so it is done at every tenth look only.
LOOKS_PER_SCAN = 10
PRELOADED = ["cellular_bench.benchmark.preload"]
MIB = 2.0**20

#: Linux: ask for a signal when the parent dies (prctl option 1).
_PR_SET_PDEATHSIG = 1


class CancelledError(Exception):
    """The caller asked to stop; the process tree has been ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended.

    Attributes
    ----------
    status
        ``"ok"``: the function returned. ``"failed"``: it raised, or its process died.
    peak_rss_mib
        Largest resident memory of the process tree that was seen.
    """

    status: Literal["ok", "failed", "timeout", "out_of_memory"]
    reason: str | None
    wall_time_s: float
    peak_rss_mib: float
    exit_code: int | None


def call(
    function: Callable[..., None],
    *args: Any,
    limits: Limits,
    log: Path,
    cancelled: threading.Event | None = None,
) -> Outcome:
    """Run a function in its own process group and working directory, and wait for its end.

    Parameters
    ----------
    function
        Importable function. It hands results over through files; what it prints goes to ``log``.
    cancelled
        Set from another thread to end the call early.

    Raises
    ------
    CancelledError
        If ``cancelled`` was set before the function ended.
    """
    with tempfile.TemporaryDirectory(prefix="cellular-bench-", ignore_cleanup_errors=True) as cwd:
        process = _context().Process(target=_child, args=(function, args, str(log), cwd))
        started = time.monotonic()
        _start(process)
        tree = _ProcessTree(_pid(process))
        try:
            breach = _watch(process, tree, limits=limits, started=started, cancelled=cancelled)
        finally:
            tree.end()
            process.join()
        wall = time.monotonic() - started
    status, reason = breach or _exit_status(process.exitcode)
    return Outcome(
        status=status,
        reason=reason,
        wall_time_s=wall,
        peak_rss_mib=tree.peak_rss / MIB,
        exit_code=process.exitcode,
    )


def _context() -> ForkServerContext:
    """Return the context of a running fork server, which inherited the one-thread environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with _STARTING:
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            forkserver.ensure_running()
        finally:  # the environment of the caller is not ours to change
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    return context


def _start(process: ForkServerProcess) -> None:
    """Start a process that no other thread looks after.

    Whoever starts a process through multiprocessing first reads the exit code of every other that has
    ended. Two threads that read one code at the same time see it once; the other is told 255. So the
    process is taken out of the list that they go through.
    """
    with _STARTING:
        process.start()
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


def _pid(process: ForkServerProcess) -> int:
    assert process.pid is not None  # it has been started
    return process.pid


def _child(function: Callable[..., None], args: tuple[Any, ...], log: str, cwd: str) -> None:
    """Set the process apart from the harness, then call the function."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    _end_with_the_harness()
    os.chdir(cwd)
    tempfile.tempdir = os.environ["TMPDIR"] = cwd
    function(*args)


def _end_with_the_harness() -> None:
    """End this process and its children when the harness is killed: nobody would watch their limits then.

    The fork server, whose child this is, lives on as long as one of its children does.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child
    sentinel = parent.sentinel

    def wait_and_kill() -> None:
        multiprocessing.connection.wait([sentinel])
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait_and_kill, daemon=True).start()


def _watch(
    process: ForkServerProcess,
    tree: _ProcessTree,
    *,
    limits: Limits,
    started: float,
    cancelled: threading.Event | None,
) -> tuple[Literal["timeout", "out_of_memory"], str] | None:
    """Wait for the end of the process; return the limit that it broke, if any."""
    while process.is_alive():
        process.join(POLL_S)
        rss = tree.measure() / MIB
        if cancelled is not None and cancelled.is_set():
            raise CancelledError
        if rss > limits.memory_limit_mib:
            used = f"used {rss:.0f} MiB, the limit is {limits.memory_limit_mib:.0f} MiB"
            return "out_of_memory", f"The process tree {used}."
        if process.is_alive() and time.monotonic() - started > limits.time_limit_s:
            return "timeout", f"Still running after the time limit of {limits.time_limit_s:g} s."
    return None


def _exit_status(code: int | None) -> tuple[Literal["ok", "failed"], str | None]:
    if code == 0:
        return "ok", None
    if code is not None and code < 0:
        return "failed", f"The process was ended by signal {signal.Signals(-code).name}."
    return "failed", f"The process ended with exit code {code}."


class _ProcessTree:
    """A process with all its descendants, also those whose parent has gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_rss = 0
        self._looks = 0
        self._seen: dict[int, psutil.Process] = {}
        self._remember(pid)

    def measure(self) -> int:
        """Return the resident memory of the tree in bytes."""
        if self._looks % LOOKS_PER_SCAN == 0:
            self._remember_children()
        self._looks += 1
        rss = sum(_rss(process) for process in self._seen.values())
        self.peak_rss = max(self.peak_rss, rss)
        return rss

    def end(self) -> None:
        """Kill every process of the tree that is still there."""
        self._remember_session()
        for process in self._seen.values():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(self._seen.values(), timeout=5)

    def _remember_children(self) -> None:
        root = self._seen.get(self.pid)
        try:
            for child in root.children(recursive=True) if root else ():
                self._seen.setdefault(child.pid, child)
        except psutil.NoSuchProcess:
            return  # ended since the last look; what it left behind is still in _seen

    def _remember(self, pid: int) -> None:
        try:
            self._seen[pid] = psutil.Process(pid)
        except psutil.NoSuchProcess:
            return  # so short-lived that there is nothing left to watch

    def _remember_session(self) -> None:
        """Find orphans: a run leads a session of its own, which its children stay in."""
        for pid in psutil.pids():
            try:
                if pid not in self._seen and os.getsid(pid) == self.pid:
                    self._remember(pid)
            except (ProcessLookupError, PermissionError):
                continue


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
