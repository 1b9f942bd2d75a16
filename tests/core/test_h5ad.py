"""Files can be read without a recent anndata."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cellular_bench.core.h5ad import write_h5ad


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_text_is_written_as_plain_arrays(tmp_path, dtype) -> None:
    adata = AnnData(np.ones((3, 2), dtype=np.float32))
    adata.obs_names, adata.var_names = ["c1", "c2", "NA"], ["g1", "g2"]
    adata.obs["label"] = pd.Series(["a", "a", "b"], index=adata.obs_names, dtype=dtype)
    write_h5ad(adata, tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad") as file:
        for names in (file["obs/_index"], file["var/_index"], file["obs/label/categories"]):
            assert isinstance(names, h5py.Dataset)
            assert names.attrs["encoding-type"] == "string-array"
        assert file["obs/_index"][()].tolist() == [b"c1", b"c2", b"NA"]
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert again.obs_names.tolist() == ["c1", "c2", "NA"]
    assert again.obs["label"].tolist() == ["a", "a", "b"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_text_stays_missing(tmp_path, missing) -> None:
    adata = AnnData(np.ones((4, 2), dtype=np.float32))
    adata.obs["note"] = pd.array(["x", missing, "y", "z"], dtype="string")
    adata.obs["label"] = pd.array(["a", missing, "b", "a"], dtype="string")
    write_h5ad(adata, tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    for column in ("note", "label"):
        assert again.obs[column].isna().tolist() == [False, True, False, False]


def test_settings_are_left_alone(tmp_path) -> None:
    before = anndata.settings.allow_write_nullable_strings
    write_h5ad(AnnData(np.ones((3, 2), dtype=np.float32)), tmp_path / "a.h5ad")
    assert anndata.settings.allow_write_nullable_strings == before
