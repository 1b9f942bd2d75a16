"""The same six cells in every form that people have them, whole and broken."""

import gzip
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from cellular_bench.core.errors import DataError, UnknownNameError
from cellular_bench.datasets.preparation.genes import are_ensembl, make_unique, name_genes, read_mapping
from cellular_bench.datasets.preparation.join import sample_name
from cellular_bench.datasets.preparation.readers import detect, read, read_10x_mtx, read_table

COUNTS = np.array([[1, 0, 2, 0], [0, 3, 0, 1], [5, 0, 0, 0]])
CELLS = ["AAAC-1", "AAAG-1", "AAAT-1"]
GENES = ["ACTB", "GAPDH", "B2M", "NOVEL1"]
IDS = ["ENSG00000075624", "ENSG00000111640", "ENSG00000166710", "ENSG00000000000"]


def check(adata: ad.AnnData, *, names: list[str] = GENES) -> None:
    assert sparse.issparse(adata.X)
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.obs_names.tolist() == CELLS
    assert adata.var_names.tolist() == names


def write_10x_h5(path: Path, *, extra: bool = False) -> Path:
    genes, ids, counts = list(GENES), list(IDS), COUNTS
    types = ["Gene Expression"] * 4
    if extra:
        genes, ids, types = [*genes, "CD3"], [*ids, "CD3"], [*types, "Antibody Capture"]
        counts = np.column_stack([counts, [9, 9, 9]])
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        group["shape"] = [counts.shape[1], counts.shape[0]]
        group["barcodes"] = np.array(CELLS, dtype="S")
        features = group.create_group("features")
        features["id"], features["name"] = np.array(ids, dtype="S"), np.array(genes, dtype="S")
        features["feature_type"], features["genome"] = (
            np.array(types, dtype="S"),
            np.array(["x"] * len(ids), "S"),
        )
    return path


def write_mtx(folder: Path, *, version: int = 3, prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mmwrite(folder / "m.mtx", sparse.coo_matrix(COUNTS.T))
    matrix = (folder / "m.mtx").read_bytes()
    (folder / "m.mtx").unlink()
    rows = [
        f"{i}\t{gene}" + ("\tGene Expression" if version == 3 else "")
        for i, gene in zip(IDS, GENES, strict=True)
    ]
    files = {
        "matrix.mtx": matrix,
        "barcodes.tsv": "\n".join(CELLS).encode(),
        "features.tsv" if version == 3 else "genes.tsv": "\n".join(rows).encode(),
    }
    for name, content in files.items():
        if version == 3:
            (folder / f"{prefix}{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / f"{prefix}{name}").write_bytes(content)
    return folder


def write_loom(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["matrix"] = COUNTS.T
        file.create_group("layers")
        file.create_group("row_attrs")["Gene"] = np.array(GENES, dtype="S")
        columns = file.create_group("col_attrs")
        columns["CellID"] = np.array(CELLS, dtype="S")
        columns["donor"] = np.array(["d1", "d2", "d1"], dtype="S")
    return path


def write_table(path: Path, *, rows: str = "cells", extra: bool = False) -> Path:
    frame = pd.DataFrame(COUNTS, index=CELLS, columns=GENES)
    if extra:
        frame.insert(0, "donor", ["d1", "d2", "d1"])
    if rows == "genes":
        frame = frame.T
    frame.to_csv(path, sep="\t" if ".tsv" in path.name else ",")
    return path


def test_h5ad(tmp_path):
    adata = ad.AnnData(sparse.csr_matrix(COUNTS), pd.DataFrame(index=CELLS), pd.DataFrame(index=GENES))
    adata.write_h5ad(tmp_path / "x.h5ad")
    check(read(tmp_path / "x.h5ad"))


@pytest.mark.parametrize("extra", [False, True])
def test_10x_h5_keeps_ids_and_only_genes(tmp_path, extra):
    adata = read(write_10x_h5(tmp_path / "x.h5", extra=extra))
    check(adata)
    assert adata.var["gene_ids"].tolist() == IDS


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("prefix", ["", "GSM1_"])
def test_10x_folders(tmp_path, version, prefix):
    adata = read(write_mtx(tmp_path / "x", version=version, prefix=prefix))
    check(adata)
    assert adata.var["gene_ids"].tolist() == IDS


def test_a_10x_folder_below_the_one_named_is_found(tmp_path):
    write_mtx(tmp_path / "x" / "filtered_matrices_mex" / "hg19", version=2)
    check(read(tmp_path / "x"))


def test_10x_folders_that_are_not_whole(tmp_path):
    folder = write_mtx(tmp_path / "x", version=2)
    (folder / "genes.tsv").write_text("ENSG1\tACTB\n")
    with pytest.raises(DataError, match=r"4 genes and 3 cells, but genes.tsv has 1 rows and barcodes.tsv 3"):
        read_10x_mtx(folder)
    (folder / "genes.tsv").unlink()
    with pytest.raises(DataError, match=r"There is no features.tsv or genes.tsv beside matrix.mtx"):
        read_10x_mtx(folder)
    (folder / "matrix.mtx").unlink()
    with pytest.raises(DataError, match=r"Expected one file matrix.mtx .* found: none"):
        read_10x_mtx(folder)


def test_loom_without_the_loom_library(tmp_path):
    adata = read(write_loom(tmp_path / "x.loom"))
    check(adata)
    assert adata.obs["donor"].tolist() == ["d1", "d2", "d1"]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.tsv", "x.tsv.gz"])
@pytest.mark.parametrize("rows", ["cells", "genes"])
@pytest.mark.parametrize("orientation", ["auto", "given"])
def test_tables_in_both_orientations(tmp_path, name, rows, orientation):
    path = write_table(tmp_path / name, rows=rows)
    check(read(path, orientation="auto" if orientation == "auto" else rows))


def test_tables_are_read_in_pieces_with_their_other_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("cellular_bench.datasets.preparation.readers.CHUNK_ROWS", 2)
    adata = read(write_table(tmp_path / "x.csv", extra=True))
    check(adata)
    assert adata.obs["donor"].tolist() == ["d1", "d2", "d1"]


def test_a_txt_file_with_commas(tmp_path):
    write_table(tmp_path / "x.csv").rename(tmp_path / "x.txt")
    check(read(tmp_path / "x.txt"))


@pytest.mark.parametrize("separator", [";", " ", "  "])
@pytest.mark.parametrize("first", ["id", ""])
def test_tables_with_semicolons_or_spaces(tmp_path, separator, first):
    frame = pd.DataFrame(COUNTS, index=CELLS, columns=GENES)
    rows = [[first, *GENES] if first else GENES, *([cell, *map(str, row)] for cell, row in frame.T.items())]
    (tmp_path / "x.txt").write_text("\n".join(separator.join(row) for row in rows))
    check(read(tmp_path / "x.txt"))


def test_quoted_names_of_write_table_may_hold_spaces(tmp_path):
    (tmp_path / "x.txt").write_text('"ACTB" "B2M"\n"cell 1" 1 2\n"cell 2" 3 4\n')
    adata = read(tmp_path / "x.txt")
    assert adata.obs_names.tolist() == ["cell 1", "cell 2"]
    assert adata.X.toarray().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("rows", ["cells", "genes"])
def test_names_are_text_as_it_stands_in_the_file(tmp_path, monkeypatch, rows):
    monkeypatch.setattr("cellular_bench.datasets.preparation.readers.CHUNK_ROWS", 1)
    cells, genes = ["000", "01", "1e3"], ["ACTB", "NA", "nan", ""]
    frame = pd.DataFrame(COUNTS, index=cells, columns=genes)
    (frame if rows == "cells" else frame.T).to_csv(tmp_path / "x.csv")
    adata = read(tmp_path / "x.csv")
    assert adata.obs_names.tolist() == cells
    assert adata.var_names[:3].tolist() == genes[:3]
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("rows", ["cells", "genes"])
def test_repeated_genes_of_tables_get_the_usual_number_and_note(tmp_path, rows):
    frame = pd.DataFrame(COUNTS, index=CELLS, columns=["ACTB", "B2M", "ACTB", "NOVEL1"])
    (frame if rows == "cells" else frame.T).to_csv(tmp_path / "x.csv")
    adata, (note,) = name_genes(read(tmp_path / "x.csv"))
    check(adata, names=["ACTB", "B2M", "ACTB-1", "NOVEL1"])
    assert note == "1 gene has the name of another gene and got a number: 'ACTB'."


def test_decimal_commas_are_found_beside_missing_text(tmp_path):
    (tmp_path / "x.csv").write_text(";type;ACTB;B2M\nc1;;1;2,5\nc2;a;2;3,5\n")
    with pytest.raises(DataError, match=r"'B2M' has decimal commas \('2,5'\)"):
        read(tmp_path / "x.csv")


def test_repeated_columns_of_text_are_both_kept(tmp_path):
    (tmp_path / "x.csv").write_text(",type,ACTB,type\nc1,a,1,b\nc2,c,2,d\n")
    obs = read(tmp_path / "x.csv").obs
    assert obs.to_dict("list") == {"type": ["a", "c"], "type-1": ["b", "d"]}


def test_unknown_names_are_not_guessed(tmp_path):
    (tmp_path / "x.csv").write_text(",a,b\nc,1,2\nd,3,4\n")
    with pytest.raises(DataError, match=r"Neither its 2 rows nor its 2 columns .*\(--orientation\)"):
        read(tmp_path / "x.csv")
    assert read(tmp_path / "x.csv", orientation="genes").obs_names.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (",ACTB,B2M\nc1,1,2\nc2,3\n", "no number in row 'c2', column 'B2M': the file is truncated"),
        (",ACTB,B2M\n", "a first row of names and no further rows"),
        ("", "It has no first row of names: the table is empty"),
        (",ACTB,B2M\nc1,a,b\n", "No column holds numbers"),
        ("ACTB|B2M\nc1|1|2\n", "No column holds numbers: does the table have another separator"),
        ("cell 1 cell 2\nACTB 1 2\n", "No column holds numbers: does the table have another separator"),
        (";ACTB;B2M\nc1;1;0\nc2;2;1,5\n", r"Column 'B2M' has decimal commas \('1,5'\)"),
        (",ACTB,B2M\nc1,1,2,3,4\nc2,1,2\n", "first row has 3 names, the next one 5 entries"),
    ],
)
def test_broken_tables(tmp_path, content, message):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.csv")


def cut(path: Path, keep: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (write_10x_h5, "x.h5", "truncated"),
        (write_loom, "x.loom", "truncated"),
        (write_table, "x.csv.gz", "truncated or damaged"),
    ],
)
def test_truncated_files_say_so(tmp_path, make, name, message):
    with pytest.raises(DataError, match=message):
        read(cut(make(tmp_path / name)))


def test_truncated_matrices_say_so(tmp_path):
    folder = write_mtx(tmp_path / "plain", version=2)
    cut(folder / "matrix.mtx", 0.9)
    with pytest.raises(DataError, match=r"matrix.mtx cannot be used:\n  - .*(truncated|Matrix Market)"):
        read(folder)
    folder = write_mtx(tmp_path / "gzipped")
    cut(folder / "matrix.mtx.gz")
    with pytest.raises(DataError, match="truncated or damaged"):
        read(folder)


def test_what_is_not_there_or_not_known(tmp_path):
    with pytest.raises(DataError, match="There is no such file"):
        read(tmp_path / "x.h5ad")
    (tmp_path / "x.rds").write_bytes(b"1")
    with pytest.raises(DataError, match=r"does not say what it is: .*\.loom"):
        read(tmp_path / "x.rds")
    with pytest.raises(UnknownNameError, match=r"Unknown format 'tabel'\. Did you mean 'table'"):
        read(tmp_path / "x.rds", format="tabel")
    with h5py.File(tmp_path / "x.loom", "w") as file:
        file["weights"] = [1]
    with pytest.raises(DataError, match="not a loom file: it lacks matrix, row_attrs, col_attrs"):
        read(tmp_path / "x.loom")
    with pytest.raises(DataError, match="No 10x HDF5"):
        read(tmp_path / "x.loom", format="10x_h5")
    assert detect(tmp_path) == "10x_mtx"


def with_ids(**columns: list[str]) -> ad.AnnData:
    return ad.AnnData(sparse.csr_matrix(COUNTS), pd.DataFrame(index=CELLS), pd.DataFrame(columns, index=IDS))


def test_ids_become_symbols_by_a_column_of_var():
    adata, warnings = name_genes(with_ids(feature_name=["ACTB", "GAPDH", "B2M", float("nan")]))
    check(adata, names=["ACTB", "GAPDH", "B2M", IDS[3]])
    assert adata.var["gene_ids"].tolist() == IDS
    assert warnings == (f"1 of 4 genes have no symbol and keep their name: '{IDS[3]}'.",)


def test_ids_become_symbols_by_a_table(tmp_path):
    rows = [f"{i}.7\t{gene}" for i, gene in zip(IDS, GENES, strict=True)]
    (tmp_path / "genes.tsv").write_text("\n".join(["gene_id\tsymbol", *rows, ""]))
    adata, warnings = name_genes(with_ids(), mapping=read_mapping(tmp_path / "genes.tsv"))
    check(adata)
    assert warnings == ()


def test_ids_without_symbols_are_kept_with_a_warning():
    adata, (warning,) = name_genes(with_ids())
    assert adata.var_names.tolist() == IDS
    assert "named by Ensembl id" in warning


def test_symbols_are_left_as_they_are():
    source = ad.AnnData(COUNTS, pd.DataFrame(index=CELLS), pd.DataFrame({"feature_name": IDS}, index=GENES))
    adata, warnings = name_genes(source)
    assert adata.var_names.tolist() == GENES
    assert warnings == ()


def test_a_column_can_be_named_and_must_exist():
    adata, _ = name_genes(with_ids(mine=GENES), column="mine")
    assert adata.var_names.tolist() == GENES
    with pytest.raises(UnknownNameError, match=r"Unknown column of var 'mein'\. Did you mean 'mine'"):
        name_genes(with_ids(mine=GENES), column="mein")


def test_repeated_names_get_numbers_and_a_warning():
    adata, (warning,) = name_genes(with_ids(Gene=["ACTB", "ACTB", "B2M", "ACTB"]))
    assert adata.var_names.tolist() == ["ACTB", "ACTB-1", "B2M", "ACTB-2"]
    assert warning == "2 genes have the name of another gene and got a number: 'ACTB'."


def test_a_number_that_is_taken_is_not_given_again():
    names = make_unique(["A", "A-1", "A", "A"])
    assert names == ["A", "A-1", "A-2", "A-3"]


def test_what_is_an_ensembl_id():
    assert are_ensembl(IDS)
    assert are_ensembl(["ENSMUSG00000041147.4"])
    assert not are_ensembl(GENES)
    assert not are_ensembl([])


def test_tables_of_genes_that_cannot_be_used(tmp_path):
    path = tmp_path / "genes.tsv"
    with pytest.raises(DataError, match="Cannot read this table of genes"):
        read_mapping(path)
    path.write_text(f"{IDS[0]}\tACTB\n{IDS[1]}\n")
    with pytest.raises(DataError, match="Line 2 has one column"):
        read_mapping(path)
    path.write_text(f"{IDS[0]}\tACTB\n{IDS[0]}.2\tGAPDH\n")
    with pytest.raises(DataError, match="has two symbols: 'ACTB' and 'GAPDH'"):
        read_mapping(path)


def test_read_table_refuses_other_orientations(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'genes'"):
        read_table(write_table(tmp_path / "x.csv"), orientation="gene")


def test_a_sample_has_the_name_that_it_was_given_with(tmp_path):
    (tmp_path / "GSM1_counts.csv.gz").touch()
    (tmp_path / "donor1.csv.gz").symlink_to(tmp_path / "GSM1_counts.csv.gz")
    assert sample_name(tmp_path / "donor1.csv.gz") == "donor1"
    assert sample_name(tmp_path / "GSM1_counts.csv.gz") == "GSM1_counts"
