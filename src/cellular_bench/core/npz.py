"""Arrays of npz and npy files that somebody else may have written.

Nothing in such a file is believed: no pickle is read, and what is declared and not there uses no memory.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import open_regular, replacing

#: Unpacked content may have so many bytes, or so many times the bytes of the file.
FREE_BYTES: Final = 2**31
MOST_GROWTH: Final = 200
#: Most arrays of a file.
MOST_ARRAYS: Final = 1000
_MOST_HEADER: Final = 1000
_CHUNK: Final = 2**20
_MAGIC: Final = b"\x93NUMPY"
#: Bytes of the length of the header, by the version of the format.
_LENGTHS: Final = {1: "<H", 2: "<I", 3: "<I"}
_HEADER: Final = re.compile(
    r"\{\s*'descr'\s*:\s*'([^']*)'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,"
    r"\s*'shape'\s*:\s*\(([0-9L,\s]*)\)\s*,?\s*\}\s*",
    re.ASCII,
)
_DTYPE: Final = re.compile(
    r"[<>|=]?(?:[?biufcSU][0-9]{1,9}|\?|[mM]8(?:\[[0-9]{0,9}[A-Za-z]{1,2}\])?)", re.ASCII
)
_LAST_CHARACTER: Final = 0x10FFFF


def most_unpacked(n_bytes: int) -> int:
    """Return how many bytes a compressed file of ``n_bytes`` may unpack to; only bombs have more."""
    return max(FREE_BYTES, MOST_GROWTH * n_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a file declares of an array; ``start``: bytes before its values."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class ArrayFile:
    """An open npz file.

    Attributes
    ----------
    stored
        What is declared of each array, by name; no more than is there.
    """

    def __init__(self, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> None:
        self._archive = archive
        self._members = members
        self.stored: dict[str, Stored] = {}
        for name, member in members.items():
            with archive.open(member) as stream:
                self.stored[name] = _declared(stream, member.file_size, f"array {name[:60]!a}")

    def read(self, name: str) -> NDArray[Any]:
        """Return an array.

        Raises
        ------
        ValueError
            If its content is damaged.
        """
        with _as_value_error(), self._archive.open(self._members[name]) as stream:
            return _values(stream, self.stored[name])


@contextmanager
def open_npz(
    path: Path, *, most_bytes: int | None = None, most_arrays: int = MOST_ARRAYS, compressed: bool = True
) -> Iterator[ArrayFile]:
    """Open an npz file and check what it declares, before any array is read.

    Parameters
    ----------
    path
        A regular file. Resolve a path that the user named first, if it may be a link.
    most_bytes
        Most bytes of all arrays; None: see :func:`most_unpacked`.
    most_arrays
        Most arrays.
    compressed
        False: refuse compressed arrays, so that arrays have no more bytes than the file.

    Raises
    ------
    OSError
        If the file cannot be opened, or is a link, a pipe or a device.
    ValueError
        If it is no such file, or is larger than allowed.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        limit = most_unpacked(size) if most_bytes is None else most_bytes
        with _as_value_error():
            archive = zipfile.ZipFile(_SmallReads(file))
        with archive:
            with _as_value_error():
                found = ArrayFile(archive, _members(archive, size, limit, most_arrays, compressed=compressed))
            yield found


def read_arrays(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Return the array of an npy file, or those of an npz file by name.

    Raises
    ------
    OSError, ValueError
        As for :func:`open_npz`; for an array of Python objects, the message names it.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        is_array = file.read(len(_MAGIC)) == _MAGIC
        file.seek(0)
        if is_array:
            with _as_value_error():
                return _values(file, _declared(file, size, "the array"), skip=False)
    with open_npz(path) as arrays:
        return {name: arrays.read(name) for name in arrays.stored}


class _SmallReads:
    """A file of which zipfile reads no more at a time than a table of contents may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, n_bytes: int = -1) -> bytes:
        if n_bytes > _CHUNK:
            raise ValueError(f"its table of contents has {n_bytes} bytes, more than {_CHUNK}")
        content = self._file.read(_CHUNK + 1 if n_bytes < 0 else n_bytes)
        if len(content) > _CHUNK:
            raise ValueError(f"its table of contents has more than {_CHUNK} bytes")
        return content


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise every way in which a zip file can be wrong as one."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        OverflowError,
        RuntimeError,
    ) as error:
        raise ValueError(f"it is damaged: {error}") from error


def _members(
    archive: zipfile.ZipFile, size: int, limit: int, most_arrays: int, *, compressed: bool
) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > most_arrays:
        raise ValueError(f"it has {len(infos)} arrays, more than {most_arrays}")
    members = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(members) < len(infos):
        raise ValueError("two of its arrays have one name")
    allowed = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} if compressed else {zipfile.ZIP_STORED}
    for name, info in members.items():
        if info.flag_bits & 1 or info.compress_type not in allowed:
            raise ValueError(f"array {name!a} is encrypted or compressed in a way that is not read")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise ValueError(f"array {name!a} has two sizes")
    if sum(info.compress_size for info in infos) > size:
        raise ValueError("its arrays overlap, or are longer than the file")
    if (total := sum(info.file_size for info in infos)) > limit:
        raise ValueError(f"it unpacks to {total} bytes, more than {limit}")
    return members


def _declared(stream: IO[bytes], size: int, what: str) -> Stored:
    """Read the header of an array; the values that it declares have the bytes that are there."""
    start = stream.read(len(_MAGIC) + 2)
    if start[: len(_MAGIC)] != _MAGIC or len(start) < len(_MAGIC) + 2 or start[len(_MAGIC)] not in _LENGTHS:
        raise ValueError(f"{what} is not one of numpy")
    form = _LENGTHS[start[len(_MAGIC)]]
    (length,) = struct.unpack(form, stream.read(struct.calcsize(form)))
    if length > _MOST_HEADER:
        raise ValueError(f"{what} has a header of {length} bytes; arrays with named fields are not read")
    header = stream.read(length).decode("latin-1")
    found = _HEADER.fullmatch(header)
    if found is not None and found[1].endswith("O"):
        raise ValueError(
            f"{what} holds Python objects, which are not read; write it with a type, "
            "such as numpy.asarray(names, dtype=str)"
        )
    if found is None or not _DTYPE.fullmatch(found[1]):
        raise ValueError(f"{what} is declared as {header.strip()!a}, which is not read")
    shape = tuple(int(part) for part in found[3].replace("L", "").split(",") if part.strip())
    try:
        dtype = np.dtype(found[1])
    except TypeError as error:
        raise ValueError(f"{what} has the type {found[1]!a}, which is not read") from error
    stored = Stored(
        dtype=dtype,
        shape=shape,
        is_fortran=found[2] == "True",
        start=len(start) + struct.calcsize(form) + length,
    )
    if not dtype.itemsize or stored.n_bytes != size - stored.start:
        raise ValueError(
            f"{what} is declared to have {stored.n_bytes} bytes (shape {shape}, type {dtype}); "
            f"there are {size - stored.start}"
        )
    return stored


def _values(stream: IO[bytes], stored: Stored, *, skip: bool = True) -> NDArray[Any]:
    """Return an array; memory is used only for bytes that have been read."""
    if skip:
        stream.read(stored.start)
    content = np.empty(stored.n_bytes, dtype=np.uint8)
    n_read = 0
    while n_read < len(content):
        part = stream.read(min(_CHUNK, len(content) - n_read))
        if not part:
            raise ValueError(f"an array ends after {n_read} of {len(content)} bytes")
        content[n_read : n_read + len(part)] = np.frombuffer(part, dtype=np.uint8)
        n_read += len(part)
    values = content.view(stored.dtype).reshape(stored.shape, order="F" if stored.is_fortran else "C")
    values = values.astype(stored.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "U" and values.size:
        characters = values.reshape(-1).view(np.uint32)
        if characters.max() > _LAST_CHARACTER:
            raise ValueError("an array of text holds numbers that are no character")
    if values.dtype.kind == "b" and values.size and values.reshape(-1).view(np.uint8).max() > 1:
        raise ValueError("an array of flags holds other values than true and false")
    return values


def read_stored(path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays of an uncompressed file that belongs to the harness.

    Raises
    ------
    UserError
        If it is missing, a link, a pipe or a folder, is damaged or compressed, or holds Python objects.
    """
    try:
        with open_npz(path, compressed=False) as file:
            return {name: file.read(name) for name in file.stored}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path} is missing or damaged ({reason}).") from error


def write_stored(path: Path, arrays: dict[str, Any]) -> None:
    """Write an uncompressed file, complete or not at all.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; an older file stays as it was.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
