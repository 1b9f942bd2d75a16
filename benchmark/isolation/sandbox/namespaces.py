"""Walls by namespaces of users, mounts, processes, network and IPC: what is not allowed does not exist.

Three processes: the *outer* one, which entered, waits and ends as the method ends; the *first* one inside
builds the new root, reaps what the method leaves and ends with the outer one; the *method's* goes on. Each
waits for all below it, so that processor time arrives outside. A SIGTERM to the outer process ends all and
keeps that time; a SIGKILL ends all and loses it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from cellular_bench.benchmark.isolation.sandbox import kernel
from cellular_bench.benchmark.isolation.sandbox.places import Mode, Places, devices

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = 1 << 17, 1 << 27, 1 << 28, 1 << 29, 1 << 30
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8
_BIND, _RECURSIVE, _PRIVATE, _DETACH = 1 << 12, 1 << 14, 1 << 18, 2
_MOUNT_SETATTR = 442  # the same number on every architecture
_CWD, _WITH_ALL_BELOW = -100, 0x8000
_SET_INTERFACE_FLAGS, _IS_UP = 0x8914, 1
_READY = b"0\n"
#: The old root, until it is unmounted.
_OLD = "/.old"
_ROOT, _PROC, _SHARED_MEMORY = Path("/"), Path("/proc"), Path("/dev/shm")  # noqa: S108 - the run's own


def enter(found: Places) -> None:
    """Go on in a new process behind the walls; this one waits for it and ends as it does."""
    user, group, nodes = os.geteuid(), os.getegid(), devices()
    flags = _NEW_USER | _NEW_MOUNTS | _NEW_PIDS | _NEW_NETWORK | _NEW_IPC
    kernel.call("unshare", flags, what="User namespaces")
    for name, text in {
        "setgroups": "deny",
        "uid_map": f"{user} {user} 1",
        "gid_map": f"{group} {group} 1",
    }.items():
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the time of ignored children is not counted
    reader, writer = os.pipe()
    first = os.fork()
    if first:
        os.close(writer)
        _wait_outside(first, reader)
    os.close(reader)
    try:
        _build(found.needed(), found.links, nodes)
        kernel.end_with_parent(signal.SIGKILL)
        os.write(writer, _READY)  # fails where the outer process has ended
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        with suppress(BrokenPipeError):
            os.write(writer, f"{error.errno} {error.strerror}{where}".encode())
        os._exit(1)
    method = os.fork()
    if method:
        _wait_inside(method, writer)
    os.close(writer)
    os.setpgid(0, 0)


def _wait_outside(first: int, reader: int) -> NoReturn:
    """End as the method ends, by exit code or signal; raise an error if it was never started."""
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(first, signal.SIGTERM))
    with open(reader, "rb") as report:
        ready = report.readline()
        if ready == _READY:
            kernel.drop_privileges()
        _, status = os.waitpid(first, 0)
        reported = report.read()
    if ready != _READY:
        code, _, text = ready.decode().partition(" ")
        raise OSError(int(code or errno.ECHILD), text or "The first process inside has ended")
    ended = os.waitstatus_to_exitcode(int(reported or status))
    if ended < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -ended != signal.SIGKILL:
            signal.signal(-ended, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-ended])
        os.kill(os.getpid(), -ended)
    os._exit(ended)


def _wait_inside(method: int, writer: int) -> NoReturn:
    """Wait for every process inside; when the method has ended, report how, and end the others."""

    def end_all(number: int = 0, frame: object = None) -> None:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end_all)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == method:
                os.write(writer, str(status).encode())
                end_all()
    os._exit(0)


def _build(modes: dict[Path, Mode], links: dict[Path, Path], nodes: list[Path]) -> None:
    """Make a root that holds only what is allowed, forget the old one, and give up all privileges."""
    cwd = Path.cwd()
    umask = os.umask(0o022)
    os.setsid()
    _mount("none", _ROOT, None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", _PROC, "tmpfs", _NO_SUID | _NO_DEVICES, b"mode=755")  # any folder would do
    Path(f"/proc{_OLD}").mkdir()
    kernel.call("pivot_root", b"/proc", f"/proc{_OLD}".encode(), what="A new root")
    os.chdir("/")
    covers = [path for path, mode in modes.items() if mode == "hide" and Path(f"{_OLD}{path}").is_dir()]
    for path, mode in modes.items():
        limits = _NO_SUID | _NO_DEVICES | (0 if mode == "write" else _READ_ONLY)
        if path in covers:
            _mount("tmpfs", path, "tmpfs", _NO_SUID | _NO_DEVICES, b"mode=755")
        elif mode == "hide":
            _bind(Path("/dev/null"), path, limits)  # no device: it cannot be opened
        else:
            _bind(path, path, limits)
    for path in nodes:
        _bind(path, path, _READ_ONLY | _NO_SUID | _NO_PROGRAMS)
    descriptors = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
    links = {Path("/dev", name): Path(f"/proc/self/fd{end}") for name, end in descriptors.items()} | links
    for link, target in links.items():
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
    _SHARED_MEMORY.mkdir(parents=True)
    _mount("tmpfs", _SHARED_MEMORY, "tmpfs", _NO_SUID | _NO_DEVICES, b"mode=1777")
    _show_processes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # libraries talk to 127.0.0.1
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sh14x", b"lo", _IS_UP))
    kernel.call("umount2", _OLD.encode(), _DETACH, what="The old root")
    Path(_OLD).rmdir()
    for path in (*covers, _ROOT):
        _limit(path, _READ_ONLY | _NO_SUID | _NO_DEVICES, 0)
    with suppress(OSError):
        os.chdir(cwd)
    os.umask(umask)
    kernel.drop_privileges()


def _show_processes() -> None:
    """Mount ``/proc`` with the processes inside only, read-only.

    A container that covers parts of its ``/proc`` is refused a new one. Its old one then stays: it names
    the processes outside, as with Landlock, but the user namespace refuses their memory, files and folders.
    """
    _PROC.mkdir()
    try:
        _mount("proc", _PROC, "proc", _NO_SUID | _NO_DEVICES | _NO_PROGRAMS)
    except PermissionError:
        _bind(_PROC, _PROC, 0)
    with suppress(OSError):  # read-only in some containers; a namespace within this one cannot undo a mount
        Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")
    _limit(_PROC, _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_PROGRAMS)


def _bind(source: Path, target: Path, limits: int) -> None:
    """Show what was at a place of the old root."""
    source = Path(f"{_OLD}{source}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    elif not target.exists():
        target.touch()
    _mount(str(source), target, None, _BIND | _RECURSIVE)
    _limit(target, limits)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: bytes | None = None) -> None:
    names = os.fsencode(source), os.fsencode(target), kind.encode() if kind else None
    kernel.call("mount", *names, flags, options, what=f"A mount at {target}")


def _limit(path: Path, limits: int, below: int = _WITH_ALL_BELOW) -> None:
    attributes = struct.pack("=QQQQ", limits, 0, 0, 0)  # to set, to clear, propagation, users
    given = os.fsencode(path), below, attributes, len(attributes)
    kernel.call(_MOUNT_SETATTR, _CWD, *given, what=f"Limits of {path}")
