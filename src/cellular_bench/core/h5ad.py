"""Write h5ad files, and refuse those whose values lie elsewhere."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellular_bench.core.files import replacing

if TYPE_CHECKING:
    from anndata import AnnData


#: The most entries of a file, and the deepest that groups lie in groups; followed links count.
MOST_ENTRIES: Final = 100_000
MOST_LEVELS: Final = 50


def problem_of_storage(group: Any) -> str | None:
    """Say what is wrong with an open HDF5 file that does not hold all of its values; None if nothing is.

    No value is read, and no other file is opened. External links, external storage and virtual data sets show
    the content of other files as that of this one. Links within the file are followed, as readers do.

    Parameters
    ----------
    group
        :class:`h5py.File`.
    """
    import h5py

    level = [("", group)]
    n_entries = 0
    for _ in range(MOST_LEVELS):
        below = []
        for name, member in _members(level):
            n_entries += 1
            if n_entries > MOST_ENTRIES:
                return f"It has more than {MOST_ENTRIES} entries, or links between its groups."
            if isinstance(member, h5py.ExternalLink):
                return (
                    f"{name} is a link to another file, {member.filename!r}. Copy the values into this one."
                )
            if isinstance(member, h5py.Dataset) and (member.is_virtual or member.external):
                return f"The values of {name} lie in other files. Copy them into this one."
            if isinstance(member, h5py.Group):
                below.append((f"{name}/", member))
        if not below:
            return None
        level = below
    return f"Its groups lie more than {MOST_LEVELS} deep in each other, or links between them form a circle."


def _members(groups: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the members of groups: a link to another file as such, one that leads nowhere not at all."""
    import h5py

    for prefix, group in groups:
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield prefix + name, link
            elif (member := group.get(name)) is not None:
                yield prefix + name, member


def problem_of_store(folder: Path) -> str | None:
    """Say what is wrong with a zarr store that holds links; None if nothing is."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return (
                f"{path.relative_to(folder)} is a link, a pipe or a device. Copy the values into the store."
            )
    return None


def write_h5ad(adata: AnnData, path: Path, *, compression_level: int | None = 4) -> None:
    """Write an ``.h5ad`` file, complete or not at all.

    Columns of text become categories, as in ``AnnData.write_h5ad``. Text is written as plain arrays, which
    older versions of anndata and other programs can read: with pandas 3, anndata would write all of it in the
    format for text with missing values.

    Parameters
    ----------
    adata
        Cells. Their columns of text are converted.
    path
        File; an older one is replaced.
    compression_level
        Level of gzip, 1 to 9; None: not compressed.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; an older file stays as it was.
    """
    import anndata
    import h5py
    import pandas as pd
    from anndata.io import write_elem

    adata.strings_to_categoricals()
    columns = (table[name].array for table in (adata.obs, adata.var) for name in table)
    strings = [array for array in columns if isinstance(array.dtype, pd.StringDtype)]
    # With pandas 2, all text is plain but that of this type, which then cannot be written as plain text.
    by_default = isinstance(pd.Index(["text"]).dtype, pd.StringDtype)
    needed = any(array.isna().any() for array in strings) if by_default else bool(strings)
    options: dict[str, Any] = {}
    if compression_level is not None:
        options = {"compression": "gzip", "compression_opts": compression_level}
    with (
        replacing(path) as temporary,
        _WriteOnce(temporary, "w+") as raw,
        anndata.settings.override(allow_write_nullable_strings=needed),
    ):
        try:
            with h5py.File(raw, "w") as file:
                write_elem(file, "/", adata, dataset_kwargs=options)
        finally:
            if raw.error is not None:
                raise OSError(raw.error.errno, raw.error.strerror, str(path)) from raw.error


class _WriteOnce(FileIO):
    """A file that keeps the first error of writing, and then only seems to write.

    HDF5 crashes the process if the disk is full when it closes a file.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes."""
        rest = memoryview(data).cast("B")
        n_bytes = len(rest)
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return n_bytes

    def truncate(self, size: int | None = None) -> int:
        """Change the size of the file."""
        try:
            if self.error is None:
                super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def readinto(self, buffer: Any) -> int:
        """Read; what was not written is zeros."""
        bytes_of = memoryview(buffer).cast("B")
        n_read = super().readinto(bytes_of)
        bytes_of[n_read:] = bytes(len(bytes_of) - n_read)
        return len(bytes_of)
