"""A stranger's first method, metric and data set: written, checked, run and tested from one file each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cellular_bench import Results


@pytest.fixture(scope="module")
def folder(run_benchmark, tmp_path_factory) -> Path:
    """A folder with one of each, as `new` writes them."""
    folder = tmp_path_factory.mktemp("new")
    for kind in ("method", "metric", "dataset"):
        done = run_benchmark("new", kind, f"my_{kind}", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert f"Wrote my_{kind}.py and test_my_{kind}.py" in done.stdout
    done = run_benchmark("new", "method", "my_integration", "--task", "integration", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_each_passes_its_checks(run_benchmark, folder) -> None:
    names = ("my_method", "my_integration", "my_metric", "my_dataset")
    done = run_benchmark("check", *(f"{name}.py" for name in names), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    lines = done.stdout.splitlines()
    assert sum(line.startswith("  passed") for line in lines) > 30
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(names)


@pytest.mark.usefixtures("no_plugin_stays")
def test_one_of_each_meets_in_one_run(run_benchmark, folder) -> None:
    plugins = [part for name in ("method", "metric", "dataset") for part in ("--plugin", f"my_{name}.py")]
    done = run_benchmark(
        "run", *plugins, "--task", "annotation", "--dataset", "my_dataset", "--method",
        "my_method,random_label", "--split", "kfold", "--n-splits", 2, "--out", "out",
        "--no-figures", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results(folder / "out", plugins=[folder / "my_metric.py"])
    assert {record.dataset.dataset_id for record in results.records} == {"my_dataset"}
    own = results.to_frame().query("metric_id == 'my_metric'").groupby("method_id").value.mean()
    worst = {
        method_id: sum(
            min(label.recall for label in record.per_label)
            for record in results.records
            if record.method.method_id == method_id
        ) / 2
        for method_id in own.index
    }  # fmt: skip
    assert dict(own) == pytest.approx(worst)
    assert own["my_method"] > own["random_label"]
    assert "my_metric" in (folder / "out" / "leaderboard.html").read_text(encoding="utf-8")
    overall = results.leaderboard().set_index("method_id").overall
    assert overall["my_method"] > overall["random_label"] + 0.3


def test_an_older_folder_gets_the_scores_of_a_new_metric(run_benchmark, folder) -> None:
    done = run_benchmark(
        "run", "--task", "annotation", "--dataset", "simulated_small", "--method", "true_labels", "--split",
        "kfold", "--n-splits", 2, "--out", "older", "--no-figures", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    again = run_benchmark(
        "run", "--task", "annotation", "--dataset", "simulated_small", "--method", "true_labels", "--split",
        "kfold", "--n-splits", 2, "--out", "older", "--no-figures", "--plugin", "my_metric.py", cwd=folder,
    )  # fmt: skip
    assert "2 runs, 0 to do" in again.stdout
    assert (
        "2 runs have no score of my_metric, which is newer than they are. To add it: run-benchmark"
        in again.stdout
    )
    added = run_benchmark("rescore", "older", "--plugin", "my_metric.py", cwd=folder)
    assert "2 records changed" in added.stdout, added.stderr
    without = run_benchmark("report", "older", "--no-figures", cwd=folder)
    assert "Left out: scores of my_metric" in without.stderr
    paths = sorted((folder / "older").glob("runs/*/record.json"))
    records = [path.read_text(encoding="utf-8") for path in paths]
    kept = run_benchmark("rescore", "older", cwd=folder)
    assert "0 records changed" in kept.stdout
    assert "Scores of my_metric are kept: not known here." in kept.stdout
    assert [path.read_text(encoding="utf-8") for path in paths] == records
    lines = (folder / "older" / "leaderboard.md").read_text(encoding="utf-8").splitlines()
    reported = "- my_metric: not a known metric; in scores.csv only."
    assert [line for line in lines if "my_metric" in line] == [reported]
    done = run_benchmark("report", "older", "--no-figures", "--plugin", "my_metric.py", cwd=folder)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "my_metric" in (folder / "older" / "leaderboard.md").read_text(encoding="utf-8")


def test_scores_of_files_and_comparisons_know_the_new_metric(run_benchmark, folder) -> None:
    (folder / "predictions.csv").write_text("label,label_pred\na,a\na,a\nb,b\nb,a\n", encoding="utf-8")
    plugin = ["--plugin", "my_metric.py", "--format", "json"]
    done = run_benchmark(
        "score", "--predictions", "predictions.csv", "--metrics", "my_metric", *plugin, cwd=folder
    )
    (score,) = json.loads(done.stdout)["scores"]
    assert (score["metric_id"], score["value"]) == ("my_metric", 0.5)
    done = run_benchmark("compare", "older", "older", *plugin, cwd=folder)
    changes = {change["metric_id"]: change for change in json.loads(done.stdout)["changes"]}
    assert changes["my_metric"]["before"] == changes["my_metric"]["after"] == 1.0
    listed = json.loads(run_benchmark("list", "datasets", "my_dataset", "--plugin", "my_dataset.py",
                                      "--format", "json", cwd=folder).stdout)  # fmt: skip
    assert [row["dataset_id"] for row in listed] == ["my_dataset"]


@pytest.mark.slow
def test_the_tests_that_are_written_pass(folder) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


def test_nothing_is_overwritten_and_no_name_taken_twice(run_benchmark, folder, tmp_path) -> None:
    before = (folder / "my_method.py").read_text(encoding="utf-8")
    again = run_benchmark("new", "metric", "my_method", cwd=folder)
    assert again.returncode == 2
    assert "my_method.py and test_my_method.py exist here already" in again.stderr
    assert (folder / "my_method.py").read_text(encoding="utf-8") == before
    for kind, name, problem in (
        ("method", "knn", "There is a method 'knn' already"),
        ("metric", "accuracy", "There is a metric 'accuracy' already"),
        ("dataset", "baron", "There is a dataset 'baron' already"),
        ("method", "My-method", "cannot be a name"),
        ("method", "class", "cannot be a name"),
    ):
        done = run_benchmark("new", kind, name, cwd=tmp_path)
        assert done.returncode == 2
        assert problem in done.stderr
    assert list(tmp_path.iterdir()) == []
