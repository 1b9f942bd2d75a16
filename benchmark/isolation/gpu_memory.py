"""Memory that processes hold on NVIDIA GPUs, as the driver reports it; nothing where there is no driver."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection

_QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


class GpuMeter:
    """Asks the driver in the background: an answer may take a second, which memory limits cannot wait."""

    def __init__(self) -> None:
        self._command = shutil.which("nvidia-smi")
        self._asked: subprocess.Popen[str] | None = None
        self._latest: dict[int, float] = {}

    def measure(self, pids: Collection[int]) -> float | None:
        """Return the MiB that processes held when the driver last answered; None where there is no GPU."""
        if self._command is None:
            return None
        if self._asked is None:
            self._asked = subprocess.Popen(  # noqa: S603  (the driver's own tool)
                [self._command, *_QUERY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        elif self._asked.poll() is not None:
            assert self._asked.stdout is not None  # asked for above
            self._latest = parse(self._asked.stdout.read())
            self._asked.stdout.close()
            self._asked = None
        return sum(used for pid, used in self._latest.items() if pid in pids)


def parse(text: str) -> dict[int, float]:
    """Return the MiB by process from the driver's answer, a line per process and GPU; some have no number."""
    used: dict[int, float] = {}
    for line in text.splitlines():
        pid, _, size = line.partition(",")
        if pid.strip().isdigit() and size.strip().isdigit():
            used[int(pid)] = used.get(int(pid), 0.0) + float(size)
    return used
