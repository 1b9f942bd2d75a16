"""Cells on which our methods and the originals were run, and what the originals gave for them.

Tests get this module as the fixture ``fidelity``; scripts in ``benchmarks/fidelity`` import the file.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cellular_bench.benchmark.analysis.fidelity import DISTANCES, agreements
from cellular_bench.core import keys
from cellular_bench.core.genes import variable_genes
from cellular_bench.datasets import catalog
from cellular_bench.datasets.preprocess import normalise

#: Outputs of the originals on the small cells, made by the scripts in ``benchmarks/fidelity``.
SMALL = Path(__file__).parent / "data" / "fidelity"
#: File with all cells of each golden split, in the folder ``data`` of the reference data.
GOLDEN_DATA = {"baron": "baron_human_pancreas.h5ad", "pbmc": "pbmc_multistudy.h5ad"}
#: About so many cells are drawn, at least so many of each type; a quarter are query cells.
N_CELLS, LEAST_PER_TYPE = 400, 12


@cache
def _small() -> tuple[AnnData, AnnData]:
    cells = catalog.load(catalog.specs()["baron"]).adata
    label = np.asarray(cells.obs[keys.LABEL], dtype=str)
    rng = np.random.default_rng(20200515)
    train, query = [], []
    for name, n_there in zip(*np.unique(label, return_counts=True), strict=True):
        if n_there < LEAST_PER_TYPE:
            continue
        n_drawn = max(LEAST_PER_TYPE, round(N_CELLS * n_there / len(label)))
        drawn = rng.permutation(np.flatnonzero(label == name))[:n_drawn]
        query.append(drawn[: n_drawn // 4])
        train.append(drawn[n_drawn // 4 :])
    parts = [np.sort(np.concatenate(rows)) for rows in (train, query)]
    return _views(cells, *parts, None)


def _views(cells: AnnData, train: np.ndarray, query: np.ndarray, hvg: np.ndarray | None) -> tuple:
    """Return training and query cells as adapters get them, labels of both included."""
    views = [cells[rows].copy() for rows in (train, query)]
    for view in views:
        view.obs = view.obs[[keys.BATCH, keys.LABEL]].copy()
        for column in view.obs:
            view.obs[column] = view.obs[column].cat.remove_unused_categories()
        view.var[keys.HIGHLY_VARIABLE] = variable_genes(views[0].X) if hvg is None else hvg
    return views[0], views[1]


def small_split() -> tuple[AnnData, AnnData]:
    """Return 323 training and 104 query cells of 12 types of the bundled pancreas data, in their order.

    ``X`` is log1p of counts per 10,000, ``layers["counts"]`` has counts, ``var["highly_variable"]`` marks the
    2,000 ``cell_ranger`` genes of the training cells, ``obs`` has batch and label. All 4,078 genes are there;
    :func:`of_variable_genes` keeps the marked ones, as methods with ``features="hvg"`` get them.
    """
    train, query = _small()
    return train.copy(), query.copy()


@cache
def _golden(name: str, shared: Path) -> tuple[AnnData, AnnData]:
    folder = shared / "golden" / "fidelity"
    chosen = pd.read_csv(folder / f"{name}_cells.csv.gz")
    genes = pd.read_csv(folder / f"{name}_genes.csv.gz").set_index("gene")
    raw = anndata.read_h5ad(shared / "data" / GOLDEN_DATA[name])[chosen["cell"], genes.index]
    # Counts per 10,000 are over the genes that were given, not over all.
    cells = AnnData(normalise(raw.X), obs=raw.obs[["batch", "cell_type"]], var=raw.var[[]])
    cells.layers[keys.COUNTS] = raw.X
    cells.obs = cells.obs.rename(columns={"cell_type": keys.LABEL}).astype(str).astype("category")
    rows = [np.flatnonzero(chosen["part"] == part) for part in ("train", "test")]
    return _views(cells, *rows, genes["hvg"].to_numpy())


def golden_split(name: str, shared: Path) -> tuple[AnnData, AnnData]:
    """Return training and query cells of the golden split ``"baron"`` or ``"pbmc"``, laid out alike.

    Parameters
    ----------
    shared
        Folder with reference data, as the fixture of this name gives it.
    """
    if not (shared / "golden" / "fidelity").is_dir():
        pytest.skip("outputs of the original methods are not in the reference data")
    train, query = _golden(name, shared)
    return train.copy(), query.copy()


def golden_table(name: str, shared: Path) -> pd.DataFrame:
    """Return a table of outputs of an original, such as ``"baron.scibet_cpm"``: one row per cell.

    Labels that R writes as ``NA`` are read as they stand.
    """
    path = shared / "golden" / "fidelity" / f"{name}.csv.gz"
    if not path.is_file():
        pytest.skip("outputs of the original methods are not in the reference data")
    return pd.read_csv(path, keep_default_na=False, na_values={"siml": ["NA", ""]})


def golden_arrays(name: str, shared: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an original, such as ``"pbmc.scnym_sup.orig_new.0"``."""
    path = shared / "golden" / "fidelity" / f"{name}.npz"
    if not path.is_file():
        pytest.skip("outputs of the original methods are not in the reference data")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def small_table(name: str) -> pd.DataFrame:
    """Return a table of outputs of an original on the small cells, such as ``"scibet"``."""
    return pd.read_csv(SMALL / f"{name}.csv.gz", keep_default_na=False)


def network_values() -> ModuleType:
    """Return ``benchmarks/fidelity/network_values.py``: the weights and inputs of small networks."""
    path = Path(__file__).parents[1] / "benchmarks" / "fidelity" / "network_values.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network_outputs(name: str) -> dict[str, np.ndarray]:
    """Return the outputs of an original's small network by name, (n_obs, n_columns) each."""
    rows = small_table(name).set_index(["cell", "column"])
    return {str(output): part["value"].unstack().to_numpy() for output, part in rows.groupby("output")}


def of_variable_genes(cells: AnnData) -> AnnData:
    """Return the cells with the highly variable genes alone."""
    found = cells[:, cells.var[keys.HIGHLY_VARIABLE]].copy()
    del found.var[keys.HIGHLY_VARIABLE]
    return found


def equal_share(ours: object, original: object) -> float:
    """Return the share of cells with the same label."""
    return float((np.asarray(ours, dtype=str) == np.asarray(original, dtype=str)).mean())


def largest_difference(ours: object, original: object) -> float:
    """Return the largest absolute difference of two arrays."""
    return float(np.abs(np.asarray(ours, dtype=float) - np.asarray(original, dtype=float)).max())


def shared_neighbours(ours: np.ndarray, original: np.ndarray, *, k: int = 15) -> float:
    """Return the share of the ``k`` nearest neighbours that cells have in both embeddings."""
    pairs = zip(_nearest(ours, k), _nearest(original, k), strict=True)
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in pairs]))


def without_signs(embedding: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Turn components by which an embedding points the other way than another one."""
    return embedding * np.sign((embedding * other).sum(axis=0))


def _nearest(X: np.ndarray, k: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)


def assert_recorded(method_id: str, data: str, original: str = "", **measured: float) -> None:
    """Fail where the file of measured agreement says something else than a test has just measured.

    Parameters
    ----------
    original
        Part of the name of the original, where several were run.
    measured
        Value of each measure, such as ``labels=0.998``: those in the file must be all that are given.
    """
    rows = {
        row.measure: row
        for row in agreements()[method_id].comparisons
        if row.data == data and original in row.original
    }
    assert set(rows) == set(measured), f"{method_id}, {data}: measured {measured}, recorded {sorted(rows)}"
    for measure, value in measured.items():
        low, high = rows[measure].agreement
        if measure in DISTANCES:
            # The last digits depend on the machine.
            assert value <= 2 * high, f"{method_id}, {data}: {measure} is {value}, recorded {high}"
        else:
            assert low <= round(value, 3) <= high, f"{method_id}, {data}: {measure} is {value}"
