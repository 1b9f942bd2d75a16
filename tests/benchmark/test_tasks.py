"""Nothing but its own object knows a task: a fourth one in a plug-in file runs from data to leaderboard."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cellular_bench
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance import check_method
from cellular_bench.benchmark.conformance.metrics import known_inputs
from cellular_bench.benchmark.execution.preparation import TRUTH
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.merge import merge
from cellular_bench.benchmark.results.store import OUTPUTS, Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.benchmark.tasks import ANNOTATION, TASKS
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.outputs import read_outputs
from cellular_bench.metrics import METRICS
from cellular_bench.results import Results
from cellular_bench.workflows.rescore import rescore

PLUGIN = Path(__file__).parents[1] / "plugins" / "doublets.py"
SUITE = """
title = "Droplets"
[[blocks]]
task = "doublets"
datasets = ["droplets"]
methods = ["all"]
splits = ["all"]
[[blocks]]
task = "annotation"
datasets = ["droplets"]
methods = ["majority_label"]
splits = ["all"]
"""


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    """Forget in the end what the plug-in brings: other tests count tasks and metrics."""
    known = [(registered, dict(registered)) for registered in (METRICS, TASKS)]
    yield
    for registered, before in known:
        registered.clear()
        registered.update(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every method of the task, and a control of annotation, on the same cells."""
    folder = tmp_path_factory.mktemp("doublets")
    (folder / "droplets.toml").write_text(SUITE, encoding="utf-8")
    return cellular_bench.run(
        suite=folder / "droplets.toml", plugins=PLUGIN, out=folder / "out", jobs=2, quiet=True
    )


def test_a_new_task_is_ranked_by_its_own_metric(results: Results) -> None:
    assert not results.failures
    board = results.leaderboard(task="doublets").set_index("method_id")
    # 7 droplets are called and 8 are doublets, 6 of them called: 2 * 6 / (7 + 8).
    assert board.overall.to_dict() == {"large_ones": pytest.approx(0.8), "no_doublet": 0.0}
    assert board.doublet_calls.to_dict() == board.overall.to_dict()
    assert board.track.to_dict() == {"large_ones": "unsupervised", "no_doublet": "control"}
    assert board["rank"]["large_ones"] == 1


def test_its_outputs_and_its_truth_are_kept_and_score_the_same_again(results: Results) -> None:
    store = Store.open(results.folder)
    (run,) = (run for run in results.records if run.method.method_id == "large_ones")
    kept = read_outputs(store.run_folder(run.run_id) / OUTPUTS)
    assert kept.more["doublet_score"].tolist() == [0.0] * 31 + [1.0] * 7 + [0.0] * 2
    folder = store.split_folder(run.dataset, run.split)
    (file,) = TASKS["doublets"].input_files(study_metrics=False)
    with np.load(folder / file) as arrays:
        assert arrays["is_doublet"].tolist() == [False] * 32 + [True] * 8
    assert (folder / TRUTH).exists()
    assert rescore(store, run) == run


def test_the_report_shows_its_board_and_its_own_table(results: Results) -> None:
    page = (results.folder / "leaderboard.html").read_text("utf-8")
    assert "Doublet detection · Droplets" in page
    table = page.split("Doublets called", 1)[1]
    assert "80.0%" in table
    assert "Doublet calls" in page, "the title of the aspect, over its metric"
    text = (results.folder / "leaderboard.md").read_text("utf-8")
    assert "the mean of Doublet F1" in text
    assert "### Doublets called" in text
    with (results.folder / "scores.csv").open(encoding="utf-8") as file:
        values = {row["method_id"]: row["value"] for row in csv.DictReader(file) if row["task"] == "doublets"}
    assert {name: float(value) for name, value in values.items()} == {"large_ones": 0.8, "no_doublet": 0.0}


def test_a_merged_folder_can_be_scored_again(results: Results, tmp_path: Path) -> None:
    merge([Store.open(results.folder)], tmp_path / "merged")
    merged = Store.open(tmp_path / "merged")
    assert [rescore(merged, run) for run in merged.records()] == list(merged.records())


def test_without_the_plug_in_its_board_is_left_out(results: Results, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from cellular_bench.cli import main; main()", "report"]
    options = ["--no-figures", "--out", tmp_path]
    done = subprocess.run(
        [*command, results.folder, *options], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert "Left out, in scores.csv only: 2 runs of 'doublets', no task that is known here." in done.stderr
    assert "--plugin" in done.stderr
    page = (tmp_path / "leaderboard.html").read_text("utf-8")
    assert "Annotation · Droplets" in page
    assert "Doublet" not in page.split("Provenance")[0]
    assert "doublets" in (tmp_path / "scores.csv").read_text("utf-8")


def test_a_method_of_it_keeps_the_promises_of_the_interface(results: Results) -> None:
    (plugin,) = registry.load([PLUGIN])
    large = next(found for found in plugin.methods if found.spec.method_id == "large_ones")
    found = {result.check_id: result for result in check_method(large)}
    assert {name for name, result in found.items() if result.status == "failed"} == set()
    assert found["cell_order"].status == "passed"
    assert {"doublet_score", "is_doublet"} < set(known_inputs())


def test_an_edited_task_makes_other_runs_and_other_inputs(small: dict, tmp_path: Path) -> None:
    method, task, copied = (tmp_path / name for name in ("method.py", "task.py", "copied.py"))
    method.write_text(
        "from cellular_bench import MethodSpec\n"
        "class Mine:\n"
        "    spec = MethodSpec(method_id='mine', name='Mine', tasks=('strict',), labels='train')\n"
        "    def __init__(self, *, seed=0): ...\n",
        encoding="utf-8",
    )
    task.write_text(
        "from dataclasses import replace\n"
        "from cellular_bench import TaskInputs\n"
        "from cellular_bench.benchmark.tasks import ANNOTATION\n"
        "INPUTS = TaskInputs(file='more', arrays={'depth': lambda adata: adata.X.sum(axis=1)})\n"
        "STRICT = replace(ANNOTATION, task_id='strict', title='Strict', inputs=(INPUTS,))\n",
        encoding="utf-8",
    )
    block = {"task": "strict", "datasets": list(small), "methods": ["mine"], "splits": ["all"]}

    def names(*plugins: Path) -> tuple[str, str]:
        known = registry.methods(plugins)
        suite = Suite(suite_id="x", title="X", blocks=[block])
        (run,) = plan(suite, datasets=small, methods=known, plugins=plugins).runs
        (file,) = TASKS["strict"].input_files(study_metrics=False)
        return run.run_id, file

    first = names(method, task)
    copied.write_bytes(task.read_bytes())
    assert names(method, copied) == first, "the text counts, not where it lies"
    copied.write_bytes(task.read_bytes() + b"# edited")
    edited = names(method, copied)
    assert edited[0] != first[0]
    assert edited[1] != first[1]
    with pytest.raises(UserError, match=f"Two tasks are called 'strict': {copied} and {task}. Rename one"):
        registry.load([task])
    assert TASKS["annotation"] is ANNOTATION, "what a plug-in imports stays what it is"


def test_a_name_that_is_no_task_is_refused_with_a_close_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown task 'anotation'\. Did you mean 'annotation'\?"):
        cellular_bench.run(tasks="anotation", out=tmp_path / "out", quiet=True)
    suite = tmp_path / "mine.toml"
    suite.write_text(SUITE.replace('"annotation"', '"novelti"'), encoding="utf-8")
    with pytest.raises(UnknownNameError, match=r"Unknown task 'novelti'\. Did you mean 'novelty'\?"):
        cellular_bench.run(suite=suite, plugins=PLUGIN, out=tmp_path / "out", quiet=True)


def test_data_without_the_truth_of_a_task_are_refused(small: dict) -> None:
    block = {"task": "doublets", "datasets": list(small), "methods": ["all"], "splits": ["all"]}
    with pytest.raises(UserError, match="'simulated_small' has no truth 'doublet': name it in truth_keys"):
        plan(
            Suite(suite_id="x", title="X", blocks=[block]),
            datasets=small,
            methods=registry.methods([PLUGIN]),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [({"task_id": "My task"}, "lower-case letters"), ({"weights": {"one": 0.6}}, "do not add up to 1")],
)
def test_a_task_that_would_mislead_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ANNOTATION, **change)  # type: ignore[arg-type]


def test_agreement_on_novelty_is_that_of_as_many_novel_cells_as_there_are():
    label = np.array(["a", "a", "b", "c", "c"])
    truth = {"label": label, "is_novel": label == "c"}
    agreement = TASKS["novelty"].agreement
    said = {"novelty": np.array([0.1, 0.9, 0.2, 0.8, 0.3]), "label_pred": np.array(["a", "a", "a", "b", "b"])}
    expected = {"a": {"a": 1, "(novel)": 1}, "b": {"a": 1}, "(novel)": {"(novel)": 1, "b": 1}}
    assert agreement(truth | said) == expected
    constant = {"novelty": np.ones(5), "label_pred": np.repeat("a", 5)}
    assert agreement(truth | constant) == {"a": {"a": 2}, "b": {"a": 1}, "(novel)": {"a": 2}}
    assert agreement(truth | {"novelty": np.array([0, 0, 0, 1, 1])})["(novel)"] == {"(novel)": 2}
    named = {"novelty": np.ones(5), "label_pred": label}
    assert agreement(truth | named) == {"a": {"a": 2}, "b": {"b": 1}, "(novel)": {"(novel)": 2}}
