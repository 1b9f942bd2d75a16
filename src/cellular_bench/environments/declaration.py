"""What an environment of a method's own consists of: read from a TOML file, checked, identified.

::

    title = "LIGER by pyliger 0.2.4"

    [python]
    version = "3.11"
    requirements = ["pyliger==0.2.4", "numpy==2.4.6", "h5py==3.16.0"]
    lock = "liger.lock"             # optional: every package, so that nothing is left to resolve

or, for R, the packages that must be installed, each with its lowest version::

    title = "Seurat 4"

    [r]
    version = "4.0"
    packages = { Seurat = "4.3.0", rhdf5 = "2.38.0" }
    install = { "Debian, Ubuntu" = "sudo apt-get install r-base-core r-cran-seurat r-bioc-rhdf5" }
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.toml import explain, read_toml

_PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[A-Za-z0-9._,-]+\])?==[^\s;*]+(\s*;.*)?(\s+--hash=\S+)*")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PythonPackages(_Table):
    """A Python version such as ``"3.11"``, and packages with exact versions."""

    version: str
    requirements: tuple[str, ...]
    lock: str | None = None


class RPackages(_Table):
    """The lowest versions of R and of its packages, and the commands that install them, by system."""

    version: str
    packages: dict[str, str]
    install: dict[str, str] = {}


class Declaration(_Table):
    """An environment as it is wanted; whether there is one says :func:`~.status.state`.

    Attributes
    ----------
    name
        Stem of the file.
    reference
        What the command line takes for it: the name of one that ships, else the path of its file.
    lock_lines
        Contents of the lock file, one package a line.
    """

    name: str
    reference: str
    title: str
    python: PythonPackages | None = None
    r: RPackages | None = None
    lock_lines: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_language(self) -> Declaration:
        if (self.python is None) == (self.r is None):
            raise ValueError("it must have either a table [python] or a table [r]")
        return self

    @property
    def digest(self) -> str:
        """sha256 of all that decides what gets installed."""
        facts = self.model_dump(mode="json", include={"python", "r", "lock_lines"})
        if self.r is not None:
            del facts["r"]["install"]  # how it got there does not matter
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def shipped() -> dict[str, Path]:
    """Return the files of the declarations that ship, by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.toml"))}


def find(reference: str) -> Declaration:
    """Read the declaration that a name or a path (ending in ``.toml``) stands for.

    Raises
    ------
    UserError
        If there is none, or it is not what a declaration must be.
    """
    if reference.endswith(".toml"):
        return _read(Path(reference).resolve(), reference=str(Path(reference).resolve()))
    known = shipped()
    if reference not in known:
        raise UnknownNameError("environment", reference, known)
    return _read(known[reference], reference=reference)


def program_file(program: str) -> Path:
    """Return the file of a program: one that ships, by its name, or any other by its path."""
    path = Path(program)
    return path if path.is_absolute() else _folder() / program


def _folder() -> Path:
    return Path(str(files("cellular_bench.methods") / "environments"))


def _read(path: Path, *, reference: str) -> Declaration:
    table = read_toml(path, what="Environment")
    if not re.fullmatch(r"[a-z0-9_-]+", path.stem):
        raise UserError(f"{path.name}: an environment's name has lower-case letters, digits, - and _ only.")
    python = table.get("python", {})
    lock = python.get("lock") if isinstance(python, dict) else None
    lines = tuple(_lock_lines(path.parent / lock)) if isinstance(lock, str) else ()
    try:
        declared = Declaration.model_validate(
            {"name": path.stem, "reference": reference, "lock_lines": lines, **table}
        )
    except ValidationError as error:
        raise UserError(f"Environment {path}: {explain(error)}") from error
    _check(declared, path)
    return declared


def _lock_lines(path: Path) -> Iterator[str]:
    """Yield the packages of a lock file: continued lines joined, comments left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Lock file {path} cannot be read: {error.strerror}.") from error
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        bare = line.split(" #")[0].strip()
        if bare and not bare.startswith("#"):
            yield bare


def _check(declared: Declaration, path: Path) -> None:
    if declared.python is None:
        return
    for line in (*declared.python.requirements, *declared.lock_lines):
        if not _PINNED.fullmatch(line):
            raise UserError(
                f"Environment {path}: '{line}' leaves open what is installed; write NAME==VERSION."
            )
    if not re.fullmatch(r"3\.\d+", declared.python.version):
        raise UserError(
            f"Environment {path}: python.version is '{declared.python.version}'; it must be of the form 3.11."
        )
