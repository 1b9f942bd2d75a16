"""Call a function in a separate process, within limits of time and memory.

Processes are forked from a server that has imported the common libraries once, so a call costs
milliseconds, not the seconds of a fresh interpreter, and still shares no state with any other.
"""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from cellular_bench.benchmark.isolation import process_tree, scratch
from cellular_bench.benchmark.isolation.confinement import Confinement
from cellular_bench.benchmark.isolation.supervisor import LONGEST_AFTER_S, Request, supervise
from cellular_bench.benchmark.schema.records import Limits
from cellular_bench.core.errors import UserError

#: Every compute library uses one thread; parallel work is done by parallel runs.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")}
_STARTING = threading.Lock()
#: How often a waiting caller looks whether it was cancelled, and how long a supervisor may take to end all.
LOOK_S, ENDING_S = 0.2, 20.0
#: How much later than the time limit a supervisor may say how a run ended; it may have been stopped.
GRACE_S = 8.0
LONGEST_SOCKET_FOLDER = 70
PRELOADED = ["cellular_bench.benchmark.execution.preload"]


class CancelledError(Exception):
    """The caller asked to stop; the process tree has been ended."""


@validated(frozen=True, slots=True, kw_only=True, config=ConfigDict(allow_inf_nan=False, extra="forbid"))
class Ended:
    """How a call ended.

    Attributes
    ----------
    status
        ``"ok"``: the function returned. ``"failed"``: it raised, or its process died.
    wall_time_s, cpu_time_s
        Time since the function's mark ``"begin"`` until its last mark ``"end"``, where it sets these, and
        processor time of the process tree in between; None where that is not known.
    peak_rss_mib
        Largest resident memory of the process tree that was seen; shared pages count once.
    baseline_rss_mib
        Resident memory at the mark ``"begin"``.
    peak_gpu_mib
        Largest GPU memory of the process tree that was seen; None where there is no GPU.
    warm_up_s
        Time between the marks ``"warm-up"`` and ``"begin"``.
    is_log_lost
        Whether the log could not be written.
    answer
        What the call that followed returned; None if it was not carried out to its end.
    broken_after
        How the supervisor ended in that case.
    """

    status: Literal["ok", "failed", "timeout", "out_of_memory"]
    reason: str | None
    wall_time_s: float
    exit_code: int | None
    cpu_time_s: float | None = None
    peak_rss_mib: float = 0.0
    baseline_rss_mib: float | None = None
    peak_gpu_mib: float | None = None
    warm_up_s: float | None = None
    is_log_lost: bool = False
    answer: str | None = None
    broken_after: str | None = None


_ENDED = TypeAdapter(Ended)


def call(
    function: Callable[..., None],
    *args: Any,
    limits: Limits,
    log: Path,
    then: Callable[[], str | None] | None = None,
    confinement: Confinement | None = None,
    cancelled: threading.Event | None = None,
) -> Ended:
    """Run a function in its own session and working directory, and wait for the end of all it started.

    Parameters
    ----------
    function
        Importable function. It hands results over through files; what it prints goes to ``log``,
        of which the beginning and the end are kept (:mod:`cellular_bench.benchmark.isolation.bounded_log`).
        Marks (:func:`.marks.mark`) show where it is.
    then
        Trusted and importable; called in the supervisor after a function that returned has gone with all
        that it started. It counts for no limit and no cost but an hour's time.
    confinement
        What the function may use; None for what belongs to the harness, which may use everything.
    cancelled
        Set from another thread to end the call early.

    Raises
    ------
    CancelledError
        If ``cancelled`` was set before the function ended.
    OSError
        If the log cannot be opened.
    """
    with scratch.folder() as folder:
        started = time.monotonic()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with Connection(file, readable=False) as output:
            request = Request(
                function=function,
                args=args,
                limits=limits,
                log=output,
                folder=folder,
                confinement=confinement,
            )
            process, supervisor = _start(request)
        try:
            talk = _Talk(process, supervisor, cancelled)
            message = talk.wait(started + limits.time_limit_s + GRACE_S)
            ended = _ended(message, process, time.monotonic() - started, limits)
            if then is None or ended.status != "ok" or ended.is_log_lost:
                return ended
            answer = talk.ask(then)
            process.join(LOOK_S)
            how = _how(process) if answer is None else None
            return replace(ended, answer=answer, broken_after=how)
        finally:
            supervisor.close()
            _end(process)


def _start(request: Request) -> tuple[ForkServerProcess, Connection]:
    """Start a supervisor; return it with the pipe that it answers through."""
    context = _context()
    ours, theirs = multiprocessing.Pipe()
    try:
        process = context.Process(target=supervise, args=(theirs, request))
        with _STARTING, _without_main(), _somewhere(), _without_arguments():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


class _Talk:
    """What is said to a supervisor and what it answers; nothing is waited for without an end."""

    def __init__(
        self, process: ForkServerProcess, supervisor: Connection, cancelled: threading.Event | None
    ) -> None:
        self._process = process
        self._supervisor = supervisor
        self._cancelled = cancelled

    def wait(self, deadline: float) -> bytes | None:
        """Return the next message; None if the supervisor ends, or is not done in time."""
        while not self._supervisor.poll(0):
            if self._cancelled is not None and self._cancelled.is_set():
                raise CancelledError
            if time.monotonic() > deadline:
                return None
            multiprocessing.connection.wait([self._supervisor, self._process.sentinel], timeout=LOOK_S)
            if not self._process.is_alive() and not self._supervisor.poll(0):
                return None
        try:
            return self._supervisor.recv_bytes()
        except (EOFError, OSError):
            return None

    def ask(self, then: Callable[[], str | None]) -> str | None:
        """Let the supervisor call a function; return the text that it returns."""
        try:
            self._supervisor.send(then)
        except OSError:
            return None  # it is gone
        message = self.wait(time.monotonic() + LONGEST_AFTER_S)
        return None if message is None else message.decode()


def _end(process: ForkServerProcess) -> None:
    """Let the supervisor end its run; where it cannot, end both from here."""
    process.join(LOOK_S)
    if process.is_alive():
        process.terminate()
        process.join(ENDING_S)
    assert process.pid is not None  # it has been started
    if process.is_alive() or process.exitcode != 0:
        process_tree.end(process.pid)
        process.kill()
        process.join()


def _ended(message: bytes | None, process: ForkServerProcess, wall_time_s: float, limits: Limits) -> Ended:
    """Return how a call ended, as its supervisor says; or say that this did not do its work."""
    if message is None:
        process.join(1)  # its pipe may end before itself
    if message is None and process.is_alive():
        process_tree.end(process.pid or 0)
        process.kill()
        return Ended(
            status="timeout",
            reason=f"Not ended after the time limit of {limits.time_limit_s:g} s by the process that watches "
            "it, which does not answer.",
            wall_time_s=wall_time_s,
            exit_code=None,
        )
    try:
        return _ENDED.validate_json(message or b"")
    except ValidationError:
        process.join(LOOK_S)
        return Ended(
            status="failed",
            reason=f"The process that watches the run was ended ({_how(process)}), and the run with it.",
            wall_time_s=wall_time_s,
            exit_code=None,
        )


def _how(process: ForkServerProcess) -> str:
    """Say how a supervisor ended. It may be wrong: if two threads look after children, one gets 255."""
    code = process.exitcode
    if code is None:
        return "it does not answer"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _context() -> ForkServerContext:
    """Return the context of a running fork server, which inherited the one-thread environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with _STARTING, _without_main(), _somewhere():
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


def command_line() -> tuple[str, ...]:
    """Return the words of the command line, also while another thread starts a process."""
    with _STARTING:
        return tuple(sys.argv)


@contextmanager
def _without_arguments() -> Iterator[None]:
    """Keep multiprocessing from sending the command line along, which may name labels that are held out."""
    words, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = words


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


@contextmanager
def _somewhere() -> Iterator[None]:
    """Be elsewhere where the current folder has been deleted: multiprocessing names it to every process."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        gone = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(gone)
            os.close(gone)
    else:
        yield
