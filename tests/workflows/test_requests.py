"""Requests: one object for the command line, Python and notebooks."""

import ast
from pathlib import Path

import pydantic
import pytest

import cellular_bench
from cellular_bench import UserError
from cellular_bench.cli.reproduce import command as reproduce_command
from cellular_bench.cli.run import command as run_command
from cellular_bench.cli.score import command as score_command
from cellular_bench.workflows import run as run_workflow
from cellular_bench.workflows.reproduce import ReproduceRequest
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.score_request import ScoreRequest

#: Options about messages and output belong to the command line, arrays in memory to Python. Further labels
#: are given as further values of ``label_key``.
ELSEWHERE = {"quiet", "verbose", "log_file", "output", "embeddings", "further_labels"}


@pytest.mark.parametrize(
    ("command", "request_type"),
    [(run_command, RunRequest), (score_command, ScoreRequest), (reproduce_command, ReproduceRequest)],
    ids=["run", "score", "reproduce"],
)
def test_options_of_a_command_are_the_fields_of_its_request(command, request_type) -> None:
    options = {parameter.name for parameter in command.params}
    assert options - ELSEWHERE == set(request_type.model_fields) - ELSEWHERE


def test_the_command_line_and_python_build_the_same_request(monkeypatch, tmp_path) -> None:
    built: list[RunRequest] = []

    def run(request: RunRequest, **_: object) -> run_workflow.RunResult:
        built.append(request)
        return run_workflow.RunResult(folder=request.out, statuses={}, pages=())

    monkeypatch.setattr(run_workflow, "run", run)
    out = tmp_path / "out"
    text = ["--method", "knn,pca", "--task", "annotation", "--split", "leave-one-batch-out", "--seeds", "0,1"]
    text += ["--param", "knn.n_neighbors=5", "--stress", "label_noise=0,0.3", "--time-limit", "60"]
    assert run_command.main([*text, "--no-figures", "--out", str(out)], standalone_mode=False) == 0
    cellular_bench.run(
        methods=["knn", "pca"], tasks="annotation", split="leave_one_batch_out", seeds=[0, 1],
        params={"knn": {"n_neighbors": 5}}, stress={"kind": "label_noise", "levels": [0, 0.3]},
        time_limit=60, out=out,
    )  # fmt: skip
    command_line, python = built
    assert command_line == python
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        python.fresh = True


def test_an_unknown_field_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"Unknown option 'metod'\. Did you mean 'methods'"):
        RunRequest.of(metod="knn")


def test_workflows_know_neither_click_nor_a_console(repo: Path) -> None:
    wrong = []
    for path in (repo / "src" / "cellular_bench" / "workflows").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in {"click", "rich"} for name in names):
                wrong.append(f"{path.name} imports {names}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path.name}:{node.lineno} prints")
    assert wrong == []
