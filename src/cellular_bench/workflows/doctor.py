"""Examine the machine: versions, cores, memory, disk, GPU, sandbox, environments, extras."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from cellular_bench import __version__, environments
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.plan.installed import CONSTRAINTS, DISTRIBUTION, untested
from cellular_bench.workflows.environments import declared_with_methods

#: What an extra of the package adds.
EXTRAS = {
    "cluster": "runs on Dask and Slurm (`run --executor dask|slurm`)",
    "concord": "the method concord",
    "drvi": "the method drvi",
    "parity": "scores computed by scib-metrics (`score --engine scib-metrics`)",
    "parquet": "results as Parquet (`export --format parquet`)",
}
#: Below this, a run of the quickstart may not end: its folder takes about as much.
_LEAST_DISK_GIB, _LEAST_MEMORY_GIB = 1.0, 2.0


_NAMESPACES = (
    "allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
    "kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000 (Red Hat); in Docker, "
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    ``missing`` is optional: ``enables`` says what for. A ``problem`` keeps the program from working.
    """

    topic: str
    status: Literal["ok", "missing", "problem"]
    found: str
    enables: str = ""
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Yield what there is and what is not."""
    yield Finding(topic="cellular-bench", status="ok", found=__version__)
    yield Finding(topic="Python", status="ok", found=f"{platform.python_version()} on {platform.platform()}")
    yield from _packages()
    cores = f"{usable_cores()} of {os.cpu_count()} usable"
    text = f"{cores}; a run computes with one thread, several go side by side"
    yield Finding(topic="cores", status="ok", found=text)
    yield _memory()
    yield from _disks()
    yield _gpu()
    yield _sandbox()
    yield from _environments()
    yield from _extras()


def _packages() -> Iterator[Finding]:
    """Compare what is installed with what this package says it needs."""
    needed = [line for line in requires(DISTRIBUTION) or [] if "extra ==" not in line]
    wrong = list(filter(None, map(_lack, needed)))
    remedy = f"pip install -c {CONSTRAINTS} cellular-bench, in a separate environment" if wrong else ""
    for text in wrong or [f"all {len(needed)} that are needed, in the versions needed"]:
        yield _judged("packages", text, remedy=remedy)
    others = untested()
    text = f"not tested: {', '.join(others)}; {CONSTRAINTS} has tested ones" if others else "all are tested"
    yield Finding(topic="versions", status="ok", found=text)


def _lack(line: str) -> str:
    """Say what is wrong with a required package; empty where nothing is."""
    from packaging.requirements import Requirement

    wanted = Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed; {wanted.specifier or 'any version'} is needed"
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{wanted.name} is {found}; {wanted.specifier} is needed"
    return ""


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    text = f"{free:.1f} of {total:.1f} GiB free; most suites give a run 6 or 8 (`run --memory-limit`)"
    remedy = "end other programs, or run with --jobs 1 on few cells (--subsample)"
    return _judged("memory", text, remedy=remedy if free < _LEAST_MEMORY_GIB else "")


def _disks() -> Iterator[Finding]:
    from cellular_bench.core.files import CACHE_VARIABLE, cache_dir

    variables = {"results": "choose another folder with --out", "temporary files": "set TMPDIR"}
    places = {"results": Path.cwd(), "temporary files": Path(tempfile.gettempdir()), "downloads": cache_dir()}
    for topic, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free / 2**30
        found = f"{place}, {free:.1f} GiB free"
        remedy = variables.get(topic, f"name another folder in {CACHE_VARIABLE}")
        problem = "; too little" if free < _LEAST_DISK_GIB else ""
        if not os.access(there, os.W_OK):
            problem = "; it cannot be written"
        yield _judged(topic, found + problem, remedy=remedy if problem else "")


def _judged(topic: str, found: str, *, remedy: str) -> Finding:
    """Return what was found: a problem if there is a remedy."""
    return Finding(topic=topic, status="problem" if remedy else "ok", found=found, remedy=remedy)


def _gpu() -> Finding:
    faster = [name for name, method in registry.methods().items() if method.spec.gpu]
    enables = f"shorter runs of {', '.join(faster) or 'methods with networks'}; no method needs one"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding(topic="GPU", status="missing", found="no NVIDIA driver", enables=enables)
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)  # noqa: S603 - the driver's tool
    text = "; ".join(done.stdout.strip().splitlines())
    if done.returncode != 0:
        return Finding(topic="GPU", status="missing", found=f"{tool} fails: {text}", enables=enables)
    return Finding(topic="GPU", status="ok", found=text)


def _sandbox() -> Finding:
    """Say what separates a run from the user's files, and why it is not the best."""
    found = sandbox.best()
    if found.kind == "namespaces":
        return Finding(topic="sandbox", status="ok", found=found.description)
    reasons = "; ".join(f"{kind}: {reason}" for kind, reason in found.missing.items())
    return Finding(
        topic="sandbox",
        status="missing",
        found=f"{found.description} ({reasons})",
        enables="runs that see neither other files nor the network",
        remedy=_NAMESPACES if sys.platform == "linux" else "run on Linux",
    )


def _environments() -> Iterator[Finding]:
    for declared, methods in declared_with_methods():
        state = environments.state(declared)
        yield Finding(
            topic=f"environment {declared.name}",
            status="ok" if state.problem is None else "missing",
            found=state.language if state.problem is None else state.problem,
            enables=f"the methods {', '.join(methods)}",
            remedy="" if state.problem is None else state.remedy,
        )


def _extras() -> Iterator[Finding]:
    for extra, enables in EXTRAS.items():
        mark = re.compile(f"extra == [\"']{extra}[\"']")
        lines = filter(mark.search, requires(DISTRIBUTION) or [])
        lacks = [lack for line in lines if (lack := _lack(line.partition(";")[0]))]
        yield Finding(
            topic=f"extra {extra}",
            status="missing" if lacks else "ok",
            found="; ".join(lacks) or "installed",
            enables=enables,
            remedy=f'pip install -c {CONSTRAINTS} "cellular-bench[{extra}]"' if lacks else "",
        )
