"""A process with all its descendants: what they use, and their end."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MIB = 2.0**20
#: Linux, prctl: signal to this process when its parent ends; adopt descendants whose parent ends.
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that each can be found (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """Ask the system to kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


def below(pid: int) -> list[psutil.Process]:
    """Return the descendants of a process, those included that have ended and were not waited for."""
    try:
        return list({child.pid: child for child in psutil.Process(pid).children(recursive=True)}.values())
    except psutil.NoSuchProcess:
        return []


def children(pid: int) -> list[int]:
    """Return the children of a process, the oldest first."""
    try:
        found = psutil.Process(pid).children()
        return [child.pid for child in sorted(found, key=lambda child: child.create_time())]
    except _GONE:
        return []


def descendants(pid: int) -> list[psutil.Process]:
    """Return the living descendants of a process."""
    return [process for process in below(pid) if not _is_zombie(process)]


def session(pid: int) -> list[psutil.Process]:
    """Return the living members of the session that a process leads, itself left out."""
    found = []
    for other in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if other != pid and os.getsid(other) == pid:
                found.append(psutil.Process(other))
    return [process for process in found if not _is_zombie(process)]


def end(pid: int, *, timeout_s: float = 10.0) -> list[psutil.Process]:
    """Kill everything below a process, and what is left of its session; return what would not end.

    Children may be born between a look and the kill, so it looks until nothing is left.
    """
    deadline = time.monotonic() + timeout_s
    while not _has_nothing_below(pid):
        left = [*descendants(pid), *session(pid)]
        if not left or time.monotonic() > deadline:
            return left
        for process in left:
            with suppress(*_GONE):
                process.kill()
        if pid == os.getpid():
            _reap([process.pid for process in left])
        else:
            psutil.wait_procs(left, timeout=0.2)
    return []


def _has_nothing_below(pid: int) -> bool:
    """Whether this process adopts orphans and has no child: the quick answer for nearly every run (Linux)."""
    if pid != os.getpid() or sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def memory(processes: Sequence[psutil.Process], *, at_least: int = 0) -> int:
    """Return the resident memory of some processes in bytes.

    Pages that processes share count once, but looking at pages takes time. So where the sum that counts
    them several times does not come to ``at_least``, that sum is returned.
    """
    sizes = [size for process in processes if (size := _rss(process))]
    if len(sizes) < 2 or sum(sizes) <= at_least:
        return sum(sizes)
    return sum(_pss(process) for process in processes)


class CpuMeter:
    """Processor time of everything that runs or has run below this process.

    A process reports its time until it has been waited for, and then its parent does. What nobody waits for
    is lost to the system, as of children under an ignored SIGCHLD; so the last time that was seen of each
    process counts, too. The larger of both sums is returned: neither can be more than was used.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}
        self._most_s = 0.0

    def measure(self) -> float:
        """Return the time in seconds; never less than before."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        reported = usage.ru_utime + usage.ru_stime
        for process in below(os.getpid()):  # those that have ended and wait to be waited for, too
            with suppress(*_GONE):
                times = process.cpu_times()
                own = times.user + times.system
                reported += own + _waited_for(process)
                self._seen[process.pid, process.create_time()] = own
        self._most_s = max(self._most_s, reported, sum(self._seen.values()))
        return self._most_s


def peak_rss_mib() -> float:
    """Return the largest resident memory of one process that this process has waited for."""
    unit = 1024.0 if sys.platform == "darwin" else 1.0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit / 1024.0


def forget_peaks(processes: Iterable[psutil.Process]) -> int:
    """Let the peak of memory of each process begin now (Linux); return the memory of the largest in bytes."""
    largest = 0
    for process in processes:
        largest = max(largest, _rss(process))
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return largest


def kernel_kills() -> int:
    """Return how often the kernel of this machine has killed a process because memory ran out (Linux)."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _waited_for(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0))


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except _GONE:
        return 0


def _pss(process: psutil.Process) -> int:
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return _rss(process)
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else _rss(process)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except _GONE:
        return True


def _reap(pids: Iterable[int]) -> None:
    """Wait a moment for children and adopted ones, so that their time is counted."""
    for pid in pids:
        for _ in range(20):
            try:
                if os.waitpid(pid, os.WNOHANG) != (0, 0):
                    break
            except ChildProcessError:
                break  # not a child of this process, or waited for already
            time.sleep(0.01)
