"""Files are read as far as they can be; what is left out is named."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.core.errors import DataError
from cellular_bench.datasets.catalog import from_h5ad, load, validate
from cellular_bench.datasets.preparation import readers


def said(dataset):
    """Return the warnings of a data set, except that it has few cells, which six cells are."""
    return tuple(text for text in dataset.warnings if "with fewer than 10 cells" not in text)


KEYS = {"batch_key": "donor", "label_key": "cell_type"}
REASON = "No read method registered"


def full(adata: ad.AnnData) -> ad.AnnData:
    """Something in every place of a file."""
    adata.layers["other"] = adata.X.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.obs["score"] = 1.0
    adata.var["length"] = 1.0
    adata.obsm["X_pca"] = np.ones((6, 2))
    adata.varm["PCs"] = np.ones((4, 2))
    adata.obsp["distances"] = sparse.eye(6, format="csr")
    adata.varp["links"] = np.eye(4)
    adata.uns["model"] = {"weights": np.ones(3)}
    adata.raw = adata.copy()
    return adata


def spoil(path: Path, *names: str) -> Path:
    """Give elements an encoding of a later version."""
    with h5py.File(path, "r+") as file:
        for name in names:
            file[name].attrs["encoding-type"] = "of-a-later-version"
    return path


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("uns/model", "uns['model']"),
        ("uns/model/weights", "uns['model']"),
        ("obsm/X_pca", "obsm['X_pca']"),
        ("varm/PCs", "varm['PCs']"),
        ("obsp/distances", "obsp['distances']"),
        ("varp/links", "varp['links']"),
        ("layers/other", "layers['other']"),
        ("obs/score", "obs['score']"),
        ("var/length", "var['length']"),
        ("raw/var/length", "raw.var['length']"),
        ("raw/X", "raw"),
    ],
)
def test_what_nobody_asked_for_is_left_out_and_named(adata, write, name, shown):
    expected = load(from_h5ad(write(full(adata)), **KEYS))
    dataset = load(from_h5ad(spoil(write(adata), name), **KEYS))
    assert dataset.digest == expected.digest
    (note,) = said(dataset)
    assert note.startswith(f"{shown} is left out: it cannot be read ({REASON}")


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("obs/cell_type", {}, "obs['cell_type'] cannot be read: "),
        ("obs/donor", {}, "obs['donor'] cannot be read: "),
        ("layers/other", {"counts_layer": "other"}, "layers['other'] cannot be read: "),
        ("raw/X", {"counts_layer": "raw"}, "raw cannot be read: "),
        ("X", {}, "anndata"),
        ("obs/_index", {}, "anndata"),
        ("var/_index", {}, "anndata"),
    ],
)
def test_what_is_needed_must_be_readable(adata, write, name, options, shown):
    path = spoil(write(full(adata)), name)
    (problem,) = validate(path, **KEYS | options)
    assert problem.startswith(shown)


def test_a_layer_of_counts_must_be_readable_if_x_holds_none(adata, write):
    full(adata).X = np.log1p(adata.X.toarray())
    adata.raw = None
    (problem,) = validate(spoil(write(adata), "layers/counts"), **KEYS)
    assert problem.startswith("layers['counts'] cannot be read: ")


def mudata(path: Path, adata: ad.AnnData, *names: str, common: pd.DataFrame | None = None) -> Path:
    """Write a file as the package mudata lays it out."""
    from anndata.io import write_elem

    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "MuData", "0.1.0"
        write_elem(file, "obs", adata.obs[[]] if common is None else common)
        write_elem(file, "var", adata.var)
        modalities = file.create_group("mod")
        for name in names:
            write_elem(modalities, name, adata)
    return path


@pytest.mark.parametrize("names", [("rna", "prot"), ("atac", "GEX"), ("rna",)])
def test_the_rna_of_mudata_is_read(adata, write, tmp_path, names):
    rna = next(name for name in names if name.lower() in ("rna", "gex"))
    dataset = load(from_h5ad(mudata(tmp_path / "x.h5mu", adata, *names), **KEYS))
    assert dataset.digest == load(from_h5ad(write(adata), **KEYS)).digest
    others = ", ".join(sorted(set(names) - {rna})) or "none"
    assert said(dataset) == (f"The modality '{rna}' of this MuData file is read. Others: {others}.",)


def test_labels_of_mudata_may_be_common_to_all_modalities(adata, tmp_path):
    bare = adata.copy()
    bare.obs = adata.obs[["donor"]]
    common = adata.obs[["cell_type"]].iloc[::-1]  # by name, in any order
    dataset = load(from_h5ad(mudata(tmp_path / "x.h5mu", bare, "rna", common=common), **KEYS))
    assert dataset.adata.obs["label"].tolist() == adata.obs["cell_type"].tolist()


@pytest.mark.parametrize("names", [("atac", "prot"), ("rna", "gex")])
def test_modalities_are_named_if_none_or_two_are_rna(adata, tmp_path, names):
    (problem,) = validate(mudata(tmp_path / "x.h5mu", adata, *names), **KEYS)
    assert problem == (
        "This is a MuData file, and which of its modalities is RNA is not clear: "
        f"{', '.join(sorted(names))}. "
        'Write that one: mudata.read("FILE")["NAME"].write_h5ad("my.h5ad").'
    )


@pytest.mark.filterwarnings("ignore")
def test_zarr_stores_are_read(adata, write, tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    adata.write_zarr(tmp_path / "x.zarr")
    dataset = load(from_h5ad(tmp_path / "x.zarr", **KEYS))
    assert dataset.digest == load(from_h5ad(write(adata), **KEYS)).digest
    assert readers.read(tmp_path / "x.zarr").shape == (6, 4)
    monkeypatch.setattr("cellular_bench.datasets.h5ad.find_spec", lambda name: None)
    (problem,) = validate(tmp_path / "x.zarr", **KEYS)
    assert problem.startswith("This is a zarr store, and zarr is not installed: pip install zarr, or ")


def test_prepare_names_what_it_leaves_out(adata, write, tmp_path):
    from cellular_bench.datasets.preparation.join import Reading, join

    path = spoil(write(full(adata)), "uns/model", "obs/score")
    joined, notes = join([path])
    assert set(joined.obs) == {"donor", "cell_type", "batch"}
    assert [note.partition(" is left out")[0] for note in notes[:2]] == [
        "data: obs['score']",
        "data: uns['model']",
    ]
    with pytest.raises(DataError, match=r"obs\['score'\] cannot be read: No read method"):
        join([path], reading=Reading(batch_key="score"))
