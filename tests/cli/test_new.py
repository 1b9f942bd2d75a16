"""A stranger's first method, metric and data set: written, checked, run and tested from one file each."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from cellular_bench import Results, UserError
from cellular_bench.cli import group
from cellular_bench.metrics import METRICS


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run_benchmark(*arguments: object, cwd: Path) -> Done:
    """Run a command in this process: its processes are forked from one server, which saves seconds each."""
    out, err = StringIO(), StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        try:
            code = group.main([*map(str, arguments)], standalone_mode=False) or 0
        except UserError as error:
            print(error, file=sys.stderr)
            code = error.exit_code
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A folder with one of each, as `new` writes them."""
    known = dict(METRICS)
    folder = tmp_path_factory.mktemp("new")
    for kind in ("method", "metric", "dataset"):
        done = run_benchmark("new", kind, f"my_{kind}", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert f"Wrote my_{kind}.py and test_my_{kind}.py" in done.stdout
    done = run_benchmark("new", "method", "my_integration", "--task", "integration", cwd=folder)
    assert done.returncode == 0, done.stderr
    yield folder
    METRICS.clear()
    METRICS.update(known)


def test_each_passes_its_checks(folder) -> None:
    names = ("my_method", "my_integration", "my_metric", "my_dataset")
    done = run_benchmark("check", *(f"{name}.py" for name in names), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    lines = done.stdout.splitlines()
    assert sum(line.startswith("  passed") for line in lines) > 30
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(names)


def test_one_of_each_meets_in_one_run(folder) -> None:
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


def test_an_older_folder_gets_the_scores_of_a_new_metric(folder) -> None:
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
    command = "from cellular_bench.cli import main; main()"
    without = subprocess.run(  # this process knows the metric by now
        [sys.executable, "-c", command, "report", "older", "--no-figures"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert "Left out: scores of my_metric" in without.stderr
    paths = sorted((folder / "older").glob("runs/*/record.json"))
    records = [path.read_text(encoding="utf-8") for path in paths]
    kept = subprocess.run(
        [sys.executable, "-c", command, "rescore", "older"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert "0 records changed" in kept.stdout
    assert "Scores of my_metric are kept: not known here." in kept.stdout
    assert [path.read_text(encoding="utf-8") for path in paths] == records
    lines = (folder / "older" / "leaderboard.md").read_text(encoding="utf-8").splitlines()
    told = "- my_metric: not a known metric; in scores.csv only."
    assert [line for line in lines if "my_metric" in line] == [told]
    done = run_benchmark("report", "older", "--no-figures", "--plugin", "my_metric.py", cwd=folder)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "my_metric" in (folder / "older" / "leaderboard.md").read_text(encoding="utf-8")


def test_scores_of_files_and_comparisons_know_the_new_metric(folder) -> None:
    (folder / "predictions.csv").write_text("label,label_pred\na,a\na,a\nb,b\nb,a\n", encoding="utf-8")
    command = [sys.executable, "-c", "from cellular_bench.cli import main; main()"]
    plugin = ["--plugin", "my_metric.py", "--format", "json"]
    done = subprocess.run(  # a process that does not know the metric yet
        [*command, "score", "--predictions", "predictions.csv", "--metrics", "my_metric", *plugin],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    (score,) = json.loads(done.stdout)["scores"]
    assert (score["metric_id"], score["value"]) == ("my_metric", 0.5)
    done = subprocess.run(
        [*command, "compare", "older", "older", *plugin],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
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


def test_nothing_is_overwritten_and_no_name_taken_twice(folder, tmp_path) -> None:
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
