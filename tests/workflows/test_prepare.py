"""Preparing: counts are found wherever they are, and nothing is written by halves."""

import resource
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.core.errors import DataError, UnknownNameError
from cellular_bench.datasets.h5ad import writable
from cellular_bench.workflows.prepare import PrepareRequest, prepare

N_OBS, N_VARS = 30, 40


def cells(seed: int = 0, **obs: object) -> ad.AnnData:
    counts = np.random.default_rng(seed).poisson(2, (N_OBS, N_VARS)).astype(np.float32)
    names = [f"s{seed}_{i}" for i in range(N_OBS)]
    var = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(N_VARS)])
    return ad.AnnData(sparse.csr_matrix(counts), pd.DataFrame({"kind": "a", **obs}, index=names), var)


def done(tmp_path: Path, *raw: ad.AnnData, **options: object) -> tuple[ad.AnnData, str]:
    paths = []
    for number, adata in enumerate(raw):
        paths.append(tmp_path / f"s{number}.h5ad")
        adata.write_h5ad(paths[-1])
    made = prepare(PrepareRequest.of(raw=paths, out=tmp_path / "out.h5ad", **options))
    return ad.read_h5ad(tmp_path / "out.h5ad"), "\n".join(made.lines)


def lognorm(adata: ad.AnnData) -> ad.AnnData:
    made = adata.copy()
    made.X = sparse.csr_matrix(np.log1p(adata.X.toarray() / adata.X.sum(axis=1).A * 1e4))
    return made


@pytest.mark.parametrize("place", ["X", "counts", "raw", "raw alone", "umi"])
def test_counts_are_found_where_validation_finds_them(tmp_path, place):
    whole = cells()
    given = whole if place == "X" else lognorm(whole)
    if place in ("counts", "umi"):
        given.layers[place] = whole.X.copy()
    elif place.startswith("raw"):
        given.raw = whole
    if place == "raw alone":
        given.X = None
    options = {}
    if place == "umi":
        with pytest.raises(DataError, match=r"layers\['umi'\] looks like counts: --counts-layer umi"):
            done(tmp_path, given)
        options = {"counts_layer": "umi"}
    made, _ = done(tmp_path, given, **options)
    np.testing.assert_array_equal(made.layers["counts"].toarray(), whole.X.toarray())


@pytest.mark.parametrize("where", ["var", "raw"])
@pytest.mark.parametrize("n_kept", [N_VARS, 10])
def test_symbols_are_found_in_var_or_raw(tmp_path, where, n_kept):
    """The layout of CELLxGENE, whole or cut to some genes."""
    whole = cells()
    symbols = [f"GENE{i}" for i in range(N_VARS)]
    given = lognorm(whole)
    if where == "var":
        given.var["feature_name"] = symbols
    else:
        whole.var["feature_name"] = symbols
    given = given[:, :n_kept].copy()
    given.raw = whole
    made, said = done(tmp_path, given, gene_column="feature_name")
    n_known = n_kept if where == "var" else N_VARS
    assert made.var_names.tolist() == symbols[:n_known] + whole.var_names[n_known:].tolist()
    assert made.var["gene_ids"].tolist() == whole.var_names.tolist()
    assert ("have no symbol" in said) == (n_known < N_VARS)
    np.testing.assert_array_equal(made.layers["counts"].toarray(), whole.X.toarray())


def test_a_column_that_is_text_in_one_sample_is_text(tmp_path):
    made, said = done(tmp_path, cells(0, stage="adult"), cells(1, stage=12))
    assert made.obs["stage"].astype(str).value_counts().to_dict() == {"adult": N_OBS, "12": N_OBS}
    assert "note: Columns of obs with values of several or unusual types are text: 'stage'." in said


STRANGE = {
    "lists": [[1], [2, 3]],
    "dates": pd.to_datetime(["2020-01-01", "2020-01-02"]),
    "spans": pd.to_timedelta([1, 2], "s"),
    "mixed": ["a", 1],
    "missing": ["a", np.nan],
    "numbers or nothing": [1, None],
    "complex": [1j, 2j],
    "intervals": pd.cut([1, 2], 2),
    "a/b": [1, 2],
    "_index": [1, 2],
    7: [True, False],
    "text": pd.array(["a", None], dtype="string"),
    "whole": pd.array([1, None], dtype="Int64"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_every_column_can_be_written(tmp_path, name):
    frame = pd.DataFrame({name: STRANGE[name]}, index=["c1", "c2"])
    table, _ = writable(frame, "obs")
    ad.AnnData(np.ones((2, 1), "f4"), obs=table).write_h5ad(tmp_path / "x.h5ad")
    read = ad.read_h5ad(tmp_path / "x.h5ad").obs
    (column,) = read.columns
    for value, given in zip(read[column].astype(object), frame[name], strict=True):
        if np.ndim(given) == 0 and pd.isna(given):
            assert pd.isna(value) or value == ""
        else:
            assert value == given or value == str(given)


def test_columns_whose_names_become_one_are_both_written(tmp_path):
    table, _ = writable(pd.DataFrame([[1, 2]], index=["c"], columns=["a/b", "a_b"]), "obs")
    assert table.loc["c"].to_dict() == {"a_b": 1, "a_b-1": 2}


def test_versions_of_ids_are_left_out_where_samples_differ_in_them(tmp_path):
    plain, versions = cells(0), cells(1)
    versions.var_names = [f"{name}.{i % 4 + 1}" for i, name in enumerate(plain.var_names)]
    made, said = done(tmp_path, plain, versions)
    assert made.var_names.tolist() == plain.var_names.tolist()
    assert (
        "note: Versions of Ensembl ids, as in ENSG00000139618.19, are left out to match genes, in s1." in said
    )
    # Two versions of one gene cannot both have its id.
    names = list(versions.var_names)
    names[1] = names[0].partition(".")[0] + ".9"
    versions.var_names = names
    made, _ = done(tmp_path, plain, versions)
    assert made.var_names.tolist() == plain.var_names[2:].tolist()
    # Samples that agree keep theirs.
    made, said = done(tmp_path, versions, versions[:, :30].copy())
    assert made.var_names.tolist() == names[:30]
    assert "Versions" not in said


def test_columns_of_a_table_that_are_no_genes_are_told_and_can_be_named(tmp_path):
    counts = pd.DataFrame(cells().X.toarray().astype(int), columns=cells().var_names)
    counts.insert(0, "leiden", 1)
    counts.to_csv(tmp_path / "t.csv")
    out = tmp_path / "out.h5ad"

    def made(**options: object) -> tuple[ad.AnnData, str]:
        lines = prepare(PrepareRequest.of(raw=tmp_path / "t.csv", out=out, **options)).lines
        return ad.read_h5ad(out), lines[0]

    adata, said = made()
    assert (adata.n_vars, adata.obs["leiden"].unique().tolist()) == (N_VARS, [1])
    assert said.startswith("note: t: Numbers that are no genes went into obs: leiden. If that is wrong, ")
    adata, said = made(obs_columns="none")
    assert adata.n_vars == N_VARS + 1
    assert "into obs" not in said
    adata, _ = made(obs_columns=("leiden", counts.columns[1]))
    assert adata.n_vars == N_VARS - 1
    with pytest.raises(UnknownNameError, match=r"Unknown column \(--obs-columns\) 'lieden'. Did you mean"):
        made(obs_columns=("lieden", "leiden"))


def test_a_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    done(tmp_path, cells())
    before = (tmp_path / "out.h5ad").read_bytes()
    listed = sorted(tmp_path.iterdir())

    def half(file: h5py.File, name: str, elem: object, **options: object) -> None:
        file["X"] = np.ones(1000)
        raise ValueError("in the middle")

    monkeypatch.setattr("anndata.io.write_elem", half)
    with pytest.raises(ValueError, match="in the middle"):
        prepare(PrepareRequest.of(raw=tmp_path / "s0.h5ad", out=tmp_path / "out.h5ad"))
    assert (tmp_path / "out.h5ad").read_bytes() == before
    assert sorted(tmp_path.iterdir()) == listed


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files")
@pytest.mark.parametrize("n_bytes", [100, 10_000, 25_000])
def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(tmp_path, n_bytes):
    cells().write_h5ad(tmp_path / "s.h5ad")
    code = "import sys; from cellular_bench.cli import main; sys.argv[0] = 'run-benchmark'; main()"
    out = tmp_path / "made" / "out.h5ad"
    command = [sys.executable, "-c", code, "datasets", "prepare", tmp_path / "s.h5ad", "--out", out]
    ended = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes)),
    )
    assert (ended.returncode, ended.stderr) == (1, f"Error: {out}: File too large.\n")
    assert list(out.parent.iterdir()) == []
