"""Declarations of environments: read from TOML files, checked, and identified by a digest.

A Python environment declares its packages::

    title = "LIGER by pyliger 0.2.4"

    [python]
    version = "3.11"
    requirements = ["pyliger==0.2.4", "numpy==2.4.6", "h5py==3.16.0"]
    lock = "liger.lock"             # optional: all packages, so that there is nothing to resolve

An R environment declares the packages that must be installed, with minimum versions::

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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.files import is_plain_name, read_regular
from cellular_bench.core.requirements import exact_name
from cellular_bench.core.toml import explain, read_toml

_HASHES = re.compile(r"([ \t]+--hash=sha(256|384|512):[0-9a-f]+)*$")
_R_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]*")
_R_VERSION = re.compile(r"\d+([.-]\d+)*")
#: Largest lock file in bytes.
_MAX_LOCK = 1_000_000


@dataclass(frozen=True, kw_only=True)
class _Table:
    # For pydantic, which checks the files of users; it is not loaded for those that ship.
    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class PythonPackages(_Table):
    """A Python version such as ``"3.11"``, and packages with exact versions.

    With ``resolve``, packages that those of the lock require are installed as well. It is for torch: which
    CUDA libraries it needs depends on the index that it comes from, and it pins them itself.
    """

    version: str
    requirements: tuple[str, ...]
    lock: str | None = None
    resolve: bool = False


@dataclass(frozen=True, kw_only=True)
class RPackages(_Table):
    """Minimum versions of R and of its packages, and the commands that install them, by operating system."""

    version: str
    packages: dict[str, str]
    install: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Declaration(_Table):
    """Declaration of an environment; :func:`~.status.state` returns whether it exists.

    Attributes
    ----------
    name
        Stem of the file.
    reference
        Argument for the command line: the name of a declaration that ships, else the path of its file.
    lock_lines
        Lines of the lock file, one package each.
    """

    name: str
    reference: str
    title: str
    python: PythonPackages | None = None
    r: RPackages | None = None
    lock_lines: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file and its lock, if it is not one that ships."""
        if not self.reference.endswith(".toml"):
            return ()
        path = Path(self.reference)
        lock = self.python.lock if self.python else None
        return (path, path.with_name(lock)) if lock else (path,)

    @property
    def digest(self) -> str:
        """sha256 over everything that determines the installed packages."""
        facts = {name: asdict(self)[name] for name in ("python", "r", "lock_lines")}
        if self.r is not None:
            del facts["r"]["install"]  # the installation commands do not matter
        if self.python is not None and not self.python.resolve:
            del facts["python"]["resolve"]  # so that environments built before it existed stay valid
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def shipped() -> dict[str, Path]:
    """Return the files of the declarations that ship with the package, by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.toml"))}


def find(reference: str) -> Declaration:
    """Read a declaration, given its name or the path of its ``.toml`` file.

    Raises
    ------
    UserError
        If there is no such declaration, or if it is not valid.
    """
    if reference.endswith(".toml"):
        return _read(Path(reference).resolve(), reference=str(Path(reference).resolve()))
    known = shipped()
    if reference not in known:
        raise UnknownNameError("environment", reference, known)
    return _read(known[reference], reference=reference)


def program_file(program: str) -> Path:
    """Return the file of a program, given its name (if it ships with the package) or its absolute path."""
    path = Path(program)
    return path if path.is_absolute() else _folder() / program


def _folder() -> Path:
    return Path(str(files("cellular_bench.methods") / "environments"))


def _read(path: Path, *, reference: str) -> Declaration:
    table = read_toml(path, what="Environment")
    if not re.fullmatch(r"[a-z0-9_-]+", path.stem):
        raise UserError(
            f"{path.name}: names of environments may only contain lower-case letters, digits, - and _."
        )
    python = table.get("python", {})
    lock = python.get("lock") if isinstance(python, dict) else None
    lines = tuple(_lock_lines(path.parent, lock)) if isinstance(lock, str) else ()
    own = {"name": path.stem, "reference": reference, "lock_lines": lines}
    for name in own.keys() & table.keys():
        raise UserError(f"Environment {path}: {name}: there is no such entry.")
    facts = {**table, **own}
    declared = _checked(facts, path) if reference.endswith(".toml") else _trusted(facts)
    if (declared.python is None) == (declared.r is None):
        raise UserError(f"Environment {path}: it must have either a table [python] or a table [r].")
    _check(declared, path)
    return declared


def _checked(facts: Mapping[str, Any], path: Path) -> Declaration:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Declaration).validate_python(facts)
    except ValidationError as error:
        raise UserError(f"Environment {path}: {explain(error)}") from error


def _trusted(facts: dict[str, Any]) -> Declaration:
    """Return a declaration that ships; tests check its file."""
    kinds = {"python": PythonPackages, "r": RPackages}
    tables = {name: kind(**facts[name]) for name, kind in kinds.items() if name in facts}
    return Declaration(**{**facts, **tables})


def _lock_lines(folder: Path, name: str) -> Iterator[str]:
    """Yield the packages of a lock file, with continued lines joined and comments removed."""
    if not is_plain_name(name):
        raise UserError(f"Lock file '{name}': it must be the plain name of a file beside the declaration.")
    path = folder / name
    try:
        text = read_regular(path.resolve(), most_bytes=_MAX_LOCK).decode("utf-8")
    except OSError as error:
        raise UserError(f"Lock file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"Lock file {path} is not text in UTF-8: {error}.") from error
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        bare = line.split(" #")[0].strip()
        if bare and not bare.startswith("#"):
            yield bare


def _check(declared: Declaration, path: Path) -> None:
    if declared.r is not None:
        _check_r(declared.r, path)
    if declared.python is None:
        return
    for line in (*declared.python.requirements, *declared.lock_lines):
        try:
            exact_name(_HASHES.sub("", line))
        except UserError as error:
            raise UserError(f"Environment {path}: {error}") from error
    if not re.fullmatch(r"3\.\d+", declared.python.version):
        raise UserError(
            f"Environment {path}: python.version is '{declared.python.version}'; it must be of the form 3.11."
        )


def _check_r(packages: RPackages, path: Path) -> None:
    """Refuse names and versions that are none: Rscript would take some for options, which run code."""
    for name in packages.packages:
        if not _R_NAME.fullmatch(name):
            raise UserError(f"Environment {path}: {name!r} is not the name of an R package.")
    for version in (packages.version, *packages.packages.values()):
        if not _R_VERSION.fullmatch(version):
            raise UserError(f"Environment {path}: {version!r} is not a version, such as 4.1 or 1.8.0.")
