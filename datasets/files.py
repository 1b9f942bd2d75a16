"""Read a file that is meant to be AnnData, and say in plain words why it cannot be read."""

from __future__ import annotations

import os
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cellular_bench.benchmark.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

GZIP_MAGIC = b"\x1f\x8b"


def read_h5ad(path: Path) -> AnnData:
    """Read an ``.h5ad`` file whole.

    Raises
    ------
    DataError
        If there is no such file, or it is not a complete AnnData file.
    """
    import anndata

    problem = _problem_of_path(path) or _problem_of_hdf5(path)
    if problem:
        raise DataError(str(path), [problem])
    with warnings.catch_warnings():
        # Old files and repeated names: the first read well, the second are reported by the contract.
        warnings.simplefilter("ignore")
        try:
            return anndata.read_h5ad(path)
        except Exception as error:
            # Whatever anndata raises on a damaged or foreign file is about the file.
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
            return _problem_of_content(set(file))
    except OSError as error:
        return _problem_of_opening(str(error))


def _problem_of_content(keys: set[str]) -> str | None:
    if {"obs", "var"} <= keys:
        return None
    held = ", ".join(sorted(keys)) or "nothing"
    remedy = ""
    if "matrix" in keys:
        remedy = " It looks like 10x output: read it with scanpy.read_10x_h5, add the labels, write_h5ad."
    return f"This HDF5 file is not AnnData: expected obs, var and X, it holds {held}.{remedy}"


def _problem_of_opening(message: str) -> str:
    sizes = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", message)
    if sizes:
        return (
            f"The file is truncated: {sizes[1]} bytes of {sizes[2]}. "
            "The copy or download was interrupted; fetch it again."
        )
    return f"The file cannot be opened: {message}."
