"""Whether an environment is there, what is in it, and what to do where it is not."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.files import cache_dir
from cellular_bench.environments.declaration import Declaration, RPackages

#: Written last into a finished environment: without it, a folder is what an interruption left.
MARKER = "cellular-bench-environment.json"
#: What stands instead of its versions where an environment cannot be used.
MISSING = "missing"
#: Environment variable that names the Rscript to use; the first one on the PATH otherwise.
RSCRIPT_VARIABLE = "CELLULAR_BENCH_RSCRIPT"

_R_VERSIONS = """
names <- commandArgs(trailingOnly = TRUE)
version_of <- function(name) tryCatch(as.character(packageVersion(name)), error = function(e) "")
cat(sprintf("R\\t%s\\n", getRversion()))
for (name in names) cat(sprintf("%s\\t%s\\n", name, version_of(name)))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """An environment as it is on this machine.

    Attributes
    ----------
    command
        Beginning of the command that runs a program there.
    language
        Such as ``"Python 3.11.7"``; empty where there is none.
    packages
        Versions by name: all packages of a Python environment, those declared of R.
    problem
        Why it cannot be used; None where it can.
    remedy
        Command that fixes it.
    """

    declaration: Declaration
    command: tuple[str, ...] = ()
    language: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    remedy: str = ""

    @property
    def is_ready(self) -> bool:
        """True where methods can run there."""
        return self.problem is None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the language and all packages, as they go into the identity of a run."""
        if not self.is_ready:
            return {f"environment {self.declaration.name}": MISSING}
        language, _, version = self.language.partition(" ")
        return {language: version, **self.packages}


def state(declaration: Declaration) -> State:
    """Look at this machine."""
    if declaration.r is not None:
        return _r_state(declaration, declaration.r)
    return _python_state(declaration)


def required(declaration: Declaration) -> State:
    """Return the state of an environment that can be used.

    Raises
    ------
    NotApplicableError
        If it cannot; with the command that fixes it.
    """
    found = state(declaration)
    if found.problem is not None:
        raise NotApplicableError(missing_text(found))
    return found


def missing_text(found: State) -> str:
    """Say in a sentence or two what is missing and what to do."""
    name = found.declaration.name
    return f"Needs the environment '{name}': {found.problem}. Fix: {found.remedy}"


def home() -> Path:
    """Folder of the Python environments, within the cache."""
    return cache_dir() / "environments"


def place(declaration: Declaration) -> Path:
    """Where a Python environment is, or will be: a folder for each declaration."""
    return home() / f"{declaration.name}-{declaration.digest[:12]}"


def python_in(folder: Path) -> Path:
    """Return the interpreter of a Python environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _python_state(declaration: Declaration) -> State:
    folder = place(declaration)
    remedy = f"run-benchmark env create {declaration.reference}"
    marker = folder / MARKER
    if not marker.is_file() or not python_in(folder).exists():
        problem = "its creation was not finished" if folder.exists() else "it has not been created"
        return State(declaration=declaration, problem=problem, remedy=remedy)
    facts = json.loads(marker.read_text(encoding="utf-8"))
    return State(
        declaration=declaration,
        command=(str(python_in(folder)),),
        language=f"Python {facts['python']}",
        packages=facts["packages"],
    )


def _r_state(declaration: Declaration, wanted: RPackages) -> State:
    remedy = r_remedy(wanted)
    rscript = os.environ.get(RSCRIPT_VARIABLE) or shutil.which("Rscript")
    if rscript is None:
        return State(declaration=declaration, problem="there is no Rscript on the PATH", remedy=remedy)
    try:
        versions = dict(_r_versions(rscript, tuple(sorted(wanted.packages))))
    except (OSError, subprocess.CalledProcessError) as error:
        return State(declaration=declaration, problem=f"{rscript} does not run: {error}", remedy=remedy)
    r = versions.pop("R")
    problems = [_lack(name, versions[name], lowest) for name, lowest in wanted.packages.items()]
    lacks = [lack for lack in (_lack("R", r, wanted.version), *problems) if lack]
    return State(
        declaration=declaration,
        command=(rscript, "--no-init-file"),
        language=f"R {r}",
        packages=versions,
        problem="; ".join(lacks) or None,
        remedy=remedy,
    )


@functools.cache
def _r_versions(rscript: str, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Ask R once for its version and those of packages, "" for one that is not installed."""
    command = [rscript, "--no-init-file", "-e", _R_VERSIONS, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # the user's R
    pairs = (line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    return tuple((name, version) for name, version in pairs)


def _lack(name: str, version: str, lowest: str) -> str:
    if not version:
        return f"the R package {name} is not installed"
    if _numbers(version) < _numbers(lowest):
        return f"{name} is {version}, at least {lowest} is needed"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.replace("-", ".").split("."))


def r_remedy(wanted: RPackages) -> str:
    """Return the commands that install what an R environment needs; this program never runs them."""
    if wanted.install:
        return "; ".join(f"{command}  ({system})" for system, command in wanted.install.items())
    return f"install R >= {wanted.version} with the packages " + ", ".join(
        f"{name} >= {lowest}" for name, lowest in wanted.packages.items()
    )
