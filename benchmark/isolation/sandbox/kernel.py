"""System calls of Linux that Python has no function for, and the end of every privilege."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
#: Number of the system call ``keyctl``; libc has no function for it.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str | int, *args: Any, what: str) -> int:
    """Call a function of libc, or a system call by its number.

    Parameters
    ----------
    args
        Numbers, bytes for pointers, or None.
    what
        The subject of the error message: ``"A new root"``.

    Raises
    ------
    OSError
        If the kernel refuses the call, or libc does not have it.
    """
    function = getattr(_libc, "syscall" if isinstance(name, int) else name, None)
    if function is None:
        raise OSError(errno.ENOSYS, f"{what}: not in this C library")
    numbers = [] if isinstance(name, str) else [ctypes.c_long(name)]
    given = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    result = int(function(*numbers, *given))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
    return result


def end_with_parent(number: int) -> None:
    """Ask for a signal to this process at the end of its parent."""
    call("prctl", _SET_PDEATHSIG, number, 0, 0, 0, what="A signal at the end of the parent")


def drop_privileges() -> None:
    """Give up all capabilities, and every way to get one back by starting a program."""
    call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0, what="No new privileges")
    with suppress(OSError):  # refused after the last one, or to a process that has no capability to lose
        for capability in range(64):
            call("prctl", _CAPBSET_DROP, capability, 0, 0, 0, what="The bounding set")
    call("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24), what="No capabilities")


def leave_keyring() -> None:
    """Use a new, empty keyring: keys would be a memory that runs share."""
    with suppress(KeyError, OSError):  # where a container refuses the call, it does so for methods as well
        call(_KEYCTL[os.uname().machine], _JOIN_KEYRING, None, what="A new keyring")


def close_folders() -> None:
    """Close every descriptor of a folder, which would lead past the walls; read nothing from stdin."""
    for path in [*Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # the descriptor of the listing itself
            if stat.S_ISDIR(os.fstat(int(path.name)).st_mode):
                os.close(int(path.name))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def require_one_thread() -> None:
    """Refuse to go on in a process with threads: some would stay outside the walls."""
    n_threads = len([*Path("/proc/self/task").iterdir()])
    if n_threads > 1:
        raise OSError(errno.EINVAL, f"Walls hold one thread, and this process has {n_threads}")
