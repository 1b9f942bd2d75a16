"""Read an AnnData file, with clear messages about files that cannot be read."""

from __future__ import annotations

import os
import re
import shlex
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cellular_bench.core.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

GZIP_MAGIC = b"\x1f\x8b"


def read_h5ad(path: Path) -> AnnData:
    """Read an ``.h5ad`` file into memory.

    Raises
    ------
    DataError
        If the file does not exist, or is not a complete AnnData file.
    """
    import anndata

    problem = _problem_of_path(path) or _problem_of_hdf5(path)
    if problem:
        raise DataError(str(path), [problem])
    with warnings.catch_warnings():
        # Warnings about files of old versions, and about repeated names, which the contract reports.
        warnings.simplefilter("ignore")
        try:
            return anndata.read_h5ad(path)
        except Exception as error:
            # anndata raises errors of many kinds on damaged or foreign files.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            problem = f"anndata {version('anndata')} cannot read this file: {reason[0]}."
            raise DataError(str(path), [problem]) from error


def _problem_of_path(path: Path) -> str | None:
    if not path.exists():
        return "There is no such file."
    if path.is_dir():
        return "This is a folder; expected a file that AnnData.write_h5ad wrote."
    if not os.access(path, os.R_OK):
        return "There is no permission to read this file."
    if not path.stat().st_size:
        return "The file is empty (0 bytes)."
    return None


def _problem_of_hdf5(path: Path) -> str | None:
    import h5py

    if not h5py.is_hdf5(path):
        with path.open("rb") as file:
            is_gzip = file.read(2) == GZIP_MAGIC
        remedy = " It is compressed: gunzip it first." if is_gzip else ""
        return f"This is not an HDF5 file; expected a file that AnnData.write_h5ad wrote.{remedy}"
    try:
        with h5py.File(path, "r") as file:
            return _problem_of_content(path, set(file))
    except OSError as error:
        return _problem_of_opening(str(error))


def _problem_of_content(path: Path, keys: set[str]) -> str | None:
    if {"obs", "var"} <= keys:
        return None
    held = ", ".join(sorted(keys)) or "nothing"
    remedy = ""
    # Both have a matrix; only a loom file has attributes of its columns.
    if "col_attrs" in keys:
        remedy = f" It looks like a loom file: {_prepare(path, 'loom', ('.loom',))}."
    elif "matrix" in keys:
        remedy = f" It looks like 10x output: {_prepare(path, '10x_h5', ('.h5', '.hdf5'))}."
    return f"This HDF5 file is not AnnData: expected obs, var and X, it holds {held}.{remedy}"


def _prepare(path: Path, kind: str, suffixes: tuple[str, ...]) -> str:
    """Return the command that converts a file to AnnData, with its format if the name does not show it."""
    format_option = "" if path.suffix.lower() in suffixes else f" --input-format {kind}"
    # Loom files often hold the labels, 10x output never does.
    labels = " --labels TABLE" if kind == "10x_h5" else ""
    return f"run-benchmark datasets prepare {shlex.quote(str(path))}{format_option}{labels} --out my.h5ad"


def _problem_of_opening(message: str) -> str:
    sizes = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", message)
    if sizes:
        return (
            f"The file is truncated: {sizes[1]} bytes of {sizes[2]}. "
            "The copy or download was interrupted; fetch it again."
        )
    return f"The file cannot be opened: {message}."
