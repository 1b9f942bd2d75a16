"""Arrays in npz files that somebody else may have written: no pickles, and no more than the file holds."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import open_regular, replacing


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an uncompressed file.

    Raises
    ------
    UserError
        If it is missing, a link, a pipe or a folder, is damaged or compressed, or holds Python objects.
    """
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            # What is compressed may be any number of times as large as the file.
            if any(one.compress_type != zipfile.ZIP_STORED for one in arrays.zip.infolist()):
                raise ValueError("it is compressed")
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise UserError(f"{path} is missing or damaged ({error.strerror or error}).") from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        EOFError,
        MemoryError,
        RuntimeError,
        SyntaxError,
        NotImplementedError,
        OverflowError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:  # fmt: skip  (of numpy and zipfile, on headers of any content)
        raise UserError(f"{path} is missing or damaged ({error}).") from error


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an uncompressed file, complete or not at all.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; an older file stays as it was.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
