"""Names of files, files written by others, atomic writes, and the cache folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

from cellular_bench.core.errors import UserError

#: File systems allow 255 bytes for a name; the rest of a name needs its share.
MAX_NAME_BYTES: Final = 100
MAX_FILE_NAME_BYTES: Final = 255


#: What a file system answers that has no locks.
NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


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


def is_file_name(text: str) -> bool:
    r"""Whether a text can be the name of a file in a folder, as :func:`is_plain_name`, but of any letters.

    Labels are part of the names of runs, and may hold what is not printed, such as spaces that do not break.

    Examples
    --------
    >>> [is_file_name(text) for text in ("T\u00a0cell", "../a", "a/b", "", ".a", "a\nb", "\ud800")]
    [True, False, False, False, False, False, False]
    """
    return (
        re.fullmatch(r"[^./\\\x00-\x1f\ud800-\udfff][^/\\\x00-\x1f\ud800-\udfff]*", text) is not None
        and len(text.encode()) <= MAX_FILE_NAME_BYTES
    )


def below(root: Path, *names: str) -> Path:
    """Return a path below a folder; nothing on the way, its end included, is a symbolic link.

    Raises
    ------
    UserError
        If a name is not the name of a file, or there is a link.
    """
    path = root
    for name in names:
        if not is_file_name(name):
            raise UserError(f"{name[:MAX_NAME_BYTES]!r} cannot be the name of a file or folder in {path}.")
        path = path / name
        if path.is_symlink():
            raise UserError(
                f"{path} is a symbolic link, which is not followed: it may lead anywhere. Remove it."
            )
    return path


def folder_below(root: Path, *names: str) -> Path:
    """Make a folder below another if it is not there, and return its path.

    Raises
    ------
    UserError
        As for :func:`below`, or if something else is there.
    FileNotFoundError
        If the other is not there, such as one that was moved meanwhile: it is not made again.
    """
    path = below(root, *names)
    for depth in range(len(names)):
        made = root.joinpath(*names[: depth + 1])
        try:
            made.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise UserError(f"{made} is no folder. Remove it.") from error
    return path


def regular_below(root: Path, *names: str) -> Path:
    """Return the path of a file below a folder, which need not be there.

    Raises
    ------
    UserError
        As for :func:`below`, or if it is a folder, a pipe or a device.
    """
    path = below(root, *names)
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is no regular file. Remove it.")
    return path


def discard(path: Path) -> None:
    """Delete what is at a path, whatever that is; what a link leads to stays.

    Raises
    ------
    OSError
        If it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_regular(path: Path) -> BufferedReader:
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


def is_disk_error(error: OSError) -> bool:
    """Whether an error says that a disk is full or cannot be written."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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


def append_text(path: Path, text: str) -> None:
    """Append to a file, which is made if it is not there.

    Raises
    ------
    OSError
        If it is a link, a pipe, a device or a folder, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        file.write(text)


def copy_regular(source: Path, target: Path) -> None:
    """Copy a file that somebody else may have written; the target is complete or as it was.

    Raises
    ------
    OSError
        As for :func:`open_regular`, or if the target cannot be written.
    """
    with open_regular(source) as file, replacing(target) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside a file; it replaces the file if the block ends well.

    Whatever fails, an older file stays as it was, and no part of a new one is left.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    UserError
        If there is a folder instead of the file.
    """
    temporary = path.with_name(f".{truncated(path.name)}.{uuid.uuid4().hex}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(
            os.open(temporary, flags, 0o666)
        )  # a file of this name is not there; if it is, it is not ours
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            temporary.replace(path)
        except IsADirectoryError as error:
            raise UserError(f"{path} is a folder, and a file is to be written there. Remove it.") from error
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)  # nobody knows the temporary file; an open file does not say its name
        raise
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
