"""The table of attacks is whole, its tests exist, and the page says what it says."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("report_of_attacks", HERE / "report.py")
assert _spec is not None and _spec.loader is not None
report = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(report)

ROWS = report.table()
FIELDS = {"what", "kind", "outcome", "test", "method", "status", "reason", "canary", "own"}


@cache
def names_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"][:40])
def test_a_row_names_its_kind_its_outcome_and_a_test_that_exists(repo: Path, row: dict) -> None:
    assert set(row) <= FIELDS
    assert row["kind"] in report.TITLES
    outcomes = row["outcome"].values() if isinstance(row["outcome"], dict) else [row["outcome"]]
    assert all(outcomes)
    file, _, name = row["test"].partition("::")
    assert name.startswith("test_")
    assert name in names_of_tests(repo / file)


def test_no_attack_stands_twice() -> None:
    what = [row["what"] for row in ROWS]
    assert sorted(set(what)) == sorted(what)
    methods = [row["method"] for row in ROWS if "method" in row]
    assert sorted(set(methods)) == sorted(methods)


def test_every_method_that_attacks_is_in_the_table() -> None:
    known = {row["method"] for row in ROWS if "method" in row}
    written = set()
    for plugin in ("spies.py", "vandals.py"):
        tree = ast.parse((HERE / "plugins" / plugin).read_text(encoding="utf-8"))
        for node in tree.body:
            marks = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            if any(isinstance(mark, ast.Name) and mark.id in {"spy", "vandal"} for mark in marks):
                written.add(node.name)
    assert len(written) > 50
    assert written - known == set()


def test_every_test_here_of_an_attack_is_in_the_table() -> None:
    """As every other test in this folder is of something else."""
    named = {row["test"] for row in ROWS}
    for path in HERE.glob("test_*.py"):
        for name in names_of_tests(path):
            if name.startswith("test_attack_"):
                assert f"tests/attacks/{path.name}::{name}" in named


def test_thirty_attacks_are_new() -> None:
    assert sum(row.get("own", False) for row in ROWS) >= 30


def test_the_page_is_written_from_the_table() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.page(ROWS), (
        "write it with: python tests/attacks/report.py"
    )
