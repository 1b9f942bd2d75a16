"""A sandbox for the process in which a method runs: it sees only what it needs, and no network.

A run is forked from a warm server, so the walls are put up inside the running process (Linux only). There
are two kinds, by :mod:`~cellular_bench.benchmark.isolation.sandbox.namespaces` and by
:mod:`~cellular_bench.benchmark.isolation.sandbox.landlock`, and none (``"process"``). Paths keep their
places. Open descriptors are kept, except those of folders: an open file stays open to the method.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cellular_bench.benchmark.isolation.sandbox import kernel, landlock, namespaces
from cellular_bench.benchmark.isolation.sandbox.places import Walls, installation, visible

__all__ = ["Found", "Isolation", "Walls", "best", "enter"]

Isolation = Literal["namespaces", "landlock", "process"]
_TRIAL_S = 20.0
_TRIAL = f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import trial; trial(sys.argv[2:])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The isolation that works on this machine.

    Attributes
    ----------
    kind
        The best kind that works.
    description
        What it gives, in a line.
    missing
        Kind -> reason why it does not work here.
    """

    kind: Isolation
    description: str
    missing: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def best() -> Found:
    """Return the best kind of isolation that works here, found by trying each in a process made for it."""
    if sys.platform != "linux":
        missing = dict.fromkeys(("namespaces", "landlock"), "only Linux has it")
    else:
        missing = _tried()
    if "namespaces" not in missing:
        text = "separate file system, processes, network and IPC (namespaces)"
        return Found(kind="namespaces", description=text, missing=missing)
    if "landlock" not in missing:
        version = landlock.abi()
        text = f"files and network limited by Landlock (ABI {version}); open: {landlock.gaps(version)}"
        return Found(kind="landlock", description=text, missing=missing)
    text = "a separate process only, with the user's files and network"
    return Found(kind="process", description=text, missing=missing)


def enter(kind: Isolation, walls: Walls) -> None:
    """Put this process behind walls, for good.

    With ``"namespaces"``, the caller goes on in a new process with another process id, in a group of its
    own; the process that called waits for it and ends as it does. With ``"process"``, nothing happens.

    Parameters
    ----------
    kind
        A kind that works here, see :func:`best`.
    walls
        Paths of this run. They must exist.

    Raises
    ------
    OSError
        If the walls cannot be put up. The process may be in an unusable state then, and should end.
    """
    if kind == "process":
        return
    kernel.require_one_thread()
    found = visible(walls)
    kernel.close_folders()
    kernel.leave_keyring()
    (namespaces if kind == "namespaces" else landlock).enter(found)


def trial(readable: list[str]) -> None:
    """Try each kind in a forked process, and print as JSON why some do not work: the program of a trial."""
    missing = {}
    for kind in ("namespaces", "landlock"):
        reader, writer = os.pipe()
        with tempfile.NamedTemporaryFile() as outside:
            child = os.fork()
            if child == 0:
                os.write(writer, _try(kind, tuple(map(Path, readable)), Path(outside.name)).encode())
                os._exit(0)
            os.close(writer)
            with os.fdopen(reader) as report:
                reason = report.read()
            if os.waitpid(child, 0)[1] or reason:
                missing[kind] = reason or "the trial ended without a reason"
    print(json.dumps(missing))


def _try(kind: Isolation, readable: tuple[Path, ...], outside: Path) -> str:
    """Return why a kind of isolation does not work for this process; empty if it does."""
    try:
        enter(kind, Walls(readable=readable, hidden=(outside,)))
        Path("/dev/null").write_bytes(Path(os.__file__).read_bytes())
    except OSError as error:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    try:
        outside.read_bytes()
    except OSError:
        return ""
    return "files outside can still be read"


def _tried() -> dict[str, str]:
    """Return kind -> reason for those that do not work; a separate program, as this one may have threads."""
    root = str(Path(sys.modules["cellular_bench"].__path__[0]).parent)
    command = [sys.executable, "-I", "-S", "-c", _TRIAL, root, *map(str, installation())]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter
            command, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=_TRIAL_S, check=False
        )
        return dict(json.loads(done.stdout))
    except json.JSONDecodeError:
        reason = done.stderr.strip().rpartition("\n")[2]
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"{type(error).__name__}: {error.args[0]}"
    return dict.fromkeys(("namespaces", "landlock"), f"the trial failed: {reason}")
