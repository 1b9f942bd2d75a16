"""Walls by Landlock: the kernel refuses this process, and all that it starts, what is not allowed.

Paths stay visible by name, and rules add up: a folder within an allowed one cannot be left out. What the
kernel cannot refuse depends on the version of its interface (ABI), see :func:`gaps`.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from cellular_bench.benchmark.isolation.sandbox import kernel
from cellular_bench.benchmark.isolation.sandbox.places import Places, devices, without_hidden

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_DEVICES, _TRUNCATE, _IOCTL_DEV = 1 << 6 | 1 << 11, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
#: First ABI with a right on files -> number of rights up to it.
_N_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_MOST_RIGHTS = 16
_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3


def abi() -> int:
    """Return the version of the kernel's interface.

    Raises
    ------
    OSError
        If the kernel has none, or it is switched off.
    """
    return kernel.call(_CREATE_RULESET, None, 0, _VERSION, what="Landlock")


def gaps(version: int) -> str:
    """Say what a version of the interface cannot refuse."""
    missing = {3: "truncating files", 4: "TCP", 6: "signals"}
    open_ = [what for since, what in missing.items() if version < since]
    return ", ".join([*open_, "UDP, IPC, /dev/shm and attributes of files"])


def enter(found: Places) -> None:
    """Restrict this process and all that it will start."""
    version = abi()
    handled = (1 << _N_RIGHTS.get(version, _MOST_RIGHTS)) - 1
    network = _TCP if version >= 4 else 0
    scoped = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = struct.pack("=QQQ", handled, network, scoped)[:size]
    rules = kernel.call(_CREATE_RULESET, ruleset, size, 0, what="Landlock")
    modes = found.needed()
    for path, mode in modes.items():
        if mode == "write":
            _allow(rules, path, handled & ~_MAKE_DEVICES)
        elif mode == "read":
            for part, is_whole in without_hidden(path, modes):
                _allow(rules, part, handled & (_READ if is_whole else _READ_DIR))
    for path in devices():
        _allow(rules, path, handled & (_ON_FILES | _READ_DIR))
    _allow(rules, Path("/proc"), handled & _READ)
    _allow(rules, Path("/dev/shm"), handled & ~_MAKE_DEVICES)  # noqa: S108 - semaphores are there
    kernel.drop_privileges()
    kernel.call(_RESTRICT_SELF, rules, 0, what="Landlock")
    os.close(rules)
    sys.meta_path.append(_ByName())


class _ByName(MetaPathFinder):
    """Finds modules in folders that may not be listed, in which Python sees none.

    A rule on a folder holds for all below it: that of a plug-in, such as a home, cannot be listed alone.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        name = fullname.rpartition(".")[2]
        for folder in sys.path if path is None else path:
            for file in (Path(folder, name, "__init__.py"), Path(folder, f"{name}.py")):
                if os.path.isfile(file):  # noqa: PTH113 - no error where a folder may not be entered
                    return spec_from_file_location(fullname, file)
        return None


def _allow(rules: int, path: Path, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = rights if path.is_dir() else rights & _ON_FILES
        rule = struct.pack("=Qi", allowed, parent)
        kernel.call(_ADD_RULE, rules, _PATH_BENEATH, rule, 0, what=f"Landlock for {path}")
    finally:
        os.close(parent)
