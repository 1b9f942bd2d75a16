"""The process between the harness and a run: it watches, ends and accounts for all that the run starts.

It is forked for every call, adopts every orphan of the run, and outlives all of it: whatever the run does,
the supervisor ends the whole tree when the run has ended, broken a limit, or lost its harness.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Literal

import psutil

from cellular_bench.benchmark.isolation import process_tree
from cellular_bench.benchmark.isolation.bounded_log import BoundedLog
from cellular_bench.benchmark.isolation.gpu_memory import GpuMeter
from cellular_bench.benchmark.isolation.process_tree import MIB
from cellular_bench.benchmark.schema.records import Limits

POLL_S = 0.05
#: Looking for new children reads all of /proc: it is done less often, and may take this share of a core.
SCAN_S, MAX_SHARE_OF_SCANS = 0.5, 0.02
END, DONE, CWD, FORGET = "end.json", "done", "cwd", "forget"
#: Only keeps a defect of the harness from hanging it.
LONGEST_AFTER_S = 3600

#: File by which the run inside this process asks its supervisor to forget peaks; None outside a run.
_forget_file: Path | None = None

Breach = tuple[Literal["timeout", "out_of_memory", "cancelled"], str]


def supervise(
    function: Callable[..., None],
    args: tuple[Any, ...],
    limits: Limits,
    log: Path,
    folder: Path,
    then: Callable[[], None] | None,
) -> None:
    """Call a function in a child process, write to ``folder`` how that ended, and go on with ``then``.

    The file ``done`` says that both were carried out to their end.

    Runs in a separate process. The function finds itself in an empty working directory; what it and its
    children print goes to ``log``.
    """
    os.setsid()
    cancelled: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: cancelled.append(number))
    process_tree.adopt_orphans()
    (folder / CWD).mkdir()
    reader, writer = os.pipe()
    kills = process_tree.kernel_kills()
    started = time.monotonic()
    process = multiprocessing.get_context("fork").Process(
        target=_inside, args=(function, args, writer, folder)
    )
    process.start()
    os.close(writer)
    output = BoundedLog(reader, log)
    watch = _Watch(process, limits=limits, started=started, forget=folder / FORGET)
    breach = watch.until_the_end(output, cancelled)
    watch.forget_peaks()
    process.join(0)  # so that nothing is left to wait for where the run left nothing
    left = process_tree.end(os.getpid())
    process.join(1)
    wall = time.monotonic() - started
    output.close()
    status, reason = breach or _exit_status(process.exitcode, was_oom=process_tree.kernel_kills() > kills)
    if left:
        reason = f"{reason or ''} {len(left)} of its processes could not be ended.".strip()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = {
        "status": status,
        "reason": reason,
        "exit_code": process.exitcode,
        "wall_time_s": wall,
        "cpu_time_s": usage.ru_utime + usage.ru_stime,
        "peak_rss_mib": max(watch.peak_rss / MIB, process_tree.peak_rss_mib()),
        "peak_gpu_mib": watch.peak_gpu_mib,
        "is_log_lost": output.is_lost,
    }
    (folder / END).write_text(json.dumps(ended), encoding="utf-8")
    if then is not None and status == "ok" and not output.is_lost:
        _go_on(then, log)
    (folder / DONE).touch()


def _go_on(then: Callable[[], None], log: Path) -> None:
    """Call a function of the harness's own, in this process: another would have to be forked."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(LONGEST_AFTER_S)
    process_tree.end_with_parent()  # the server of processes, which ends with the harness
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    then()


def forget_peaks() -> None:
    """Let the peaks of memory that the supervisor of this process reports begin now; limits hold on."""
    if _forget_file is not None:
        _forget_file.touch()


def _inside(function: Callable[..., None], args: tuple[Any, ...], output: int, folder: Path) -> None:
    global _forget_file  # this process is one run
    _forget_file, cwd = folder / FORGET, folder / CWD
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    process_tree.end_with_parent()
    os.setpgid(0, 0)  # a method that signals its whole group does not reach the supervisor
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(cwd)
    tempfile.tempdir = os.environ["TMPDIR"] = str(cwd)
    function(*args)


class _Watch:
    """Looks at a run until it has ended or broken a limit."""

    def __init__(self, process: ForkProcess, *, limits: Limits, started: float, forget: Path) -> None:
        self.process = process
        self.limits = limits
        self.started = started
        self.peak_rss = 0
        self.peak_gpu_mib: float | None = None
        self._forget = forget
        self._gpu = GpuMeter()
        self._next_scan = started + SCAN_S
        assert process.pid is not None  # it has been started
        self._seen = [psutil.Process(process.pid)]

    def until_the_end(self, output: BoundedLog, cancelled: list[int]) -> Breach | None:
        """Return the limit that was broken, if any, once the process has ended or must end."""
        harness = multiprocessing.parent_process()
        assert harness is not None  # this is a child
        sources: list[Any] = [output.pipe, harness.sentinel, *_exit_notice(self.process)]
        next_look = time.monotonic() + POLL_S
        while self.process.is_alive():
            ready = multiprocessing.connection.wait(sources, timeout=POLL_S)
            if output.pipe in ready and not output.drain():
                sources.remove(output.pipe)  # the run has closed its output, and goes on
            if cancelled or harness.sentinel in ready:
                return "cancelled", "Ended by the harness."
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + POLL_S
                breach = self._look()
                if breach is not None:
                    return breach
        return None

    def forget_peaks(self) -> None:
        """Let peaks begin now, if the run has asked for it since the last call."""
        if self._forget.exists():
            self._forget.unlink()
            self.peak_rss, self.peak_gpu_mib = 0, None

    def _look(self) -> Breach | None:
        self.forget_peaks()
        if time.monotonic() >= self._next_scan:
            spent = time.process_time()
            self._seen = process_tree.descendants(os.getpid())
            spent = time.process_time() - spent
            self._next_scan = time.monotonic() + max(SCAN_S, spent / MAX_SHARE_OF_SCANS)
            gpu = self._gpu.measure({process.pid for process in self._seen})
            self.peak_gpu_mib = gpu if gpu is None else max(gpu, self.peak_gpu_mib or 0.0)
        rss = process_tree.memory(self._seen, at_least=self.peak_rss)
        self.peak_rss = max(self.peak_rss, rss)
        limits = self.limits
        if rss / MIB > limits.memory_limit_mib:
            used = f"used {rss / MIB:.0f} MiB, the limit is {limits.memory_limit_mib:.0f} MiB"
            return "out_of_memory", f"The process tree {used}."
        gpu, allowed = self.peak_gpu_mib, limits.gpu_memory_limit_mib
        if gpu is not None and allowed is not None and gpu > allowed:
            return "out_of_memory", f"Used {gpu:.0f} MiB of GPU memory, the limit is {allowed:.0f} MiB."
        if time.monotonic() - self.started > limits.time_limit_s:
            return "timeout", f"Still running after the time limit of {limits.time_limit_s:g} s."
        return None


def _exit_notice(process: ForkProcess) -> list[int]:
    """Return a descriptor that becomes readable when the process ends, where the system has such."""
    assert process.pid is not None  # it has been started
    try:
        return [os.pidfd_open(process.pid)]
    except (AttributeError, OSError):
        return []  # its end is then noticed at the next look


def _exit_status(code: int | None, *, was_oom: bool) -> tuple[str, str | None]:
    if code == 0:
        return "ok", None
    if code == -signal.SIGKILL and was_oom:
        return "out_of_memory", "The kernel killed the process because memory ran out."
    if code is not None and code < 0:
        return "failed", f"The process was ended by signal {signal.Signals(-code).name}."
    return "failed", f"The process ended with exit code {code}."
