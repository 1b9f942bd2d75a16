"""What a method may see of the file system: a list of what is allowed, links followed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cellular_bench
from cellular_bench.core.installation import parts_of

Mode = Literal["read", "write", "hide"]

_SYSTEM = ("bin", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "sys", "usr")
_INSTALLED = {"site-packages", "dist-packages"}
_DEVICES = ("null", "zero", "full", "random", "urandom", "dri", "dxg", "kfd")
_MOST_LINKS = 40


@dataclass(frozen=True)
class Walls:
    """Paths of one run, beside the system and the installation of Python.

    Attributes
    ----------
    readable
        Files and folders that the run may read.
    writable
        Files and folders that the run may read and change.
    hidden
        Files and folders that the run must not read, although the system or the installation contains them,
        such as the source file of its data set in ``site-packages``. The bundled data are always hidden.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@dataclass
class Places:
    """Real paths with what may be done there and below, and the links that lead to them."""

    modes: dict[Path, Mode] = field(default_factory=dict)
    links: dict[Path, Path] = field(default_factory=dict)

    def add(self, path: Path, mode: Mode) -> None:
        """Set what may be done at the real place of a path."""
        links, real = _follow(path.absolute())
        self.links |= links
        self.modes[real] = mode

    def around(self, path: Path) -> Mode:
        """Return what the closest place above a path allows; without one, nothing."""
        return next((self.modes[above] for above in path.parents if above in self.modes), "hide")

    def needed(self) -> dict[Path, Mode]:
        """Return the places that differ from what is around them, outer ones first."""
        return {path: mode for path, mode in sorted(self.modes.items()) if mode != self.around(path)}


def visible(walls: Walls) -> Places:
    """Return all that a run may see.

    Raises
    ------
    OSError
        If a path of ``walls`` does not exist, or is to be protected within a writable one.
    """
    found = Places()
    given: tuple[tuple[Mode, tuple[Path, ...]], ...] = (
        ("hide", walls.hidden),
        ("read", walls.readable),
        ("write", walls.writable),
    )
    for path in installation():
        found.add(path, "read")
    found.add(Path(cellular_bench.__path__[0]) / "datasets" / "bundled", "hide")
    for mode, paths in given:
        for path in paths:
            path.stat()
            found.add(path, mode)
    for path in found.needed():
        if found.around(path) == "write":
            raise OSError(errno.EINVAL, "Cannot protect what lies in a writable folder", str(path))
    return found


def installation() -> list[Path]:
    """Return the paths of the system, of Python and its packages, and of this package, as they are named."""
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    package = Path(cellular_bench.__path__[0]).absolute()
    libraries = map(Path, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    sites = [path for path in map(Path, sys.path) if path.name in _INSTALLED]
    named = [
        *(Path("/", name) for name in _SYSTEM),
        *(part for prefix in prefixes for part in parts_of(Path(prefix))),
        *(path for path in libraries if path.name.startswith("lib")),
        *sites,
        package.parent if package.parent.name in {*_INSTALLED, "src"} else package,
        *(linked for folder in (*sites, package) for linked in _links_in(folder)),
        Path(sys.executable),
    ]
    return [path for path in dict.fromkeys(named) if path.is_absolute() and os.access(path, os.F_OK)]


def devices() -> list[Path]:
    """Return the devices that every program may need, and those of GPUs."""
    folder = Path("/dev")
    return [
        path for path in (*(folder / name for name in _DEVICES), *folder.glob("nvidia*")) if path.exists()
    ]


def without_hidden(path: Path, modes: dict[Path, Mode]) -> Iterator[tuple[Path, bool]]:
    """Yield a readable path in parts that hold nothing hidden.

    Yields
    ------
    path, is_whole
        ``is_whole`` is False for a folder of which only the listing may be read.
    """
    is_whole = not any(mode == "hide" and path in other.parents for other, mode in modes.items())
    yield path, is_whole
    if not is_whole:
        for part in path.iterdir():
            if modes.get(part) != "hide" and not part.is_symlink():
                yield from without_hidden(part, modes)


def _links_in(folder: Path) -> list[Path]:
    """Return the links in a folder: what they lead to belongs to it."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    return [Path(entry.path) for entry in os.scandir(folder) if entry.is_symlink()]


def _follow(path: Path) -> tuple[dict[Path, Path], Path]:
    """Return the links on the way to an absolute path, each with its target, and the real path."""
    links: dict[Path, Path] = {}
    here, n_followed = Path("/"), 0
    todo = [*path.parts[:0:-1]]
    while todo:
        part = todo.pop()
        step = here.parent if part == ".." else here / part
        if not step.is_symlink():
            here = step
            continue
        n_followed += 1
        if n_followed > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = links[step] = step.readlink()
        here = here / target.root
        todo += [part for part in target.parts[::-1] if part != "/"]
    return links, here
