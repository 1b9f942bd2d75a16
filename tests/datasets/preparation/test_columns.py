"""Numbers of a table that are no genes are kept out of the matrix."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.datasets.catalog import load, specs
from cellular_bench.datasets.preparation.columns import OF_CELLS, not_genes
from cellular_bench.datasets.preparation.readers import read_table

N_OBS, N_VARS = 40, 60
GENES = ["ACTB", "GAPDH", *(f"G{i}" for i in range(N_VARS - 2))]


@pytest.fixture
def counts() -> pd.DataFrame:
    values = np.random.default_rng(0).poisson(2, (N_OBS, N_VARS))
    return pd.DataFrame(values, index=[f"c{i}" for i in range(N_OBS)], columns=GENES)


def others(counts: pd.DataFrame, names: dict[str, str]) -> dict[str, pd.Series]:
    """What tables hold beside genes, under the names of some program."""
    rng = np.random.default_rng(1)
    made = {
        "total": counts.sum(axis=1),
        "n_genes": (counts > 0).sum(axis=1),
        "share": pd.Series(rng.random(N_OBS).round(3), counts.index),
        "cluster": pd.Series(rng.integers(0, 4, N_OBS), counts.index),
        "coordinate": pd.Series(rng.normal(size=N_OBS).round(3), counts.index),
    }
    return {names[what]: values for what, values in made.items() if what in names}


PROGRAMS = {
    "Seurat": ("nCount_RNA", "nFeature_RNA", "percent.mt", "seurat_clusters", "UMAP_1"),
    "scanpy": ("total_counts", "n_genes_by_counts", "pct_counts_mt", "leiden", "X_umap_2"),
    "nobody": ("reads in cell", "diversity", "quality", "group", "axis"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("end", ["first", "last", "both"])
@pytest.mark.parametrize("rows", ["cells", "genes"])
def test_what_is_no_gene_goes_into_obs(counts, tmp_path: Path, program, end, rows):
    names = dict(zip(("total", "n_genes", "share", "cluster", "coordinate"), PROGRAMS[program], strict=True))
    columns = list(others(counts, names).items())
    n_first = {"first": 5, "last": 0, "both": 2}[end]
    frame = counts.copy()
    for name, values in reversed(columns[:n_first]):
        frame.insert(0, name, values)
    for name, values in columns[n_first:]:
        frame[name] = values
    (frame if rows == "cells" else frame.T).to_csv(tmp_path / "x.csv")
    adata = read_table(tmp_path / "x.csv")
    assert adata.var_names.tolist() == GENES
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    assert set(adata.obs) == set(names.values())
    for name, values in columns:
        np.testing.assert_allclose(adata.obs[name], values)
    assert adata.obs[names["cluster"]].dtype.kind == "i"


def test_totals_between_genes_are_found(counts, tmp_path: Path):
    counts.insert(30, "all of them", counts.sum(axis=1))
    counts.to_csv(tmp_path / "x.csv")
    assert read_table(tmp_path / "x.csv").obs.columns.tolist() == ["all of them"]


def test_columns_that_are_named_are_moved_and_no_others(counts, tmp_path: Path):
    frame = counts.assign(age=3, leiden=1)
    frame.to_csv(tmp_path / "x.csv")
    adata = read_table(tmp_path / "x.csv", obs_columns=["age", "G3"])
    assert set(adata.obs) == {"age", "G3"}
    assert "leiden" in adata.var_names
    assert read_table(tmp_path / "x.csv", obs_columns=[]).n_vars == N_VARS + 2


def test_genes_stay_genes(counts):
    assert not not_genes(sparse.csr_matrix(counts.to_numpy())).any()
    # Estimated counts have fractions in any gene; log-normalised values everywhere.
    estimated = counts.to_numpy(float, copy=True)
    estimated[:, ::3] += 0.25
    assert not not_genes(sparse.csr_matrix(estimated)).any()
    assert not not_genes(sparse.csr_matrix(np.log1p(estimated))).any()
    # In few cells or genes, one may be the sum of the others by chance.
    assert not not_genes(sparse.csr_matrix([[1, 2, 3], [2, 2, 4]])).any()


def test_no_gene_has_a_name_that_other_columns_have():
    names = [*load(specs()["baron"]).adata.var_names, *load(specs()["pbmc68k_reduced"]).adata.var_names]
    names += ["PCA3", "PC", "PCNA", "AGER", "SPHK1", "FA2H", "DC1", "MT-CO1", "NCOUNT", "Phax", "STAR", "CLU"]
    taken = [name for name in names if OF_CELLS.fullmatch(name)]
    assert taken == ["NCOUNT"]


@pytest.mark.parametrize(
    "name",
    ["nCount_SCT", "nFeature_ADT", "percent_mito", "percent.rb", "pct_counts_in_top_50_genes",
     "log1p_total_counts", "nUMI", "nGene", "RNA_snn_res.0.8", "integrated_snn_res.1", "louvain",
     "leiden_0.5", "leiden_r1", "doublet_score", "predicted_doublet", "pANN_0.25_0.09_913", "S.Score",
     "G2M_score", "tSNE_2", "PC_10", "X_pca_1", "orig.ident", "cluster", "cluster_id", "size_factor",
     "age", "batch", "sample_id", "__no_feature", "N_unmapped"],
)  # fmt: skip
def test_names_of_measurements_of_cells(name: str):
    assert OF_CELLS.fullmatch(name)


def test_lengths_of_genes_are_no_cells(counts, tmp_path: Path):
    frame = counts.T
    frame.insert(0, "Length", 1000)
    frame.to_csv(tmp_path / "x.csv")
    adata = read_table(tmp_path / "x.csv")
    assert adata.n_obs == N_OBS
    assert adata.var["Length"].unique().tolist() == [1000]


def test_what_is_no_gene_may_be_missing_or_text_in_some_cells(counts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("cellular_bench.datasets.preparation.readers.CHUNK_ROWS", 10)
    age = pd.Series(30.0, index=counts.index).astype(object)
    age.iloc[3] = np.nan
    age.iloc[15] = "unknown"
    counts.assign(age=age).to_csv(tmp_path / "x.csv")
    adata = read_table(tmp_path / "x.csv")
    assert adata.var_names.tolist() == GENES
    assert adata.obs["age"].iloc[15] == "unknown"
    assert pd.isna(adata.obs["age"].iloc[3])
