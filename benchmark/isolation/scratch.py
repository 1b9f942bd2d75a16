"""Temporary folders that are cleaned up even after a harness that was killed.

Every harness process has one home among the temporary files and holds a lock in it; the system lets go of
the lock when the process ends, however it ends. So a home whose lock is free belongs to nobody any more,
and the next harness on this machine removes it. Where the file system has no locks, nobody does.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path

from cellular_bench.core.files import NO_LOCKS

PREFIX = "cellular-bench-"
_LOCK = ".lock"


@contextmanager
def folder() -> Iterator[Path]:
    """Lend a new folder, which is deleted with all that is in it."""
    path = Path(tempfile.mkdtemp(dir=home()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # what cannot be deleted now goes with the home


def home() -> Path:
    """Return the folder of this process, which lives as long as the process."""
    return _home(os.getpid())


def remove_abandoned() -> list[Path]:
    """Remove the homes of harnesses that are gone, and say which; those of other users are left alone."""
    removed = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if path.is_symlink() or not _is_mine(path):
            continue
        lock = _try_lock(path / _LOCK)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            removed.append(path)
    return removed


@functools.cache
def _home(pid: int) -> Path:
    """Make the home of this process; a forked process, whose ``pid`` is another, makes its own."""
    remove_abandoned()
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        # Another harness may have taken the lock, and the folder for abandoned, in this very moment.
        if _is_held(lock, without_locks=True) and _is_in_place(lock, path / _LOCK):
            # After multiprocessing has removed its own folder there, which has the priority -100.
            Finalize(None, shutil.rmtree, args=(path, True), exitpriority=-200)
            return path
        os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock; None where another process has it or there is no file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    if _is_held(descriptor, without_locks=False):
        return descriptor
    os.close(descriptor)
    return None


def _is_held(descriptor: int, *, without_locks: bool) -> bool:
    """Take a lock and return whether that went well; ``without_locks`` if the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return without_locks and error.errno in NO_LOCKS
    return True


def _is_in_place(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_mine(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False
