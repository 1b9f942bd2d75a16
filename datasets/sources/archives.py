"""Unpack untrusted archives: nothing outside the target folder, no links, no bombs."""

from __future__ import annotations

import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from cellular_bench.core.errors import DataError

#: Largest number of bytes that an archive may unpack to, and of files and folders in it.
MAX_BYTES = 64 * 1024**3
MAX_FILES = 100_000
BLOCK_BYTES = 1 << 20
RAR_MAGIC = b"Rar!\x1a\x07"
#: Errors of damaged archives; an OSError with an error number is a problem of this machine instead.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One entry of an archive; ``blocks`` yields its bytes once, and is None for a folder."""

    name: str
    blocks: Iterator[bytes] | None
    is_link: bool = False
    is_special: bool = False


def unpack(path: Path, target: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> list[Path]:
    """Unpack a zip or tar archive (plain or compressed) into a new folder.

    The folder appears only after the whole archive was checked and written. Owners, permissions and times in
    the archive are ignored. Sizes are counted while unpacking, independently of the sizes that the archive
    declares.

    Parameters
    ----------
    path
        Archive.
    target
        Folder to create. An existing one is considered complete and not changed.
    max_bytes, max_files
        Limits for the whole archive.

    Returns
    -------
    Sorted paths of the files.

    Raises
    ------
    DataError
        If an entry points outside the folder or is a link or a device, a limit is exceeded, or the archive is
        damaged or of another kind.
    OSError
        If the files cannot be written, such as on a full disk.
    """
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as temporary:
            folder = Path(temporary) / "content"
            folder.mkdir()
            _unpack_into(folder, path, max_bytes=max_bytes, max_files=max_files)
            folder.rename(target)
    return sorted(file for file in target.rglob("*") if file.is_file())


def _unpack_into(folder: Path, path: Path, *, max_bytes: int, max_files: int) -> None:
    left, n_files = max_bytes, 0
    try:
        with _opened(path) as members:
            for member in members:
                n_files += 1
                if n_files > max_files:
                    raise DataError(
                        str(path), [f"It holds more than {max_files} files and folders; refused."]
                    )
                place = _place(folder, member, path)
                if member.blocks is None:
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                left -= write_member(place, member.blocks, path, left=left, max_bytes=max_bytes)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = f"The archive is damaged or incomplete: {error}. Fetch it again."
        raise DataError(str(path), [problem]) from error


def write_member(place: Path, blocks: Iterator[bytes], path: Path, *, left: int, max_bytes: int) -> int:
    """Write a member of an archive to a new file; return its size."""
    if place.exists():
        raise DataError(str(path), [f"It holds '{place.name}' twice; refused."])
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with place.open("xb") as file:
        for block in blocks:
            written += len(block)
            if written > left:
                problem = f"It unpacks to more than {max_bytes} bytes; refused, because it may be a bomb."
                raise DataError(str(path), [problem])
            file.write(block)
    return written


def _place(folder: Path, member: _Member, path: Path) -> Path:
    if member.is_link or member.is_special:
        what = "a link" if member.is_link else "neither a file nor a folder"
        raise DataError(str(path), [f"Its entry '{member.name}' is {what}; refused."])
    # Backslashes and drives separate folders on some platforms: refused on all.
    parts = PurePosixPath(member.name).parts
    if not parts and member.name.strip("./") == "" and member.blocks is None:
        return folder  # "./", the first entry of archives of a folder
    is_outside = member.name.startswith("/") or ".." in parts or "\\" in member.name or "\0" in member.name
    if is_outside or not parts or PureWindowsPath(member.name).drive:
        problem = f"Its entry '{member.name}' would be written outside the target folder; refused."
        raise DataError(str(path), [problem])
    return folder.joinpath(*parts)


def _opened(path: Path) -> AbstractContextManager[Iterator[_Member]]:
    problem = "This is no archive that can be unpacked, or a damaged one: expected zip or tar."
    with path.open("rb") as file:
        is_rar = file.read(len(RAR_MAGIC)) == RAR_MAGIC
    if is_rar:  # first: a zip archive at its end would be mistaken for the whole
        problem = (
            "It is a rar archive, which cannot be unpacked here. Unpack it with unar or 7-Zip, and name the "
            "folder (--data-dir) or use the file as your own data (--adata)."
        )
    elif zipfile.is_zipfile(path):
        return _zip_members(path)
    elif tarfile.is_tarfile(path):
        return _tar_members(path)
    raise DataError(str(path), [problem])


@contextmanager
def _zip_members(path: Path) -> Iterator[Iterator[_Member]]:
    with zipfile.ZipFile(path) as archive:

        def members() -> Iterator[_Member]:
            for info in archive.infolist():
                mode = info.external_attr >> 16
                if info.flag_bits & 0x1:
                    raise DataError(str(path), [f"Its entry '{info.filename}' is encrypted; refused."])
                # The name as stored: ZipInfo turns backslashes into slashes on some platforms only.
                yield _Member(
                    name=info.orig_filename,
                    blocks=None if info.is_dir() else _blocks_of(archive, info),
                    is_link=stat.S_ISLNK(mode),
                )

        yield members()


def _blocks_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        file = archive.open(info)
    except NotImplementedError as error:
        problem = (
            f"Its entry '{info.filename}' is compressed by method {info.compress_type}, which Python cannot "
            "undo. Unpack it by another program, such as 7-Zip, and use the files as your own data."
        )
        raise DataError(archive.filename or "archive", [problem]) from error
    with file:
        while block := file.read(BLOCK_BYTES):
            yield block


@contextmanager
def _tar_members(path: Path) -> Iterator[Iterator[_Member]]:
    with tarfile.open(path) as archive:

        def members() -> Iterator[_Member]:
            for info in archive:
                yield _Member(
                    name=info.name,
                    blocks=_blocks_of_tar(archive, info) if info.isfile() else None,
                    is_link=info.issym() or info.islnk(),
                    is_special=not (info.isfile() or info.isdir() or info.issym() or info.islnk()),
                )
            # The checksum of a compressed archive follows the last entry; reading to the end checks it.
            while archive.fileobj.read(BLOCK_BYTES):
                pass

        yield members()


def _blocks_of_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(info)
    assert file is not None  # it is a file
    done = 0
    while block := file.read(BLOCK_BYTES):
        done += len(block)
        yield block
    if done < info.size:
        raise tarfile.ReadError(f"'{info.name}' ends after {done} of {info.size} bytes")
