"""The layers of the package: who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYER_0 = {
    "cellular_bench.core.errors",
    "cellular_bench.core.keys",
    "cellular_bench.core.types",
}
#: Folder -> prefixes of this package that its modules may import, at any depth of their code.
ALLOWED = {
    "metrics": {"cellular_bench.metrics", *LAYER_0},
    "datasets": {"cellular_bench.datasets", *LAYER_0},
    # Environments are what some methods run in; they know of no method.
    "methods": {"cellular_bench.methods", "cellular_bench.environments", *LAYER_0},
    "reports": {
        "cellular_bench.reports",
        "cellular_bench.benchmark.analysis.across_datasets",
        "cellular_bench.benchmark.analysis.data_versions",
        "cellular_bench.benchmark.analysis.curves",
        "cellular_bench.core.files",
        "cellular_bench.benchmark.analysis.leaderboard",
        "cellular_bench.benchmark.external.published",
        "cellular_bench.benchmark.analysis.rank_stability",
        "cellular_bench.benchmark.external.rank_comparison",
        "cellular_bench.benchmark.analysis.scales",
        "cellular_bench.benchmark.analysis.statistics",
        "cellular_bench.benchmark.results.progress",
        "cellular_bench.benchmark.schema.records",
        *LAYER_0,
    },
    "benchmark": {"cellular_bench.benchmark", "cellular_bench.metrics", "cellular_bench.datasets"},
}
#: Importing these takes long; a module may do so inside a function, or in a file that exists for it.
HEAVY = {"anndata", "celltypist", "jax", "pandas", "scanpy", "scvi", "sklearn", "torch"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def may_import(folder: str, name: str) -> bool:
    allowed = ALLOWED[folder]
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_a_layer_imports_only_the_layers_below_it(repo: Path, folder: str) -> None:
    found = modules(repo / folder)
    assert found
    wrong = [
        f"{path.relative_to(repo)} imports {name}"
        for path in found
        if "cli" not in path.relative_to(repo).parts
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith("cellular_bench.") and not may_import(folder, name)
    ]
    assert not wrong


def test_the_rule_finds_a_method_that_reaches_into_the_harness() -> None:
    name = next(imports(ast.parse("from cellular_bench.benchmark.results.store import Store")))
    assert not may_import("methods", name)
    assert may_import("benchmark", name)


def may_be_heavy(path: Path) -> bool:
    """Tell the file that exists to import libraries, and the methods that are written in torch."""
    if path.parts[0] == "methods" and path.parts[1] in {"cellular", "scgen", "scnym", "tosica"}:
        return path.name not in {"__init__.py", "adapter.py"}
    return path == Path("benchmark/execution/preload.py")


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_nothing_heavy_is_imported_at_module_level(repo: Path, folder: str) -> None:
    wrong = []
    for path in modules(repo / folder):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([node for node in tree.body if not isinstance(node, ast.If)], [])
        direct = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
        heavy = {name.split(".")[0] for node in direct for name in imports(node)} & HEAVY
        if heavy and not may_be_heavy(path.relative_to(repo)):
            wrong.append(f"{path.relative_to(repo)}: {', '.join(sorted(heavy))}")
    assert not wrong
