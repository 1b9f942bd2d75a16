"""Build one AnnData from the files of a deposit: one function per layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.core.errors import DataError
from cellular_bench.datasets.h5ad import read_h5ad
from cellular_bench.datasets.preparation.genes import name_genes
from cellular_bench.datasets.preparation.readers import read_10x_mtx, read_table
from cellular_bench.datasets.sources import wheels

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Raised whenever a function below changes its result, so that cached results are built again.
VERSION = 1
#: Columns of a table of GEO GSE84133 that are not genes.
BARON_COLUMNS = ("barcode", "assigned_cluster")

Builder = Callable[[Mapping[str, Path]], "AnnData"]


def h5ad(files: Mapping[str, Path]) -> AnnData:
    """Read the one AnnData file of a deposit."""
    (path,) = files.values()
    return read_h5ad(path)


def in_archive(files: Mapping[str, Path]) -> AnnData:
    """Read one AnnData file of an unpacked archive; the key of ``files`` ends with the name of the file."""
    ((name, folder),) = files.items()
    paths = [path for path in sorted(folder.rglob("*.h5ad")) if name.endswith(f".{path.name}")]
    if len(paths) != 1:
        held = ", ".join(path.name for path in sorted(folder.rglob("*.h5ad"))) or "none"
        problem = f"{len(paths)} files of it are the one that is wanted ({name}); its h5ad files: {held}."
        raise DataError(str(folder), [problem])
    return read_h5ad(paths[0])


def tenx_with_labels(files: Mapping[str, Path]) -> AnnData:
    """Read a 10x folder and a table with the columns ``barcodes`` and ``celltype``, in any order.

    Cells without a label are dropped; ``obs["cell_type"]`` holds the labels.
    """
    folder = _first(files, Path.is_dir, "an archive to unpack")
    labels = _labels(files, key="barcodes")
    adata, _ = name_genes(read_10x_mtx(folder))
    return _labelled(adata, labels[["celltype"]].rename(columns={"celltype": "cell_type"}), folder)


def tenx_sorted(files: Mapping[str, Path]) -> AnnData:
    """Concatenate 10x folders of sorted populations, which are named after the files.

    ``obs["cell_type"]`` holds the population, which is also the prefix of the names of cells, because
    barcodes recur between folders.
    """
    import anndata

    parts = []
    for name, folder in files.items():
        part, _ = name_genes(read_10x_mtx(folder))
        population = name.partition("_filtered")[0]
        part.obs["cell_type"] = population
        part.obs_names = [f"{population}_{barcode}" for barcode in part.obs_names]
        parts.append(part)
    return anndata.concat(parts, join="inner", merge="first")


def table_with_labels(files: Mapping[str, Path]) -> AnnData:
    """Read a genes x cells table, and a table with ``CellName``, ``Sample`` and ``CellType`` (GSE115469)."""
    table = _first(files, lambda path: ".csv" in path.suffixes, "a table .csv")
    labels = _labels(files, key="CellName")
    adata, _ = name_genes(read_table(table, orientation="genes"))
    columns = {"Sample": "patientID", "CellType": "cell_type"}
    return _labelled(adata, labels[list(columns)].rename(columns=columns), table)


def baron_geo(files: Mapping[str, Path]) -> AnnData:
    """Concatenate the donors of GEO GSE84133 of one species: cells x genes tables with the authors' labels.

    ``files`` holds the unpacked archive; its key ends with the species (``.human``).
    """
    import anndata

    ((name, folder),) = files.items()
    species = name.rpartition(".")[2]
    pattern = re.compile(rf"_({species}\d+)_umifm_counts\.csv(\.gz)?$")
    tables = [(hit[1], path) for path in sorted(folder.rglob("*")) if (hit := pattern.search(path.name))]
    if not tables:
        raise DataError(str(folder), [f"There is no table *_{species}N_umifm_counts.csv.gz in it."])
    return anndata.concat([_baron_donor(path, donor) for donor, path in tables], join="inner")


def by_hand(files: Mapping[str, Path]) -> AnnData:
    """Raise an error that the files have to be prepared by hand, as the manifest describes."""
    places = ", ".join(str(path) for path in files.values())
    problem = (
        f"Its files are there ({places}), and have to be prepared by hand: run-benchmark datasets info says "
        "how. Use the result with --adata."
    )
    raise DataError("This data set", [problem])


def _baron_donor(path: Path, donor: str) -> AnnData:
    adata, _ = name_genes(read_table(path, orientation="cells"))
    absent = [name for name in BARON_COLUMNS if name not in adata.obs]
    if absent:
        raise DataError(str(path), [f"It lacks the column {', '.join(absent)}."])
    adata.obs = adata.obs[["assigned_cluster"]].rename(columns={"assigned_cluster": "cell_type"})
    adata.obs["patientID"] = donor
    return adata


def _first(files: Mapping[str, Path], is_wanted: Callable[[Path], bool], what: str) -> Path:
    for path in files.values():
        if is_wanted(path):
            return path
    raise DataError(", ".join(files), [f"Its builder reads {what}, which is not among the files."])


def _labels(files: Mapping[str, Path], *, key: str) -> pd.DataFrame:
    import pandas as pd

    candidates = [path for path in files.values() if path.is_file()]
    for path in candidates:
        table = pd.read_csv(path, sep="\t", dtype=str, nrows=1)
        if key in table.columns:
            return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).set_index(key)
    names = ", ".join(path.name for path in candidates) or "none"
    raise DataError(names, [f"No table of labels with the column '{key}' is among the files."])


def _labelled(adata: AnnData, labels: pd.DataFrame, path: Path) -> AnnData:
    """Add labels by the names of cells, not by their order."""
    known = np.asarray(adata.obs_names.isin(labels.index))
    if not known.any():
        problem = (
            f"No cell of it has a label: its cells are called {list(adata.obs_names[:2])}, those with labels "
            f"{list(labels.index[:2])}."
        )
        raise DataError(str(path), [problem])
    kept = adata[known].copy()
    chosen: Any = labels.loc[kept.obs_names]
    for column in labels.columns:
        kept.obs[column] = chosen[column].to_numpy()
    return kept


#: Functions that a manifest can name as ``builder``.
BUILDERS: Mapping[str, Builder] = {
    "h5ad": h5ad,
    "in_archive": in_archive,
    "tenx_with_labels": tenx_with_labels,
    "tenx_sorted": tenx_sorted,
    "table_with_labels": table_with_labels,
    "baron_geo": baron_geo,
    "by_hand": by_hand,
    "baron_human": wheels.baron_human,
    "baron_mouse": wheels.baron_mouse,
    "kang": wheels.kang,
}
