"""The names of result files stand in one place."""

import ast
from pathlib import Path

from cellular_bench.benchmark.results import store

FILES = {value for name, value in vars(store).items() if name.isupper() and "." in str(value)}
#: A folder of our own that is no result folder, and what methods leave there, which import no benchmark.
ELSEWHERE = {"benchmark/conformance/isolated.py", "methods/cellular/adapter.py", "methods/_scvi.py"}


def test_other_modules_import_the_names_of_result_files(repo: Path) -> None:
    assert {"record.json", "outputs.npz", "plan.json", "index.jsonl"} <= FILES
    folders = ("benchmark", "datasets", "methods", "metrics", "reports", "src/cellular_bench")
    wrong = []
    for path in (path for folder in folders for path in sorted((repo / folder).rglob("*.py"))):
        here = str(path.relative_to(repo))
        if here == "benchmark/results/store.py" or here in ELSEWHERE:
            continue
        constants = (
            node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)
        )
        wrong += [f"{here}, line {node.lineno}: {node.value}" for node in constants if node.value in FILES]
    assert wrong == []
