"""Every way in which a data set can break the contract is named, and all are named at once."""

import gzip
import os
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.core.errors import DataError
from cellular_bench.datasets.catalog import from_h5ad, load, validate
from cellular_bench.datasets.contract import conform

Write = Callable[[ad.AnnData], Path]


@pytest.fixture(scope="module")
def documented(repo: Path) -> list[re.Pattern[str]]:
    """The messages of docs/data-contract.md, where an ellipsis stands for what differs."""
    text = (repo / "docs" / "data-contract.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)
    return [re.compile(".*".join(re.escape(part) for part in row.split("…"))) for row in rows]


@pytest.fixture
def problems(documented: list[re.Pattern[str]]) -> Callable[..., list[str]]:
    """Problems of a file; each must be in the documentation."""

    def found(path: Path, **options: str | None) -> list[str]:
        keys = {"batch_key": "donor", "label_key": "cell_type"} | options
        messages = validate(path, **keys)
        for message in messages:
            assert any(pattern.match(message) for pattern in documented), f"not documented: {message}"
        return messages

    return found


def with_value(adata: ad.AnnData, value: float) -> ad.AnnData:
    dense = adata.X.toarray()
    dense[1, 3] = value
    adata.X = sparse.csr_matrix(dense)
    return adata


def test_a_good_file_has_no_problems(adata, write, problems):
    assert problems(write(adata)) == []


def test_no_such_file(tmp_path, problems):
    assert problems(tmp_path / "nothing.h5ad") == ["There is no such file."]


def test_folder(tmp_path, problems):
    assert problems(tmp_path) == ["This is a folder; expected a file that AnnData.write_h5ad wrote."]


def test_file_without_permission(adata, write, problems, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert problems(write(adata)) == ["There is no permission to read this file."]


def test_empty_file(tmp_path, problems):
    path = tmp_path / "empty.h5ad"
    path.touch()
    assert problems(path) == ["The file is empty (0 bytes)."]


def test_text_file(tmp_path, problems):
    path = tmp_path / "table.h5ad"
    path.write_text("gene,c1\ng1,3\n")
    assert problems(path) == ["This is not an HDF5 file; expected a file that AnnData.write_h5ad wrote."]


def test_compressed_file(adata, write, tmp_path, problems):
    path = tmp_path / "data.h5ad.gz"
    path.write_bytes(gzip.compress(write(adata).read_bytes()))
    assert problems(path) == [
        "This is not an HDF5 file; expected a file that AnnData.write_h5ad wrote. "
        "It is compressed: gunzip it first."
    ]


def test_truncated_file(adata, write, problems):
    path = write(adata)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert problems(path) == [
        f"The file is truncated: {len(content) // 2} bytes of {len(content)}. "
        "The copy or download was interrupted; fetch it again."
    ]


def test_hdf5_that_is_not_anndata(tmp_path, problems):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = [1.0]
        file["bias"] = [1.0]
    assert problems(path) == [
        "This HDF5 file is not AnnData: expected obs, var and X, it holds bias, weights."
    ]


def test_10x_output(tmp_path, problems):
    path = tmp_path / "filtered_feature_bc_matrix.h5"
    with h5py.File(path, "w") as file:
        file.create_group("matrix")
    assert problems(path) == [
        "This HDF5 file is not AnnData: expected obs, var and X, it holds matrix. It looks like "
        f"10x output: run-benchmark datasets prepare {path} --labels TABLE --out my.h5ad."
    ]


@pytest.mark.parametrize(("name", "reported"), [("s1.loom", ""), ("s1.h5ad", " --input-format loom")])
def test_loom_file(tmp_path, problems, name, reported):
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        for group in ("col_attrs", "matrix", "row_attrs"):
            file.create_group(group)
    assert problems(path) == [
        "This HDF5 file is not AnnData: expected obs, var and X, it holds col_attrs, matrix, row_attrs. "
        f"It looks like a loom file: run-benchmark datasets prepare {path}{reported} --out my.h5ad."
    ]


def test_damaged_anndata(adata, write, problems):
    path = write(adata)
    with h5py.File(path, "a") as file:
        del file["obs"]
        file["obs"] = [1, 2, 3]
    (message,) = problems(path)
    assert message.startswith(f"anndata {version('anndata')} cannot read this file: ")


def test_cells_and_genes_of_number_zero(adata, write, problems):
    assert problems(write(adata[:0].copy())) == ["There are 0 cells and 4 genes; none may be 0."]
    assert problems(write(adata[:, :0].copy())) == ["There are 6 cells and 0 genes; none may be 0."]


def test_missing_keys_name_the_closest_column_and_all_columns(adata, write, problems):
    assert problems(write(adata), label_key="cell_typ", batch_key="patient") == [
        "Unknown label key 'cell_typ'. Did you mean 'cell_type'? Known: cell_type, donor.",
        "Unknown batch key 'patient'. Known: cell_type, donor.",
    ]


def test_one_column_for_two_roles(adata, write, problems):
    assert problems(write(adata), batch_key="cell_type") == [
        "Batch key and label key are the same column, 'cell_type'."
    ]


@pytest.mark.parametrize("nothing", [None, "", "  ", "nan", "NaN", "<NA>", "<na> "])
def test_cells_without_label(adata, write, problems, nothing):
    adata.obs["cell_type"] = ["alpha", nothing, "beta", "beta", nothing, "alpha"]
    assert problems(write(adata)) == [
        "2 cells ('c2', 'c5') have no label in obs['cell_type'] (empty or NaN). "
        "Remove these cells or name them, for instance 'unknown'."
    ]


@pytest.mark.parametrize("name", ["NA", "None", "none"])
def test_labels_that_only_look_like_nothing(adata, write, problems, name):
    adata.obs["cell_type"] = ["alpha", name, "beta", "beta", name, "alpha"]
    assert problems(write(adata)) == []


def test_cells_without_batch(adata, write, problems):
    adata.obs["donor"] = pd.Categorical(["d1", None, None, None, None, "d2"])
    assert problems(write(adata)) == [
        "4 cells ('c2', 'c3', 'c4', ...) have no batch in obs['donor'] (empty or NaN). "
        "Remove these cells or name them, for instance 'unknown'."
    ]


def test_numeric_column_with_nan(adata, write, problems):
    adata.obs["donor"] = [1.0, 2.0, 1.0, np.nan, 1.0, 2.0]
    assert problems(write(adata)) == [
        "1 cell ('c4') has no batch in obs['donor'] (empty or NaN). "
        "Remove these cells or name them, for instance 'unknown'."
    ]


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        ("x" * 10_000, "A name has 10000 characters ('xxxxxxxxxxxxxxxxxxxx'...); at most 512 are allowed."),
        ("T\tcell", r"The name 'T\tcell' holds the character '\t'. Rename it."),
        ("\x1b[31mT", r"The name '\x1b[31mT' holds the character '\x1b'. Rename it."),
    ],
)
@pytest.mark.parametrize("key", ["cell_type", "donor"])
def test_attack_by_names_that_no_record_keeps(adata, write, problems, key, odd, shown):
    values = adata.obs[key].astype(str).to_numpy(dtype=object)
    values[3] = odd
    adata.obs[key] = pd.Categorical(values)
    (message,) = [message for message in problems(write(adata)) if key in message]
    assert message.startswith(f"obs['{key}']: {shown}")


@pytest.mark.parametrize("odd", ["T\0cell", "T\ud800"])
def test_attack_by_names_that_no_file_keeps(adata, odd):
    """HDF5 cuts the first and refuses the second; data in memory have both."""
    values = adata.obs["cell_type"].astype(str).to_numpy(dtype=object)
    values[3] = odd
    adata.obs["cell_type"] = pd.Series(values, index=adata.obs_names, dtype=object)
    with pytest.raises(DataError, match=r"obs\['cell_type'\]: The name .* holds the character"):
        conform(adata, source="data", label_key="cell_type", batch_key="donor", counts_layer=None)


@pytest.mark.parametrize("what", ["obs_names", "var_names"])
def test_attack_by_names_of_cells_and_genes(adata, write, problems, what):
    setattr(adata, what, [f"\x1b{name}" for name in getattr(adata, what)])
    (message,) = problems(write(adata))
    assert message.startswith(f"Names of {'cells' if what == 'obs_names' else 'genes'}: The name '\\x1b")


def test_column_that_differs_in_every_cell(adata, write, problems):
    adata.obs["n_counts"] = [3.0, 4.0, 5.0, 3.5, 4.5, 7.0]
    assert problems(write(adata), label_key="n_counts") == [
        "obs['n_counts'] has a different value in every cell, so it is no label."
    ]


def test_negative_values(adata, write, problems):
    assert problems(write(with_value(adata, -1.5))) == [
        "In X 1 value is negative, the first -1.5 in cell 'c2', gene 'g4': neither counts nor "
        "log-normalised values (scaled data?). Keep raw counts in a layer and name it (counts layer)."
    ]


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_values_that_are_no_numbers(adata, write, problems, value, shown):
    assert problems(write(with_value(adata, value))) == [
        f"In X 1 value is NaN or infinite, the first {shown} in cell 'c2', gene 'g4'. "
        "Remove these cells or genes, or correct the values."
    ]


def test_values_that_are_neither_counts_nor_logarithms(adata, write, problems):
    assert problems(write(with_value(adata, 812.5))) == [
        "X holds neither counts (not all values are whole numbers) nor log-normalised values (the largest is "
        "812.5, expected below 20). Keep raw counts in a layer and name it (counts layer)."
    ]


def test_scaled_values_beside_a_layer_that_looks_like_counts(adata, write, problems):
    adata.layers["raw counts"] = adata.X.copy()
    (message,) = problems(write(with_value(adata, -1.5)))
    assert message.endswith(
        "Keep raw counts in a layer and name it (counts layer). layers['raw counts'] looks like counts: "
        "--counts-layer 'raw counts'."
    )


def test_no_values(adata, write, problems):
    bare = ad.AnnData(obs=adata.obs, var=adata.var)
    assert problems(write(bare)) == ["X is empty: there are no expression values."]


def test_values_that_are_text(adata, write, problems):
    path = write(adata)
    with h5py.File(path, "a") as file:
        del file["X"]
        ad.io.write_elem(file, "X", np.full((6, 4), "3"))
    assert problems(path) == ["X holds values of type object; expected numbers."]


def test_counts_layer_that_does_not_exist(adata, write, problems):
    adata.layers["counts"] = adata.X.copy()
    assert problems(write(adata), counts_layer="count") == [
        "Unknown counts layer 'count'. Did you mean 'counts'? Known: X, counts."
    ]


def test_counts_layer_that_holds_fractions(adata, write, problems):
    adata.layers["spliced"] = adata.X.copy()
    adata.layers["spliced"].data[:2] = 0.25
    assert problems(write(adata), counts_layer="spliced") == [
        "layers['spliced'] must hold raw counts, but 2 values are not whole, the first 0.25 in cell 'c1', "
        "gene 'g1'. Name the matrix that holds raw counts (counts layer), or none if there is none."
    ]


def test_counts_layer_with_negative_counts(adata, write, problems):
    adata.layers["counts"] = adata.X.copy()
    adata.layers["counts"].data[-1] = -7
    assert problems(write(adata), counts_layer="counts") == [
        "In layers['counts'] 1 value is negative, the first -7 in cell 'c6', gene 'g4': neither counts nor "
        "log-normalised values (scaled data?). Keep raw counts in a layer and name it (counts layer)."
    ]


def test_cells_without_counts(adata, write, problems):
    dense = adata.X.toarray()
    dense[[0, 3]] = 0
    adata.X = sparse.csr_matrix(dense)
    assert problems(write(adata)) == [
        "2 cells ('c1', 'c4') have no counts in any gene. "
        "Remove these cells, for instance with scanpy.pp.filter_cells(adata, min_counts=1)."
    ]


@pytest.mark.filterwarnings("ignore:Observation names are not unique", "ignore:Variable names are not unique")
def test_repeated_names(adata, write, problems):
    adata.obs_names = ["c1", "c1", "c1", "c2", "c2", "c3"]
    adata.var_names = ["INS", "GCG", "INS", "SST"]
    assert problems(write(adata)) == [
        "2 cell names occur more than once: 'c1', 'c2'. "
        "Make them unique, for instance with adata.obs_names_make_unique().",
        "1 gene name occurs more than once: 'INS'. "
        "Make them unique, for instance with adata.var_names_make_unique().",
    ]


def test_all_problems_come_in_one_error(adata, write):
    adata.obs["donor"] = ["d1", None, "d1", "d2", "d1", "d2"]
    path = write(with_value(adata, -1))
    with pytest.raises(DataError) as caught:
        load(from_h5ad(path, batch_key="donor", label_key="celltype"))
    assert caught.value.source == str(path)
    assert [problem[:12] for problem in caught.value.problems] == [
        "Unknown labe",
        "1 cell ('c2'",
        "In X 1 value",
    ]
    assert str(caught.value).startswith(f"{path} cannot be used:\n  - Unknown label key")
    assert caught.value.exit_code == 2
