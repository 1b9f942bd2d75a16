"""The machine that runs are carried out on: cores, processor, packages, commit of this project."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

from cellular_bench.benchmark.isolation.call import command_line
from cellular_bench.benchmark.plan.installed import DISTRIBUTION, version_of
from cellular_bench.benchmark.schema.records import Environment


def usable_cores() -> int:
    """Return how many cores this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def current_environment() -> Environment:
    """Describe this machine, the installed packages that results depend on, and the command line."""
    return _installed().model_copy(update={"command_line": command_line()})


@functools.cache
def _installed() -> Environment:
    commit, dirty = _git_state()
    lines = [line for line in requires(DISTRIBUTION) or [] if "extra ==" not in line]  # no test tools
    needed = sorted(re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in lines)
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=_cpu_name(),
        n_cpus=os.cpu_count() or 1,
        n_threads=1,
        packages={name: version_of(name) for name in [DISTRIBUTION, *needed]},
        git_commit=commit,
        git_dirty=dirty,
    )


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _git_state() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag where this package runs from its own checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        return _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, None  # no git on this machine: the commit is unknown, and recorded as such


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()
