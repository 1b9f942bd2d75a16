"""Write h5ad files."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.files import replacing

if TYPE_CHECKING:
    from anndata import AnnData


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
