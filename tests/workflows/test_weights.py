"""Weights of aspects from a request to every format: what a folder was run with is shown again."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.results.merge import merge
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import Score
from cellular_bench.benchmark.schema.suite import Suite, read_suite
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.metrics import METRICS
from cellular_bench.results import Results
from cellular_bench.workflows.report import ReportRequest, write_reports, write_site
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.tailor import tailored

OLD = Path(__file__).parents[1] / "data" / "results-0.1.0" / "results"
BLOCK = {"task": "integration", "datasets": ["toy"], "methods": ["pca"], "splits": ["kfold"]}
OWN = {"batch_correction": 0.5, "bio_conservation": 0.3, "structure": 0.2}
OWN_TEXT = "batch_correction=0.5,bio_conservation=0.3,structure=0.2"
#: batch correction, bio conservation and structure of each method
VALUES = {"Mixes": (0.9, 0.5, 0.1), "Keeps": (0.4, 0.6, 0.9)}


@pytest.fixture(autouse=True)
def _shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a metric of structure that only these tests know."""
    spec = replace(METRICS["ilisi"], metric_id="shape_of_tests", name="Shape", aspect="structure")
    monkeypatch.setitem(METRICS, spec.metric_id, spec)


@pytest.fixture
def folder(make, tmp_path):
    """Return a function that makes a result folder that was run with some weights."""

    def made(name: str, weights: Any = None) -> Path:
        suite = Suite(suite_id="s", title="S", blocks=(BLOCK,), weights=weights)
        store = Store.create(tmp_path / name, suite)
        with store.locked():
            for method, values in VALUES.items():
                run = make(method, 0, {})
                scores = tuple(
                    Score(metric_id=metric_id, aspect=METRICS[metric_id].aspect, value=value)
                    for metric_id, value in zip(("ilisi", "clisi", "shape_of_tests"), values, strict=True)
                )
                store.write(run.model_copy(update={"scores": scores}))
        return store.root

    return made


def expected(weights: tuple[float, ...]) -> dict[str, float]:
    return {
        name: pytest.approx(sum(w * x for w, x in zip(weights, values, strict=True)))
        for name, values in VALUES.items()
    }


def overall(folder: Path) -> tuple[dict[str, float], list[dict[str, str]]]:
    """What ``leaderboard.csv`` of a folder says."""
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["method"]: float(row["overall"]) for row in rows}, rows


@pytest.mark.parametrize(
    ("weights", "rule", "text", "numbers"),
    [
        (None, "default", "batch_correction=0.3,bio_conservation=0.4,structure=0.3", (0.3, 0.4, 0.3)),
        ("scib", "scib", "batch_correction=0.4,bio_conservation=0.6", (0.4, 0.6, 0.0)),
        (OWN, "custom", OWN_TEXT, (0.5, 0.3, 0.2)),
        (OWN_TEXT, "custom", OWN_TEXT, (0.5, 0.3, 0.2)),
    ],
)
def test_a_folder_is_shown_with_what_it_was_run_with(run_benchmark, folder, weights, rule, text, numbers):
    root = folder("a", weights)
    done = run_benchmark("report", root, "--no-figures", "--format", "html,csv,md,latex")
    assert done.returncode == 0, done.stderr
    scores, rows = overall(root)
    assert scores == expected(numbers)
    assert {(row["rule"], row["weights"]) for row in rows} == {(rule, text)}
    other = "default" if rule == "scib" else "scib"
    beside = (0.3, 0.4, 0.3) if rule == "scib" else (0.4, 0.6, 0.0)
    assert {row["method"]: float(row[f"{other}_overall"]) for row in rows} == expected(beside)
    assert {row["method"]: row[f"{other}_rank"] for row in rows} == (
        {"Mixes": "2", "Keeps": "1"} if rule == "scib" else {"Mixes": "1", "Keeps": "2"}
    )
    title = "Default overall" if rule == "scib" else "scIB overall"
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.tex"):
        assert title in (root / name).read_text("utf-8"), name
    frame = Results(root).leaderboard().set_index("method")
    assert frame.overall.to_dict() == expected(numbers)
    assert frame[f"{other}_overall"].to_dict() == expected(beside)


def test_other_weights_of_a_report_override_those_and_are_not_remembered(run_benchmark, folder, tmp_path):
    root = folder("a", "scib")
    done = run_benchmark("report", root, "--no-figures", "--weights", OWN_TEXT)
    assert done.returncode == 0, done.stderr
    assert overall(root)[0] == expected((0.5, 0.3, 0.2))
    assert Results(root).leaderboard().rule.unique().tolist() == ["scib"]
    chosen = Results(root).leaderboard(weights=OWN).set_index("method")
    assert chosen.overall.to_dict() == expected((0.5, 0.3, 0.2))
    page = Results(root).report(tmp_path / "page.md", weights="default").read_text("utf-8")
    assert "Overall = 0.3 × batch correction + 0.4 × bio conservation + 0.3 × structure: mean" in page
    site = ReportRequest(stores=(Store.open(root),), out=tmp_path / "site", figures=False, weights=OWN)
    write_site(site)
    (board,) = json.loads((tmp_path / "site" / "integration.json").read_text("utf-8"))
    assert board["rule"] == {"name": "custom", "weights": OWN}
    assert board["other_rule"]["name"] == "scib"
    assert {r["method"]["name"]: r["by_other_rule"]["rank"] for r in board["rows"]} == {
        "Mixes": 1,
        "Keeps": 2,
    }
    assert {r["method"]["name"]: r["overall"]["mean"] for r in board["rows"]} == expected((0.5, 0.3, 0.2))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("scip", "Unknown rule of weights 'scip'. Did you mean 'scib'?"),
        ("structur=1", "Unknown aspect 'structur'. Did you mean 'structure'?"),
        ("batch_correction=1.5,structure=-.5", "The weight of structure is -0.5; it must be 0 or more."),
        ("batch_correction=.3,structure=.3", "do not add up to 1, but to 0.6."),
        (".3,.4,.3", "nor of the form ASPECT=NUMBER"),
    ],
)
@pytest.mark.parametrize("command", ["run", "report"])
def test_weights_without_a_meaning_end_with_code_2(
    run_benchmark, folder, tmp_path, command, weights, message
):
    given = ["report", folder("a")] if command == "report" else ["run", "--out", tmp_path / "out"]
    done = run_benchmark(*given, "--weights", weights)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_folders_of_different_weights_have_those_of_the_task_and_it_is_said(tmp_path):
    stores = []
    for name, weights in (("a", {"batch_correction": 1.0}), ("b", "scib"), ("c", {"batch_correction": 1.0})):
        shutil.copytree(OLD, tmp_path / name)
        suite = Store.open(tmp_path / name).suite
        stores.append(Store.create(tmp_path / name, suite.model_copy(update={"weights": weights})))
    first, second, third = stores
    heard: list[str] = []

    class Heard:
        def message(self, text: str) -> None: ...

        def warning(self, text: str) -> None:
            heard.append(text)

    def report(*stores: Store) -> set[str]:
        request = ReportRequest(stores=stores, out=tmp_path / "out", figures=False, formats=("csv",))
        write_reports(request, progress=Heard())  # type: ignore[arg-type]
        with (tmp_path / "out" / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
            return {row["weights"] for row in csv.DictReader(file) if row["task"] == "integration"}

    assert report(first, second) == {"batch_correction=0.4,bio_conservation=0.6"}
    assert any("different weights" in text for text in heard)
    heard.clear()
    assert report(first, third) == {"batch_correction=1"}
    assert not any("different weights" in text for text in heard)
    merge([first, second], tmp_path / "differ")
    merge([first, third], tmp_path / "same")
    assert Store.open(tmp_path / "differ").suite.weights is None
    assert Store.open(tmp_path / "same").suite.weights == {"batch_correction": 1.0}


@pytest.mark.parametrize(
    ("line", "weights"),
    [
        ("", None),
        ('weights = "scib"', "scib"),
        (f'weights = "{OWN_TEXT}"', OWN),
        ("weights = {structure = 1}", {"structure": 1.0}),
    ],
)
def test_a_suite_file_may_have_weights_and_a_request_others(tmp_path, line, weights):
    path = tmp_path / "mine.toml"
    block = '[[blocks]]\ntask = "integration"\ndatasets = ["simulated_small"]\nmethods = ["pca"]\n'
    path.write_text(f'title = "Mine"\n{line}\n{block}splits = ["all"]\n', encoding="utf-8")
    suite, known = read_suite(path), registry.methods()
    assert suite.weights == weights
    as_run = tailored(suite, RunRequest.of(), dataset_ids=(), known=known)
    assert Store.create(tmp_path / "out", as_run).suite.weights == weights
    other = tailored(suite, RunRequest.of(weights=OWN_TEXT), dataset_ids=(), known=known)
    assert Store.create(tmp_path / "out", other).suite.weights == OWN


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('weights = "scip"', UnknownNameError, "Did you mean 'scib'"),
        ("weights = {structur = 1}", UnknownNameError, "Did you mean 'structure'"),
        ("weights = {structure = 0.5}", UserError, r"mine\.toml: weights: .*do not add up to 1"),
        ("weights = 3", UserError, r"mine\.toml: weights: "),
    ],
)
def test_weights_of_a_suite_that_mislead_are_refused(tmp_path, line, error, message):
    path = tmp_path / "mine.toml"
    block = '[[blocks]]\ntask = "integration"\ndatasets = ["simulated_small"]\nmethods = ["pca"]\n'
    path.write_text(f'title = "Mine"\n{line}\n{block}splits = ["all"]\n', encoding="utf-8")
    with pytest.raises(error, match=message):
        tailored(read_suite(path), RunRequest.of(), dataset_ids=(), known=registry.methods())


def test_weights_of_a_task_that_is_not_run_are_refused(tmp_path):
    suite = read_suite(registry.suites()["quickstart"])
    request = RunRequest.of(tasks="annotation", weights="scib", out=tmp_path)
    with pytest.raises(UnknownNameError, match="rule of weights 'scib'"):
        tailored(suite, request, dataset_ids=(), known=registry.methods())


def test_an_old_folder_says_what_would_add_structure(run_benchmark, tmp_path):
    shutil.copytree(OLD, tmp_path / "old")
    done = run_benchmark("report", tmp_path / "old", "--no-figures", "--weights", "default")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "old" / "leaderboard.md").read_text("utf-8")
    assert "No run has been scored for structure, so the overall score has the scIB weights." in text
    assert "run-benchmark rescore FOLDER adds the scores where outputs are kept." in text
    assert "Overall = 0.4 × batch correction + 0.6 × bio conservation (scIB weights)" in text
