"""State of an environment on this machine: whether it can be used, its packages, and how to repair it."""

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
from cellular_bench.core.installation import parts_of
from cellular_bench.environments.declaration import Declaration, RPackages

#: File that is written last; a folder without it is an incomplete environment.
MARKER = "cellular-bench-environment.json"
#: What stands instead of its versions if an environment cannot be used.
MISSING = "missing"
#: Environment variable with the path of Rscript; by default the first one on the PATH is used.
RSCRIPT_VARIABLE = "CELLULAR_BENCH_RSCRIPT"

_R_VERSIONS = """
cat(sprintf("library\\t%s\\n", .libPaths()), sep = "")
cat(sprintf("home\\t%s\\n", c(R.home(), R.home("share"), R.home("include"), R.home("doc"))), sep = "")
names <- commandArgs(trailingOnly = TRUE)
version_of <- function(name) tryCatch(as.character(packageVersion(name)), error = function(e) "")
cat(sprintf("R\\t%s\\n", getRversion()))
for (name in names) cat(sprintf("%s\\t%s\\n", name, version_of(name)))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """State of an environment on this machine.

    Attributes
    ----------
    declaration
        Declaration of the environment.
    command
        First part of the command that runs a program in the environment.
    language
        Language and version, such as ``"Python 3.11.7"``; empty if there is none.
    packages
        Versions by name: of all packages in a Python environment, of the declared packages in R.
    problem
        Reason why the environment cannot be used; None if it can.
    remedy
        Command that fixes the problem.
    folders
        Files and folders of the interpreter and the packages, by all names that lead to them.
    variables
        Environment variables under which the interpreter finds them whatever the home folder is.
    """

    declaration: Declaration
    command: tuple[str, ...] = ()
    language: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    remedy: str = ""
    folders: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """True if methods can run in the environment."""
        return self.problem is None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the language and of all packages, which are part of the identity of a run."""
        if not self.is_ready:
            return {f"environment {self.declaration.name}": MISSING}
        language, _, version = self.language.partition(" ")
        return {language: version, **self.packages}


def state(declaration: Declaration) -> State:
    """Return the state of an environment on this machine."""
    if declaration.r is not None:
        return _r_state(declaration, declaration.r)
    return _python_state(declaration)


def required(declaration: Declaration) -> State:
    """Return the state of an environment, or raise if it cannot be used.

    Raises
    ------
    NotApplicableError
        If it cannot be used; the message names the command that fixes it.
    """
    current = state(declaration)
    if current.problem is not None:
        raise NotApplicableError(missing_text(current))
    return current


def missing_text(current: State) -> str:
    """Return a message with the problem of an environment and its remedy."""
    name = current.declaration.name
    return f"Needs the environment '{name}': {current.problem}. Fix: {current.remedy}"


def home() -> Path:
    """Return the folder of all Python environments, inside the cache folder."""
    return cache_dir() / "environments"


def place(declaration: Declaration) -> Path:
    """Return the folder of a Python environment, whether it exists or not; each declaration has its own."""
    return home() / f"{declaration.name}-{declaration.digest[:12]}"


def python_in(folder: Path) -> Path:
    """Return the path of the interpreter of a Python environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _python_state(declaration: Declaration) -> State:
    folder = place(declaration)
    remedy = f"run-benchmark env create {declaration.reference}"
    marker = folder / MARKER
    if not marker.is_file() or not python_in(folder).exists():
        problem = "its creation was not finished" if folder.exists() else "it has not been created"
        return State(declaration=declaration, problem=problem, remedy=remedy)
    try:
        facts = json.loads(marker.read_text(encoding="utf-8"))
        language, packages = f"Python {facts['python']}", dict(facts["packages"])
    except (OSError, ValueError, KeyError, TypeError):
        return State(declaration=declaration, problem=f"{marker} cannot be read", remedy=remedy)
    python = python_in(folder)
    return State(
        declaration=declaration,
        command=(str(python),),
        language=language,
        packages=packages,
        # The interpreter of a venv is a link to that of an installation, often by way of other links.
        folders=(folder, python, *parts_of(python.resolve().parent.parent)),
    )


def _r_state(declaration: Declaration, wanted: RPackages) -> State:
    remedy = r_remedy(wanted)
    rscript = os.environ.get(RSCRIPT_VARIABLE) or shutil.which("Rscript")
    if rscript is None:
        return State(declaration=declaration, problem="there is no Rscript on the PATH", remedy=remedy)
    try:
        found = _r_versions(rscript, tuple(sorted(wanted.packages)))
    except (OSError, subprocess.CalledProcessError) as error:
        return State(declaration=declaration, problem=f"{rscript} does not run: {error}", remedy=remedy)
    libraries = tuple(path for name, path in found if name == "library")
    homes = tuple(path for name, path in found if name == "home")
    versions = {name: version for name, version in found if name not in ("library", "home")}
    minimum = {"R": wanted.version, **wanted.packages}
    problems = [_problem(name, versions[name], least) for name, least in minimum.items()]
    r = versions.pop("R")
    return State(
        declaration=declaration,
        command=(rscript, "--no-init-file"),
        language=f"R {r}",
        packages=versions,
        problem="; ".join(filter(None, problems)) or None,
        remedy=remedy,
        folders=(
            Path(rscript).absolute(),
            *parts_of(Path(rscript).resolve().parent.parent),
            *(path for path in map(Path, (*homes, *libraries)) if path.is_dir()),
            # Such as those of renv, which lead to its cache.
            *(path for library in libraries for path in Path(library).glob("*") if path.is_symlink()),
        ),
        variables={"R_LIBS": os.pathsep.join(libraries)},
    )


@functools.cache
def _r_versions(rscript: str, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return folders of packages, and versions of R and of packages; empty for what is not installed."""
    command = [rscript, "--no-init-file", "-e", _R_VERSIONS, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # the user's R
    pairs = (line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    return tuple((name, version) for name, version in pairs)


def _problem(name: str, version: str, least: str) -> str:
    if not version:
        return f"the R package {name} is not installed"
    if _numbers(version) < _numbers(least):
        return f"{name} is {version}, at least {least} is needed"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.replace("-", ".").split("."))


def r_remedy(wanted: RPackages) -> str:
    """Return the commands that install the packages of an R environment; they are never run automatically."""
    if wanted.install:
        return "; ".join(f"{command}  ({system})" for system, command in wanted.install.items())
    return f"install R >= {wanted.version} with the packages " + ", ".join(
        f"{name} >= {least}" for name, least in wanted.packages.items()
    )
