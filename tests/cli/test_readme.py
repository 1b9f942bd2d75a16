"""What the README shows works as it is shown."""

import re
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def my_method(repo: Path, tmp_path: Path) -> Path:
    """The README's example of a method, as a file."""
    text = (repo / "README.md").read_text(encoding="utf-8")
    source = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    path = tmp_path / "my_method.py"
    path.write_text(source, encoding="utf-8")
    assert len(source.splitlines()) <= 40
    return path


def test_the_example_passes_every_check(run_benchmark, my_method: Path) -> None:
    done = run_benchmark("check", my_method)
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout
    assert done.stdout.count("passed") >= 15


def test_the_example_gets_its_row(run_benchmark, my_method: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_benchmark(
        "run", "--plugin", my_method, "--dataset", "simulated_small",
        "--task", "annotation", "--task", "novelty",
        "--method", "nearest_mean,random_label", "--out", out, "--no-figures",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    scores = pd.read_csv(out / "scores.csv")
    mean = scores.groupby(["metric_id", "method_id"]).value.mean()
    assert mean["accuracy", "nearest_mean"] > 0.9
    assert mean["accuracy", "random_label"] < 0.6
    assert mean["novelty_auroc", "nearest_mean"] > mean["novelty_auroc", "random_label"]
    assert "Nearest mean" in (out / "leaderboard.html").read_text(encoding="utf-8")


def test_the_test_command_can_be_read_by_ci(repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    block = text.partition("<!-- test command -->")[2].partition("<!-- end -->")[0]
    assert [line for line in block.splitlines() if line and not line.startswith("```")] == [
        'python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ".[test]" && .venv/bin/pytest'
    ]
