"""The process between the harness and a run: it watches, measures and ends all that the run starts.

It is forked for every call, adopts every orphan of the run, and outlives all of it: whatever the run does,
the supervisor ends the whole tree when the run has ended, broken a limit, or lost its harness. What it has
measured goes to the harness through a pipe that the run does not have.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from cellular_bench.benchmark.isolation import marks, process_tree
from cellular_bench.benchmark.isolation.bounded_log import BoundedLog
from cellular_bench.benchmark.isolation.confinement import Confinement
from cellular_bench.benchmark.isolation.gpu_memory import GpuMeter
from cellular_bench.benchmark.isolation.marks import Mark, Marks
from cellular_bench.benchmark.isolation.process_tree import MIB, CpuMeter
from cellular_bench.benchmark.isolation.sandbox import Isolation
from cellular_bench.benchmark.schema.records import Limits

POLL_S = 0.05
#: Looking for new children reads all of /proc: it is done less often, and may take this share of a core.
SCAN_S, MAX_SHARE_OF_SCANS = 0.5, 0.02
#: Only keeps a defect of the harness from hanging it.
LONGEST_AFTER_S = 3600
#: How long the end of everything behind walls may take.
HOLDERS_S = 2.0

#: Processes between the supervisor and the method's, which hold up the walls.
_N_HOLDERS: Final[Mapping[Isolation, int]] = {"namespaces": 2}

Breach = tuple[Literal["timeout", "out_of_memory", "failed"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a supervisor is asked for; see :func:`.call`. ``folder`` is empty and its to use.

    ``log`` is only an open file, in the form that multiprocessing passes on: its path may name what a method
    must not know, and a method can read all that its process inherits.
    """

    function: Callable[..., None]
    args: tuple[Any, ...]
    limits: Limits
    log: Connection
    folder: Path
    confinement: Confinement | None


def supervise(harness: Connection, request: Request) -> None:
    """Call a function in a child process, say to the harness how that ended, and do what it asks for then.

    Runs in a separate process. The function finds itself in an empty working directory; what it and its
    children print goes to the log.
    """
    os.setsid()
    cancelled: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: cancelled.append(number))
    process_tree.adopt_orphans()
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()
    kills = process_tree.kernel_kills()
    started = time.monotonic()
    process = multiprocessing.get_context("fork").Process(
        target=_inside, args=(request, writer, theirs, (harness, ours, request.log))
    )
    process.start()
    os.close(writer)
    theirs.close()
    output = BoundedLog(reader, request.log.fileno())
    n_holders = _N_HOLDERS.get(request.confinement.kind, 0) if request.confinement else 0
    watch = _Watch(process, limits=request.limits, started=started, marks=Marks(ours), n_holders=n_holders)
    breach = watch.until_the_end(output, cancelled)
    if breach and n_holders:
        process.terminate()  # what holds up the walls ends all behind them, and counts its time
        process.join(HOLDERS_S)
    process.join(0)  # so that nothing is left to wait for where the run left nothing
    watch.see_marks()
    left = process_tree.end(os.getpid())
    process.join(1)
    watch.stop()
    output.close()
    status, reason = breach or _exit_status(process.exitcode, was_oom=process_tree.kernel_kills() > kills)
    if left:
        reason = f"{reason or ''} {len(left)} of its processes could not be ended.".strip()
    ended = {
        "status": status,
        "reason": reason,
        "exit_code": process.exitcode,
        "peak_gpu_mib": watch.peak_gpu_mib,
        "is_log_lost": output.is_lost,
        **watch.costs(),
    }
    try:
        harness.send_bytes(json.dumps(ended).encode())
    except BrokenPipeError:
        return  # the call was cancelled: nobody waits for how it ended
    if status == "ok" and not output.is_lost:
        _go_on(harness, request.log)


def _go_on(harness: Connection, log: Connection) -> None:
    """Call what the harness sends, in this process: another would have to be forked. Answer with its text."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(LONGEST_AFTER_S)
    process_tree.end_with_parent()  # the server of processes, which ends with the harness
    try:
        then: Callable[[], str | None] = harness.recv()
    except EOFError:
        return  # nothing follows
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    harness.send_bytes((then() or "").encode())


def _inside(
    request: Request, output: int, theirs: socket.socket, not_ours: tuple[Connection | socket.socket, ...]
) -> None:
    """Be the run: in separate folders, and without what belongs to the supervisor."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    process_tree.end_with_parent()
    os.setpgid(0, 0)  # a method that signals its whole group does not reach the supervisor
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    for end in not_ours:
        end.close()
    marks.use(theirs)
    code = 0
    try:
        if request.confinement is not None:
            request.confinement.enter(request.folder / "run")
        else:
            os.chdir(request.folder)
            tempfile.tempdir = os.environ["TMPDIR"] = str(request.folder)
        request.function(*request.args)
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:
        traceback.print_exc()
        code = 1
    _flush()
    os._exit(code)  # without waiting for threads that were left over


def _exit_code(error: SystemExit) -> int:
    """Return the code with which the interpreter would end, and print what it would."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # a function may have closed or replaced it


class _Watch:
    """Looks at a run until it has ended or broken a limit."""

    def __init__(
        self, process: ForkProcess, *, limits: Limits, started: float, marks: Marks, n_holders: int
    ) -> None:
        self.process = process
        self._n_holders = n_holders
        self.limits = limits
        self.started = started
        self.peak_rss = 0
        self.peak_gpu_mib: float | None = None
        self.marks = marks
        #: When each mark came, and the processor time until then: the first of each, but the last end.
        self._seen_marks: dict[Mark, tuple[float, float]] = {}
        self._baseline_rss: int | None = None
        self._stopped: tuple[float, float] | None = None
        self._cpu = CpuMeter()
        self._gpu = GpuMeter()
        self._next_scan = started + SCAN_S
        assert process.pid is not None  # it has been started
        self._seen = [psutil.Process(process.pid)]

    def until_the_end(self, output: BoundedLog, cancelled: list[int]) -> Breach | None:
        """Return the limit that was broken, if any, once the process has ended or must end."""
        harness = multiprocessing.parent_process()
        assert harness is not None  # this is a child
        sources: list[Any] = [output.pipe, harness.sentinel, *_exit_notice(self.process), self.marks.end]
        next_look = time.monotonic() + POLL_S
        while self.process.is_alive():
            ready = multiprocessing.connection.wait(sources, timeout=POLL_S)
            if output.pipe in ready and not output.drain():
                sources.remove(output.pipe)  # the run has closed its output, and goes on
            if self.marks.end in ready:
                end = self.marks.end
                self.see_marks()
                if self.marks.end is None:
                    sources.remove(end)
            if cancelled or harness.sentinel in ready:
                return "failed", "The process that watches the run was ended (SIGTERM), and the run with it."
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + POLL_S
                breach = self._look()
                if breach is not None:
                    return breach
        return None

    def see_marks(self) -> None:
        """Note when the run reached what it says that it has reached."""
        found = self.marks.take()
        if not found:
            return
        now = time.monotonic(), self._cpu.measure()
        for name in found:
            if name == "end" or name not in self._seen_marks:
                self._seen_marks[name] = now
                if name == "begin":  # the peaks of what went before are not the method's
                    self._seen = self._methods_own()
                    self._baseline_rss = self.peak_rss = process_tree.forget_peaks(self._seen)
                    self.peak_gpu_mib = None
        self.marks.answer()

    def _methods_own(self) -> list[psutil.Process]:
        """Return the processes of the run, without those that only hold up its walls."""
        return [found for found in process_tree.descendants(os.getpid()) if found.pid not in self._holders()]

    def _holders(self) -> set[int]:
        """Return the processes between this one and the run, which share their memory with others."""
        pids: set[int] = set()
        below = [self.process.pid or 0]
        for _ in range(self._n_holders):
            if below:
                pids.add(below[0])
                below = process_tree.children(below[0])
        return pids

    def stop(self) -> None:
        """Note that everything has ended."""
        self.marks.close()
        self._stopped = time.monotonic(), self._cpu.measure()

    def costs(self) -> dict[str, float | None]:
        """Return what the run has used since it began; all that its process has used if it did not begin.

        A run cannot make itself look cheaper: its first beginning and its last end count, and without an
        end that of its processes.
        """
        assert self._stopped is not None  # it has ended
        begin = self._seen_marks.get("begin", (self.started, 0.0))
        end = self._seen_marks.get("end", self._stopped)
        warm_up = self._seen_marks.get("warm-up")
        baseline = self._baseline_rss
        return {
            "wall_time_s": end[0] - begin[0],
            "cpu_time_s": end[1] - begin[1],
            "peak_rss_mib": max(self.peak_rss / MIB, process_tree.peak_rss_mib()),
            "baseline_rss_mib": None if baseline is None else baseline / MIB,
            "warm_up_s": None if warm_up is None or baseline is None else begin[0] - warm_up[0],
        }

    def _look(self) -> Breach | None:
        if time.monotonic() >= self._next_scan:
            spent = time.process_time()
            self._cpu.measure()
            self._seen = self._methods_own()
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
