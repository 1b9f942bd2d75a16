"""Data sets of the catalogue in a folder of the user's own."""

import numpy as np
import pytest

from cellular_bench.core.errors import DataError
from cellular_bench.datasets.catalog import load, specs
from cellular_bench.datasets.sources.local import found_in, how_to_get, is_here


@pytest.fixture
def deposit(tmp_path, adata):
    """A folder as the study's deposit has it: cells without names of their own, patients, two layers."""
    adata.obs_names = ["0", "1", "2", "0", "1", "2"]
    adata.obs["patientID"] = adata.obs["donor"]
    adata.layers["pp_counts"] = adata.X.copy()
    adata.X.data = np.log1p(adata.X.data)
    folder = tmp_path / "processed" / "kidney_cells"
    folder.mkdir(parents=True)
    adata.write_h5ad(folder / "Muto_merged.h5ad")
    return tmp_path


def test_a_file_of_the_deposit_is_found_by_name_and_read_with_its_counts(deposit):
    found = found_in(deposit, specs())
    assert found.keys() == {"kidney"}
    assert is_here(found["kidney"])
    dataset = load(found["kidney"])
    assert dataset.adata.layers["counts"].toarray()[5].tolist() == [0, 0, 0, 7]
    assert dataset.adata.obs_names.is_unique
    assert dataset.adata.obs["batch"].tolist() == ["d1", "d2"] * 3
    assert any("with the same name" in warning for warning in dataset.warnings)


def test_capitals_do_not_matter_and_two_candidates_are_refused(deposit, adata):
    adata.write_h5ad(deposit / "KIDNEY.h5ad")
    with pytest.raises(DataError, match=r"2 files could be 'kidney': KIDNEY\.h5ad, processed/kidney_cells"):
        found_in(deposit, specs())


def test_other_files_are_nobodys(tmp_path):
    for name in ("my_kidney.h5ad", "kidney.csv", "baron.txt"):
        (tmp_path / name).write_text("x")
    assert found_in(tmp_path, specs()) == {}


def test_data_that_nobody_offers_come_in_a_folder_only():
    spec = specs()["pbmc_multistudy"]
    assert not is_here(spec)
    assert how_to_get(spec) == "Put pbmc_multistudy.h5ad into the folder of --data-dir."
    with pytest.raises(DataError, match=r"name that with --data-dir"):
        load(spec)


def test_content_other_than_the_catalogues_is_told(adata, tmp_path):
    adata.obs[["batch", "cell_type"]] = adata.obs[["donor", "cell_type"]]
    adata.write_h5ad(tmp_path / "kang.h5ad")
    dataset = load(found_in(tmp_path, specs())["kang"])
    assert dataset.warnings[0] == "It differs from kang of the catalogue in names or values."


def test_reference_files_are_found(shared):
    found = found_in(shared / "data", specs())
    assert found.keys() == {
        "baron_human", "baron_mouse", "human_dc", "kang", "pbmc_multistudy", "zheng_sorted",
    }  # fmt: skip
