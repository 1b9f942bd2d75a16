"""Read an AnnData file, with clear messages about files that cannot be read."""

from __future__ import annotations

import logging
import os
import re
import shlex
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import DataError
from cellular_bench.core.h5ad import problem_of_storage, problem_of_store
from cellular_bench.core.sparse_checks import sparse_problems
from cellular_bench.datasets.elements import read_elements, read_table_of, reason_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

LOG = logging.getLogger(__name__)
#: Entries of ``uns`` with what was left out while reading (name and reason), and other notes.
LEFT_OUT, NOTES = "cellular_bench_left_out", "cellular_bench_notes"
#: What modalities of MuData with gene expression are called, in small letters.
RNA_NAMES = frozenset({"rna", "gex", "gene expression", "gene_expression", "scrna"})
GZIP_MAGIC = b"\x1f\x8b"


def read_h5ad(path: Path) -> AnnData:
    """Read an ``.h5ad`` file, a zarr store, or the RNA of an ``.h5mu`` file, into memory.

    What cannot be read, and is no expression and no name, is left out; :func:`notes_of` names it.

    Raises
    ------
    DataError
        If the file does not exist, is not a complete AnnData file, or shows values of other files.
    """
    adata = _read_zarr(path) if is_zarr(path) else _read_hdf5(path)
    if problems := sparse_problems(adata):
        raise DataError(str(path), problems)
    return adata


def _read_hdf5(path: Path) -> AnnData:
    import anndata
    import h5py

    problem = _problem_of_path(path) or _problem_of_hdf5(path)
    if problem:
        raise DataError(str(path), [problem])
    with h5py.File(path, "r") as file:
        return _read_group(path, file, anndata.read_h5ad)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr store."""
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def notes_of(adata: AnnData) -> list[str]:
    """Return what was left out while reading, one sentence each."""
    notes = [
        f"{name} is left out: it cannot be read ({reason})."
        for name, reason in adata.uns.get(LEFT_OUT, {}).items()
    ]
    return [*notes, *adata.uns.get(NOTES, ())]


def unreadable(adata: AnnData, name: str) -> str | None:
    """Return the problem of an entry that was left out while reading; None if there is none.

    Parameters
    ----------
    adata
        What :func:`read_h5ad` returned.
    name
        Place and key, such as ``obs['cell_type']``.
    """
    reason = adata.uns.get(LEFT_OUT, {}).get(name)
    return reason and f"{name} cannot be read: {reason}."


def _read_zarr(path: Path) -> AnnData:
    if find_spec("zarr") is None:
        problem = (
            "This is a zarr store, and zarr is not installed: pip install zarr, or write an h5ad file: "
            'anndata.read_zarr(folder).write_h5ad("my.h5ad").'
        )
        raise DataError(str(path), [problem])
    import anndata
    import zarr

    elsewhere = problem_of_store(path)
    if elsewhere is not None:
        raise DataError(str(path), [elsewhere])
    try:
        group = zarr.open_group(str(path), mode="r")
    except Exception as error:
        # zarr raises errors of many kinds on damaged stores.
        raise DataError(str(path), [f"This zarr store cannot be opened: {reason_of(error)}."]) from error
    absent = _problem_of_content(path, set(group))
    if absent:
        raise DataError(str(path), [absent])
    return _read_group(path, group, anndata.read_zarr)


def _read_group(path: Path, group: Any, read: Callable[[Path], AnnData]) -> AnnData:
    """Read AnnData, or the RNA of MuData, from an open file; ``read`` reads all of an AnnData file."""
    with warnings.catch_warnings():
        # Warnings about files of old versions, and about repeated names, which the contract reports.
        warnings.simplefilter("ignore")
        try:
            is_mudata = "mod" in group and group.attrs.get("encoding-type") == "MuData"
            if is_mudata:
                name = _rna_of(path, list(group["mod"]))
                adata, left_out = read_elements(group["mod"][name])
                _add_columns(adata, group, left_out)
            else:
                adata, left_out = _read_all_or_elements(path, group, read)
        except DataError:
            raise
        except Exception as error:
            # anndata raises errors of many kinds on damaged or foreign files.
            problem = f"anndata {version('anndata')} cannot read this file: {reason_of(error)}."
            raise DataError(str(path), [problem]) from error
    if left_out:
        adata.uns[LEFT_OUT] = left_out
    if is_mudata:
        others = ", ".join(other for other in group["mod"] if other != name) or "none"
        adata.uns[NOTES] = [f"The modality '{name}' of this MuData file is read. Others: {others}."]
    return adata


def _read_all_or_elements(
    path: Path, group: Any, read: Callable[[Path], AnnData]
) -> tuple[AnnData, dict[str, str]]:
    try:
        return read(path), {}
    except Exception as error:
        LOG.info("%s is read element by element: %s", path, error)
        try:
            return read_elements(group)
        except Exception as second:
            LOG.info("which failed, too: %s", second)
            raise error from second


def _rna_of(path: Path, names: list[str]) -> str:
    found = [name for name in names if name.casefold() in RNA_NAMES]
    if len(found) == 1:
        return found[0]
    problem = (
        f"This is a MuData file, and which of its modalities is RNA is not clear: {', '.join(names)}. "
        'Write that one: mudata.read("FILE")["NAME"].write_h5ad("my.h5ad").'
    )
    raise DataError(str(path), [problem])


def _add_columns(adata: AnnData, group: Any, left_out: dict[str, str]) -> None:
    """Add the columns of ``obs`` that MuData holds for all modalities, often the labels."""
    common = read_table_of(group, "obs", left_out)
    if common.index.is_unique:
        rest = common.reindex(adata.obs_names)
        adata.obs = adata.obs.assign(**{name: rest[name] for name in rest if name not in adata.obs})


def writable(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return a table of which an h5ad file can hold every column: as text if not otherwise.

    Parameters
    ----------
    table
        ``obs`` or ``var``. Not modified.
    name
        Which of them, for the notes.

    Returns
    -------
    table
        Its columns have unique text as names.
    notes
        One sentence about the columns that were changed.
    """
    import pandas as pd

    made = pd.DataFrame(index=table.index.astype(str).rename(None))
    changed = []
    for place, title in enumerate(table.columns):
        column = table.iloc[:, place].set_axis(made.index)
        # HDF5 takes a slash as a path, and anndata keeps the index under this name.
        new = str(title).replace("/", "_") if title != "_index" else "index"
        while new in made:
            new = f"{new}-1"
        if not _can_be_written(column):
            known = column.notna()
            text = column[known].map(str)
            if not all(isinstance(value, str) for value in column[known]):
                changed.append(f"'{new}'")
            # Text with missing values is written as categories only.
            column = text.astype(object) if known.all() else text.reindex(column.index).astype("category")
        made[new] = column
    if not changed:
        return made, []
    return made, [
        f"Columns of {name} with values of several or unusual types are text: {', '.join(changed)}."
    ]


def _can_be_written(column: pd.Series[Any]) -> bool:
    import h5py
    import pandas as pd
    from anndata.io import write_elem

    with h5py.File("column", "w", driver="core", backing_store=False) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            write_elem(file, "column", pd.DataFrame({"column": column}))
        except Exception as error:
            LOG.info("column '%s' cannot be written as it is: %s", column.name, error)
            return False
    return True


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
            return _problem_of_content(path, set(file)) or problem_of_storage(file)
    except (OSError, RuntimeError, ValueError, LookupError) as error:  # all that h5py raises on damaged files
        return _problem_of_opening(str(error.args[0] if error.args else error))


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
