"""The commands as a user types them."""

import gzip
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.benchmark.results.store import Store
from cellular_bench.cli import LazyGroup
from cellular_bench.cli.options import NameList
from cellular_bench.datasets import catalog

SMALL = ("run", "--dataset", "simulated_small", "--jobs", 2)


@pytest.fixture(scope="module")
def results(run_benchmark, tmp_path_factory) -> Path:
    """A small result folder: two tasks, controls and a method or two each."""
    out = tmp_path_factory.mktemp("cli") / "out"
    methods = "pca,perfect_labels,shuffled,knn,true_labels,random_label"
    done = run_benchmark(
        *SMALL, "--task", "integration", "--task", "annotation", "--method", methods, "--n-splits", 2,
        "--split", "kfold", "--out", out, "--no-figures", "--no-leak-canary",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "Unknown command 'rnu'. Did you mean 'run'?"),
        (["list", "metods"], "'metods' is not one of 'methods', 'metrics', 'datasets', 'suites'"),
        (["run", "--method", "harmoni"], "Unknown method 'harmoni'. Did you mean 'harmony'?"),
        (["run", "--dataset", "barom"], "Unknown data set 'barom'. Did you mean 'baron'?"),
        (["run", "--suite", "quikstart"], "Unknown suite 'quikstart'. Did you mean 'quickstart'?"),
        (["run", "--adata", "absent.h5ad", "--label-key", "x"], "absent.h5ad"),
        (["run", "--adata", "x.h5ad"], "There is no such file"),
        (["run", "--batch-key", "donor"], "describe --adata, which is missing"),
        (["run", "--n-splits", "3"], "are options of --split, which is missing"),
        (
            ["run", "--split", "kfold", "--unseen", "type1"],
            "--unseen is for --split unseen-label or private-label, not for kfold.",
        ),
        (
            ["score", "--embedding", __file__, "--obsm", "X", "--batch-key", "b", "--label-key", "l"],
            "--obsm names embeddings of --adata, which is missing.",
        ),
        (["run", "--param", "knn=3"], "is not of the form METHOD.NAME=VALUE"),
        (["run", "--param", "knn.k=3"], "Unknown knn parameter 'k'"),
        (["run", "--method", "singler", "--param", "singler.marker_method=aux"], "Did you mean 'auc'?"),
        (["run", "--suite", "paper", "--param", "scibet.q=1"], "Unknown scibet parameter 'q'"),
        (
            ["run", "--task", "novelty", "--method", "harmony"],
            "'harmony' is an integration method; you asked for novelty only",
        ),
        (["run", "--seeds", "a"], "'a' is not a list of whole numbers"),
        (["run", "--seeds", ","], "names nothing"),
        (["run", "--method", ","], "',' names nothing"),
        (["run", "--time-limit", "nan"], "'nan' is not a number above 0"),
        (["run", "--executor", "dask"], "kind 'dask' needs scheduler"),
        (["run", "--executor", "slurm"], "kind 'slurm' needs a table [[workers]]"),
        (["run", "--executor", "local", "--scheduler", "tcp://x:1"], "--scheduler is the address of"),
        (["run", "--slurm-config", "absent.toml"], "absent.toml"),
        (["run", "--reuse", "absent"], "absent"),
        (["compare", ".", "."], "is not a result folder"),
        (["run", "--memory-limit", "0"], "'0' is not a number above 0"),
        (["run", "--adata", "x.h5ad", "--label-key", "y", "--dataset", "baron"], "Give either --adata or"),
        (["check", "harmoni"], "Did you mean 'harmony'?"),
        (["check", "absent.py"], "absent.py does not exist"),
        (["score"], "either --predictions FILE, or --adata FILE"),
        (["score", "--adata", "x.h5ad"], "--adata needs --batch-key, --label-key or both"),
    ],
)  # fmt: skip
def test_a_wrong_request_ends_with_code_2_and_no_traceback(
    run_benchmark, tmp_path, arguments, message: str
) -> None:
    done = run_benchmark(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split()).replace("│ ", "")
    assert "Traceback" not in done.stderr
    assert " cells x " not in done.stdout, "data were read first"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["", *(name for name in LazyGroup.commands_in if name != "datasets")])
def test_help_has_examples(run_benchmark, command: str) -> None:
    done = run_benchmark(*command.split(), "--help")
    assert done.returncode == 0
    assert "Examples: run-benchmark " in " ".join(done.stdout.split())


def test_lists_come_as_json(run_benchmark) -> None:
    for kind, key in (("methods", "method_id"), ("metrics", "metric_id"), ("datasets", "dataset_id")):
        rows = json.loads(run_benchmark("list", kind, "--format", "json").stdout)
        names = [row[key] for row in rows]
        assert len(names) == len(set(names)) > 3


def test_run_writes_a_leaderboard_with_the_controls_at_its_ends(results: Path) -> None:
    scores = pd.read_csv(results / "scores.csv")
    assert {"leaderboard.html", "leaderboard.md", "suite.json"} <= {path.name for path in results.iterdir()}
    accuracy = scores[scores.metric_id == "accuracy"].groupby("method_id").value.mean()
    assert accuracy["true_labels"] == 1.0
    assert accuracy["random_label"] < accuracy["knn"] <= 1.0
    nmi = scores[scores.metric_id == "leiden_nmi"].groupby("method_id").value.mean()
    assert nmi["shuffled"] < 0.3 < nmi["pca"] <= nmi["perfect_labels"]


def test_running_again_does_nothing_new(run_benchmark, results: Path) -> None:
    records = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/record.json")}
    assert len(records) == 12
    methods = "pca,perfect_labels,shuffled,knn,true_labels,random_label"
    done = run_benchmark(
        *SMALL, "--task", "integration", "--task", "annotation", "--method", methods, "--n-splits", 2,
        "--split", "kfold", "--out", results, "--no-figures",
    )  # fmt: skip
    assert "12 runs, 0 to do" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in records} == records


@pytest.fixture
def halves(results: Path, tmp_path: Path) -> list[Path]:
    """The results as two folders, one for each task."""
    folders = [tmp_path / "annotation", tmp_path / "integration"]
    for folder, other in zip(folders, reversed(folders), strict=True):
        shutil.copytree(results, folder, ignore=shutil.ignore_patterns(f"{other.name}-*", "leaderboard*"))
    return folders


def test_several_folders_make_one_board(run_benchmark, halves: list[Path], tmp_path: Path) -> None:
    refused = run_benchmark("report", *halves, "--no-figures")
    assert refused.returncode == 2
    assert "Several folders need a place for their report: give --out" in refused.stderr
    assert run_benchmark("report", *halves, "--out", tmp_path / "board", "--no-figures").returncode == 0
    scores = pd.read_csv(tmp_path / "board" / "scores.csv")
    assert scores.groupby("task").run_id.nunique().to_dict() == {"annotation": 6, "integration": 6}
    assert not (halves[0] / "leaderboard.html").exists()


def test_a_site_is_written_beside_the_results(run_benchmark, halves: list[Path], tmp_path: Path) -> None:
    assert run_benchmark("report", halves[0], "--site", tmp_path / "site", "--no-figures").returncode == 0
    written = {path.name for path in (tmp_path / "site").iterdir()}
    assert written == {"index.html", "annotation.html", "annotation.json", "annotation-summary.json"}
    (board,) = json.loads((tmp_path / "site" / "annotation.json").read_text("utf-8"))
    truth = next(row for row in board["rows"] if row["method"]["method_id"] == "true_labels")
    assert truth["metrics"]["accuracy"]["mean"] == 1.0


def test_a_site_takes_no_options_of_a_report_in_a_folder(
    run_benchmark, halves: list[Path], tmp_path: Path
) -> None:
    for option in (["--format", "latex"], ["--out", tmp_path / "out"]):
        refused = run_benchmark("report", halves[0], "--site", tmp_path / "site", *option)
        assert refused.returncode == 2
        assert "leave out --out and --format" in refused.stderr
    assert not (tmp_path / "site").exists()


def test_watching_ends_with_the_benchmark(run_benchmark, halves: list[Path]) -> None:
    ended = threading.Event()

    def benchmark() -> None:
        with Store.open(halves[0]).locked():
            started.set()
            ended.wait(timeout=20)

    started = threading.Event()
    other = threading.Thread(target=benchmark)
    other.start()
    assert started.wait(timeout=20)
    threading.Timer(1.0, ended.set).start()
    watched = run_benchmark("report", halves[0], "--watch", "--interval", 0.2, "--no-figures")
    assert watched.returncode == 0
    assert ended.is_set()
    other.join()
    live = (halves[0] / "live.html").read_text("utf-8")
    assert "<b>6 of 12 runs done</b>, stopped." in live
    assert (halves[0] / "leaderboard.html").exists()


def test_status_merge_and_reuse_from_the_command_line(run_benchmark, results: Path, tmp_path) -> None:
    reported = run_benchmark("status", results)
    assert reported.returncode == 0, reported.stderr
    assert reported.stdout.splitlines()[0] == "12 of 12 runs done; complete."

    merged = run_benchmark("merge", results, "--out", tmp_path / "merged")
    assert merged.returncode == 0, merged.stderr
    assert "12 records in" in merged.stdout

    again = run_benchmark(
        *SMALL, "--task", "annotation", "--method", "true_labels,knn", "--n-splits", 2, "--split", "kfold",
        "--reuse", tmp_path / "merged", "--out", tmp_path / "new", "--no-figures",
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 runs copied from other folders" in again.stdout
    assert "4 runs, 0 to do" in again.stdout

    record = next((tmp_path / "new" / "runs").glob("*knn*/record.json"))
    record.write_text("{")
    report = run_benchmark("report", tmp_path / "new", "--no-figures")
    assert report.returncode == 0, report.stderr
    assert "Left out, as damaged" in report.stderr
    assert "3 of 4 runs done; stopped." in run_benchmark("status", tmp_path / "new").stdout


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("knn, pca ", ("knn", "pca")),
        ('"CD4-positive, alpha-beta T cell",B', ("CD4-positive, alpha-beta T cell", "B")),
        ('"B cell "', ("B cell ",)),
    ],
)
def test_names_with_commas_and_outer_spaces_stand_in_quotes(text: str, names: tuple[str, ...]) -> None:
    assert NameList().convert(text, None, None) == names


def test_rescore_repairs_changed_scores(run_benchmark, results: Path) -> None:
    path = sorted(results.glob("runs/annotation*knn*/record.json"))[0]
    original = path.read_text()
    record = json.loads(original)
    record["scores"][0]["value"] = 0.123
    path.write_text(json.dumps(record))
    done = run_benchmark("rescore", results)
    assert done.returncode == 0, done.stderr
    assert "1 records changed" in done.stdout
    assert json.loads(path.read_text()) == json.loads(original)


def test_rescore_names_what_it_cannot_score_and_the_same_command_brings_the_data_back(
    run_benchmark, tmp_path: Path
) -> None:
    command = (
        *SMALL, "--task", "integration", "--method", "pca,combat", "--split", "all", "--seeds", 0,
        "--out", tmp_path / "a", "--no-figures",
    )  # fmt: skip
    assert run_benchmark(*command).returncode == 0
    paths = {name: next(tmp_path.glob(f"a/runs/*-{name}-*/record.json")) for name in ("pca", "combat")}
    originals = {name: json.loads(path.read_text()) for name, path in paths.items()}
    shutil.rmtree(tmp_path / "a" / "data")
    for name, path in paths.items():
        changed = originals[name]["scores"]
        path.write_text(json.dumps(originals[name] | {"scores": changed[1:]}))
    rescored = run_benchmark("rescore", tmp_path / "a")
    assert rescored.returncode == 1
    assert "1 records changed" in rescored.stdout and "1 records keep their scores" in rescored.stdout
    assert f"Not rescored, {originals['combat']['run_id']}: " in rescored.stderr
    assert json.loads(paths["pca"].read_text()) == originals["pca"], "corrected values alone need the data"
    again = run_benchmark(*command)
    assert "2 runs, 0 to do" in again.stdout
    merged = run_benchmark("merge", tmp_path / "a", "--out", tmp_path / "b")
    assert merged.returncode == 0, merged.stderr
    shutil.rmtree(tmp_path / "a")
    assert run_benchmark("rescore", tmp_path / "b").returncode == 0
    (combat,) = tmp_path.glob("b/runs/*-combat-*/record.json")
    assert json.loads(combat.read_text()) == originals["combat"]


def test_scores_of_an_older_version_of_a_metric_are_said(run_benchmark, results: Path) -> None:
    path = sorted(results.glob("runs/annotation*knn*/record.json"))[0]
    original = path.read_text()
    record = json.loads(original)
    (score,) = (score for score in record["scores"] if score["metric_id"] == "accuracy")
    score["version"] = 0
    path.write_text(json.dumps(record))
    methods = "pca,perfect_labels,shuffled,knn,true_labels,random_label"
    again = run_benchmark(
        *SMALL, "--task", "integration", "--task", "annotation", "--method", methods, "--n-splits", 2,
        "--split", "kfold", "--out", results, "--no-figures",
    )  # fmt: skip
    assert "12 runs, 0 to do" in again.stdout
    text = "Accuracy: computed by version 0, described here is version 1"
    assert f"{text}. To recompute the scores of kept outputs: run-benchmark rescore {results}" in again.stdout
    lines = (results / "leaderboard.md").read_text(encoding="utf-8").splitlines()
    assert f"- {text}." in lines
    assert run_benchmark("rescore", results).returncode == 0
    assert path.read_text() == original
    assert run_benchmark("report", results, "--no-figures").returncode == 0
    assert "computed by version" not in (results / "leaderboard.md").read_text(encoding="utf-8")


def test_rescore_can_choose_a_profile_and_keeps_that_of_each_record(run_benchmark, results: Path) -> None:
    path = sorted(results.glob("runs/integration*pca*/record.json"))[0]
    original = json.loads(path.read_text())
    limits = original["evaluation"]["shortcuts"]
    assert {one["quantity"] for one in limits} == {"labels", "types"}  # too few cells for the structure
    assert original["evaluation"] == {"profile": "standard", "min_cells": 10, "shortcuts": limits}
    assert run_benchmark("rescore", results, "--profile", "full").returncode == 0
    full = json.loads(path.read_text())
    assert full["evaluation"] == {"profile": "full", "min_cells": 10, "shortcuts": limits}
    assert full["scores"] == original["scores"]
    assert "0 records changed" in run_benchmark("rescore", results).stdout
    assert run_benchmark("rescore", results, "--profile", "standard").returncode == 0
    assert json.loads(path.read_text()) == original


def test_report_can_be_written_again(run_benchmark, results: Path) -> None:
    page = results / "leaderboard.html"
    page.unlink()
    done = run_benchmark("report", results, "--no-figures")
    assert done.returncode == 0, done.stderr
    assert page.exists()


def test_a_folder_with_other_things_is_not_written_to(run_benchmark, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = run_benchmark(*SMALL, "--task", "annotation", "--method", "knn", "--out", tmp_path)
    assert done.returncode == 2
    assert "is not empty and not a result folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_run_gives_exit_code_1_and_a_row(run_benchmark, tmp_path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "from cellular_bench import MethodSpec\n"
        "class Bad:\n"
        "    spec = MethodSpec(method_id='bad', name='Bad', tasks=('annotation',), labels='train')\n"
        "    def __init__(self, *, seed=0): pass\n"
        "    def fit(self, train): raise ValueError('bad day')\n"
    )
    out = tmp_path / "out"
    done = run_benchmark(
        *SMALL, "--task", "annotation", "--method", "bad,majority_label", "--plugin", plugin,
        "--split", "all", "--out", out, "--no-figures",
    )  # fmt: skip
    assert done.returncode == 1
    assert "    ValueError: bad day (bad.py, line 5)" in done.stdout.splitlines()
    table = pd.read_csv(out / "scores.csv")
    assert set(table[table.method_id == "bad"].status) == {"failed"}
    assert set(table[table.method_id == "majority_label"].status) == {"ok"}


def test_a_subsample_is_drawn_and_written_into_the_record(run_benchmark, tmp_path) -> None:
    out = tmp_path / "out"
    done = run_benchmark(
        *SMALL, "--subsample", 120, "--task", "annotation", "--method", "knn,true_labels", "--n-splits", 2,
        "--split", "kfold", "--out", out, "--no-figures", "--no-leak-canary", "--profile", "fast",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "120 of 300 cells, drawn in the proportions of labels and batches with seed 0." in done.stdout
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/record.json")]
    assert len(records) == 4
    for record in records:
        assert record["evaluation"] == {"profile": "fast", "min_cells": 10, "shortcuts": []}
        assert record["dataset"]["n_obs"] == 120
        assert record["dataset"]["subsample"] == {"of": 300, "seed": 0}
        assert record["split"]["n_train"] + record["split"]["n_test"] == 120


@pytest.fixture(scope="module")
def own_file(tmp_path_factory) -> Path:
    """An h5ad as a user might bring it: other column names, an embedding."""
    adata = catalog.load(catalog.specs()["simulated_small"]).adata.copy()
    adata.X = adata.layers["counts"]
    adata.obs = adata.obs.rename(columns={"batch": "donor", "label": "cell_type"})
    rng = np.random.default_rng(0)
    codes = adata.obs["cell_type"].cat.codes.to_numpy()
    adata.obsm["X_good"] = np.eye(codes.max() + 1)[codes] + rng.normal(
        scale=0.05, size=(adata.n_obs, codes.max() + 1)
    )
    adata.obsm["X_noise"] = rng.normal(size=(adata.n_obs, 5))
    adata.obsm["X_holes"] = np.where(np.arange(adata.n_obs)[:, None] < 2, np.nan, adata.obsm["X_noise"])
    adata.obsm["X_words"] = pd.DataFrame({"a": ["x"] * adata.n_obs}, index=adata.obs_names)
    adata.obsm["X_sparse"] = sparse.csr_matrix(adata.obsm["X_good"][:, :2])
    path = tmp_path_factory.mktemp("own") / "mine.h5ad"
    adata.write_h5ad(path)
    return path


def test_run_on_the_users_own_file(run_benchmark, own_file: Path, tmp_path) -> None:
    done = run_benchmark(
        "run", "--adata", own_file, "--batch-key", "donor", "--label-key", "cell_type",
        "--task", "annotation", "--method", "knn,majority_label", "--split", "leave-one-batch-out",
        "--out", tmp_path / "out", "--no-figures",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert set(table.split_id) == {"lobo.batch1", "lobo.batch2"}
    assert set(table.dataset_id) == {"mine"}


def test_a_wrong_key_of_the_users_own_file_is_explained(run_benchmark, own_file: Path, tmp_path) -> None:
    done = run_benchmark(
        "run", "--adata", own_file, "--batch-key", "doner", "--label-key", "cell_type",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 2
    assert "'doner'" in done.stderr
    assert "'donor'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_score_ranks_embeddings_of_the_users_own_file(run_benchmark, own_file: Path) -> None:
    done = run_benchmark(
        "score", "--adata", own_file, "--batch-key", "donor", "--label-key", "cell_type",
        "--obsm", "X_good", "--obsm", "X_noise", "--format", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["scores"]
    assert {frozenset(row) for row in rows} == {
        frozenset(["method_id", "metric_id", "fold", "value", "reason"])
    }
    found = {(row["method_id"], row["metric_id"]): row for row in rows}
    assert found["X_good", "leiden_nmi"]["value"] > 0.95 > 0.3 > found["X_noise", "leiden_nmi"]["value"]
    assert found["X_good", "pcr_comparison"]["value"] is None
    assert "X_pre" in found["X_good", "pcr_comparison"]["reason"]
    assert all((row["value"] is None) == (row["reason"] is not None) for row in rows)
    assert all(row["fold"] is None for row in rows)


def test_score_reads_arrays_beside_the_users_own_file(run_benchmark, own_file: Path, tmp_path) -> None:
    adata = catalog.load(catalog.from_h5ad(own_file, batch_key="donor", label_key="cell_type")).adata
    X = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    np.savez(tmp_path / "both.npz", first=X, second=X, other=np.zeros(3))
    base = (
        "score",
        "--adata",
        own_file,
        "--batch-key",
        "donor",
        "--label-key",
        "cell_type",
        "--format",
        "json",
    )
    done = run_benchmark(*base, "--embedding", tmp_path / "both.npz")
    rows = json.loads(done.stdout)["scores"]
    by_method = {name: [r["value"] for r in rows if r["method_id"] == name] for name in ("first", "second")}
    assert by_method["first"] == by_method["second"]
    np.save(tmp_path / "short.npy", X[1:])
    done = run_benchmark(*base, "--embedding", tmp_path / "short.npy")
    assert done.returncode == 2
    assert "Embedding 'short' has shape (299, 4), expected (300, n_latent)" in done.stderr


def test_score_predictions_by_method_and_fold(run_benchmark, tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "method,fold,true_label,pred\n"
        "a,1,NA,NA\na,1,B,B\na,1,B,NA\na,1,B,B\n"
        "a,2,NA,NA\na,2,B,B\n"
        "b,1,NA,B\nb,1,B,\n"
    )
    done = run_benchmark("score", "--predictions", path, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = {
        (row["method_id"], row["fold"]): row["value"]
        for row in json.loads(done.stdout)["scores"]
        if row["metric_id"] == "accuracy"
    }
    assert found == {("a", 1): 0.75, ("a", 2): 1.0, ("b", 1): 0.0}


def test_score_predictions_without_a_fold(run_benchmark, tmp_path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("label\tlabel_pred\nx\tx\ny\tx\n")
    rows = json.loads(run_benchmark("score", "--predictions", path, "--format", "json").stdout)["scores"]
    accuracy = next(row for row in rows if row["metric_id"] == "accuracy")
    assert accuracy == {
        "method_id": "mine",
        "metric_id": "accuracy",
        "fold": None,
        "value": 0.5,
        "reason": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("truth,pred\nx,y\n", "has no column 'label' or 'true_label'"),
        ("label,guess\nx,y\n", "has no column 'label_pred' or 'pred'"),
        ("label,pred\n,y\n", "1 of 1 rows have no value in 'label'"),
        ("", "cannot be read as a table"),
        ("label,pred\n", "has no rows below its header"),
    ],
)
def test_a_wrong_table_is_explained(run_benchmark, tmp_path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    done = run_benchmark("score", "--predictions", path)
    assert done.returncode == 2
    assert message in done.stderr


def test_names_that_look_like_markup_are_printed_as_they_are(run_benchmark, tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("label,pred,method,fold\nx,x,[/b],--3\ny,x,[/b],--3\n")
    done = run_benchmark("score", "--predictions", path)
    assert done.returncode == 0, done.stderr
    assert "[/b]" in done.stdout


@pytest.mark.parametrize("name", ["table.csv.gz", "matrix.npz"])
def test_a_truncated_file_is_explained(run_benchmark, own_file: Path, tmp_path, name: str) -> None:
    path = tmp_path / name
    whole = (
        gzip.compress(b"label,pred\n" + b"x,y\nz,q\n" * 50)
        if name.endswith("gz")
        else b"PK\x03\x04" + b"x" * 40
    )
    path.write_bytes(whole[:30])
    file = ["--adata", own_file, "--batch-key", "donor", "--label-key", "cell_type", "--embedding"]
    done = run_benchmark("score", *(["--predictions"] if name.endswith("gz") else file), path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {path} ")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["X_holes"], "Embedding 'X_holes' is NaN or infinite for 2 of 300 cells"),
        (["X_good", "--pre", "X_holes"], "Embedding 'X_holes' is NaN or infinite for 2 of 300 cells"),
        (["X_words"], "Embedding 'X_words' is not an array of numbers: it holds Python objects"),
        (["X_sparse", "--obsm", "absent"], "Unknown key of obsm 'absent'"),
    ],
)
def test_an_embedding_that_cannot_be_scored_is_explained(
    run_benchmark, own_file: Path, chosen: list[str], message: str
) -> None:
    keys = ("--batch-key", "donor", "--label-key", "cell_type")
    done = run_benchmark("score", "--adata", own_file, *keys, "--obsm", *chosen)
    assert done.returncode == 2
    assert message in done.stderr
