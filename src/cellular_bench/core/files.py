"""Names of files, files written by others, atomic writes, and the cache folder."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

#: File systems allow 255 bytes for a name; the rest of a name needs its share.
MAX_NAME_BYTES: Final = 100
MAX_FILE_NAME_BYTES: Final = 255


def truncated(name: str) -> str:
    """Cut a name that would make the name of a file too long; a digest beside it distinguishes such names.

    Examples
    --------
    >>> truncated("lobo.human1"), len(truncated("x" * 300))
    ('lobo.human1', 100)
    """
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def short(name: str) -> str:
    """Return a name as it is where it fits; else cut, with a digest of the whole.

    Examples
    --------
    >>> short("lobo.human1"), len(short("x" * 300)), short("x" * 300) == short("x" * 301)
    ('lobo.human1', 111, False)
    """
    cut = truncated(name)
    return name if cut == name else f"{cut}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def is_plain_name(text: str) -> bool:
    r"""Whether a text is the name of a file in a folder: not a path, not hidden, without control characters.

    Examples
    --------
    >>> [is_plain_name(text) for text in ("a.h5ad", "../a", "/a", "a/b", "..", ".lock", "", "a\0")]
    [True, False, False, False, False, False, False, False]
    """
    return (
        text.isprintable()  # surrogates are not, so that it can be encoded
        and 0 < len(text.encode()) <= MAX_FILE_NAME_BYTES
        and not text.startswith(".")
        and not {"/", "\\"} & set(text)
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a file that somebody else may have written, for reading.

    Neither the file nor what it is read with can wait: a pipe or a device is refused.

    Raises
    ------
    OSError
        If it is a link, a pipe, a device or a folder, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """Return the content of a file that somebody else may have written.

    Raises
    ------
    OSError
        As for :func:`open_regular`, or if the file is larger than ``most_bytes``.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes} bytes", str(path))
    return content


def write_text_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never a part.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; an older file stays as it was.
    """
    write_atomically(path, text.encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Do the same with bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside a file; it replaces the file if the block ends well.

    Whatever fails, an older file stays as it was, and no part of a new one is left.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


#: Environment variable that names the folder for downloads.
CACHE_VARIABLE = "CELLULAR_BENCH_CACHE"


def cache_dir() -> Path:
    """Folder of the downloads: ``$CELLULAR_BENCH_CACHE``, else where the platform keeps caches.

    ``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on
    Windows.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return _platform_caches() / "cellular-bench"


def _platform_caches() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
