"""What a method may see of the file system: a list of what is allowed, links followed."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cellular_bench

Mode = Literal["read", "write", "hide"]

_SYSTEM = "/usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc /opt /nix /gnu".split()
#: Parts of an installation of Python. A prefix may be a home or a project, with much else in it.
_PARTS = "bin sbin lib lib32 lib64 libexec include share etc ssl targets nvvm pyvenv.cfg".split()
_INSTALLED = {"site-packages", "dist-packages"}
_DEVICES = "null zero full random urandom kfd dri".split()
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

    modes: dict[str, Mode] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def add(self, path: str | Path, mode: Mode) -> None:
        """Set what may be done at the real place of a path."""
        links, real = _follow(os.path.abspath(path))
        self.links |= links
        self.modes[real] = mode

    def mode(self, path: str) -> Mode:
        """Return what the closest place above a path allows; without one, nothing."""
        above = (str(parent) for parent in Path(path).parents)
        return next((self.modes[parent] for parent in above if parent in self.modes), "hide")

    def needed(self) -> dict[str, Mode]:
        """Return the places that differ from what is around them, outer ones first."""
        return {path: mode for path, mode in sorted(self.modes.items()) if mode != self.mode(path)}


def visible(walls: Walls) -> Places:
    """Return all that a run may see.

    Raises
    ------
    OSError
        If a path of ``walls`` does not exist, or is to be protected within a writable one.
    """
    found = Places()
    for path in installation():
        found.add(path, "read")
    found.add(Path(cellular_bench.__path__[0]) / "datasets" / "bundled", "hide")
    for mode, paths in (("hide", walls.hidden), ("read", walls.readable), ("write", walls.writable)):
        for path in paths:
            path.stat()
            found.add(path, mode)
    for path, mode in found.needed().items():
        if found.mode(path) == "write":
            raise OSError(errno.EINVAL, f"Cannot protect what lies in a writable folder ({mode})", path)
    return found


def installation() -> list[str]:
    """Return the paths of the system, of Python and its packages, and of this package, as they are named."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    package = cellular_bench.__path__[0]
    source = os.path.dirname(package)
    sites = [path for path in sys.path if os.path.isabs(path) and os.path.basename(path) in _INSTALLED]
    named = [
        *_SYSTEM,
        *(os.path.join(prefix, part) for prefix in prefixes for part in _PARTS),
        *sites,
        *(path for site in sites for path in _linked(site)),
        source if os.path.basename(source) in {*_INSTALLED, "src"} else package,
        *_linked(package),
        sys.executable,
        "/sys",
    ]
    return [path for path in dict.fromkeys(named) if path and os.path.exists(path)]


def devices() -> list[str]:
    """Return the devices that every program may need, and those of GPUs."""
    gpus = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
    return [f"/dev/{name}" for name in (*_DEVICES, *gpus) if os.path.exists(f"/dev/{name}")]


def without_hidden(path: str, modes: dict[str, Mode]) -> Iterator[tuple[str, bool]]:
    """Yield a readable path in parts that hold nothing hidden.

    Yields
    ------
    path, is_whole
        ``is_whole`` is False for a folder of which only the listing may be read.
    """
    hidden = [other for other, mode in modes.items() if mode == "hide" and other.startswith(path + "/")]
    yield path, not hidden
    if hidden:
        for entry in os.scandir(path):
            if modes.get(entry.path) != "hide" and not entry.is_symlink():
                yield from without_hidden(entry.path, modes)


def is_folder(path: str) -> bool:
    """Whether there is a folder at a path."""
    return stat.S_ISDIR(os.stat(path).st_mode)


def _linked(folder: str) -> Iterable[str]:
    """Return the links in a folder: what they lead to is part of it."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    return [entry.path for entry in os.scandir(folder) if entry.is_symlink()]


def _follow(path: str) -> tuple[dict[str, str], str]:
    """Return the links on the way to an absolute path, each with its target, and the real path."""
    links: dict[str, str] = {}
    here, n_links = "/", 0
    todo = path.split("/")[::-1]
    while todo:
        part = todo.pop()
        step = os.path.normpath(os.path.join(here, part))
        if part in {"", ".", ".."} or not os.path.islink(step):
            here = step
            continue
        n_links += 1
        if n_links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        links[step] = os.readlink(step)
        here = "/" if links[step].startswith("/") else here
        todo += links[step].split("/")[::-1]
    return links, here
