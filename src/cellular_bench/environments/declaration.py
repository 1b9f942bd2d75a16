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
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from cellular_bench.core.errors import UnknownNameError, UserError

_PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[A-Za-z0-9._,-]+\])?==[^\s;*]+(\s*;.*)?(\s+--hash=\S+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonPackages:
    """A Python version such as ``"3.11"``, and packages with exact versions."""

    version: str
    requirements: tuple[str, ...]
    lock: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RPackages:
    """The lowest versions of R and of its packages, and the commands that install them, by system."""

    version: str
    packages: Mapping[str, str]
    install: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
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

    @property
    def digest(self) -> str:
        """sha256 of all that decides what gets installed."""
        facts = {name: asdict(self)[name] for name in ("python", "r", "lock_lines")}
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
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Environment {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"Environment {path} is not TOML: {error}.") from error
    if not re.fullmatch(r"[a-z0-9_-]+", path.stem):
        raise UserError(f"{path.name}: an environment's name has lower-case letters, digits, - and _ only.")
    declared = _declared(table, path, reference=reference)
    _check(declared, path)
    return declared


#: What the entries of each table must be; those that may be missing have a question mark.
_ENTRIES: Mapping[str, Mapping[str, str]] = {
    "": {"title": "a text", "python?": "a table", "r?": "a table"},
    "python": {"version": "a text", "requirements": "a list of texts", "lock?": "a text"},
    "r": {"version": "a text", "packages": "a table of texts", "install?": "a table of texts"},
}
_IS: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "a table": lambda value: isinstance(value, dict),
    "a table of texts": lambda value: (
        isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    ),
}


def _declared(table: Mapping[str, Any], path: Path, *, reference: str) -> Declaration:
    """Return what the tables of a file declare."""
    _check_entries(table, path, "")
    if ("python" in table) == ("r" in table):
        raise UserError(f"Environment {path}: it must have either a table [python] or a table [r].")
    if "r" in table:
        _check_entries(table["r"], path, "r")
        return Declaration(
            name=path.stem, reference=reference, title=table["title"], r=RPackages(**table["r"])
        )
    given = table["python"]
    _check_entries(given, path, "python")
    return Declaration(
        name=path.stem,
        reference=reference,
        title=table["title"],
        python=PythonPackages(**{**given, "requirements": tuple(given["requirements"])}),
        lock_lines=tuple(_lock_lines(path.parent / given["lock"])) if "lock" in given else (),
    )


def _check_entries(table: Mapping[str, Any], path: Path, name: str) -> None:
    """Refuse a table with an entry that is unknown, missing or of another kind."""
    entries = {entry.removesuffix("?"): kind for entry, kind in _ENTRIES[name].items()}
    where = f"Environment {path}: [{name}]" if name else f"Environment {path}:"
    for entry in table.keys() - entries.keys():
        raise UserError(f"{where} has no entry '{entry}'. Known: {', '.join(entries)}.")
    for entry, kind in entries.items():
        if entry in table and not _IS[kind](table[entry]):
            raise UserError(f"{where} '{entry}' must be {kind}; it is {table[entry]!r}.")
        if entry not in table and entry in _ENTRIES[name]:
            raise UserError(f"{where} the entry '{entry}' is missing.")


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
