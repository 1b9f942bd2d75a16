"""The floors of the package: who may import whom."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

#: Room -> the rooms below it, which its modules may import at any depth of their code.
ROOMS = {
    "core": "",
    "environments": "core",
    "metrics": "core",
    "datasets": "core",
    "methods": "core environments",
    "benchmark": "core environments metrics datasets",
    "reports": "core metrics benchmark",
    "workflows": "core environments metrics datasets benchmark reports",
    "api": "core environments metrics datasets benchmark reports workflows",
    "cli": "core environments metrics datasets benchmark reports workflows api",
}
#: The same inside ``benchmark``.
BENCHMARK = {
    "schema": "",
    "tasks": "schema",
    "registry": "schema tasks",
    "plan": "schema registry tasks",
    "isolation": "schema",
    "analysis": "schema registry tasks",
    "results": "schema registry tasks plan",
    "external": "schema registry tasks analysis",
    "conformance": "schema registry tasks plan isolation",
    "execution": "schema registry tasks plan isolation results",
    "cluster": "schema registry tasks plan isolation results execution",
}
#: Modules beside the rooms in ``src/cellular_bench``: the Python interface.
API = {"__init__", "api", "notebook_code", "progress", "results"}
#: Importing these takes long; a module may do so inside a function, or in a file that exists for it.
HEAVY = {"anndata", "celltypist", "jax", "pandas", "scanpy", "scvi", "sklearn", "torch"}
PACKAGE = "cellular_bench"


def modules(repo: Path) -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    root = repo / "src" / PACKAGE
    folders = [root, *(path for path in sorted(root.iterdir()) if path.is_dir())]
    found = [p for folder in folders for p in (folder.glob("*.py") if folder == root else _below(folder))]
    return {_name(path.relative_to(root.parent)): path for path in sorted(found)}


def _below(folder: Path) -> Iterator[Path]:
    # A linked folder is not entered by a search that starts above it.
    real = folder.resolve()
    return (folder / path.relative_to(real) for path in real.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(part for part in path.with_suffix("").parts if part != "__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(repo: Path) -> dict[str, set[str]]:
    """Return the modules of the package that each module imports, typing-only imports included."""
    known = modules(repo)
    return {
        name: {
            target for text in imports(parsed(path)) if (target := _module(text, known)) and target != name
        }
        for name, path in known.items()
    }


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _module(name: str, known: Mapping[str, Path]) -> str | None:
    """Return the module that an imported name belongs to; None where it is not of this package."""
    while name.startswith(f"{PACKAGE}."):
        if name in known:
            return name
        name = name.rpartition(".")[0]
    return None


def room(module: str) -> str:
    """Return the room of a module: the first folder below the package."""
    first = module.split(".")[1] if "." in module else "__init__"
    return "api" if first in API else first


def wing(module: str) -> str | None:
    """Return the room of a module inside ``benchmark``; None if it is elsewhere."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["benchmark"] and len(parts) > 2 else None


def climbing(found: Mapping[str, set[str]]) -> list[str]:
    """Name every import that does not point down, and every module that is in no room."""
    wrong = []
    for name, targets in found.items():
        for place, floors in ((room, ROOMS), (wing, BENCHMARK)):
            here = place(name)
            if here is not None and here not in floors:
                wrong.append(f"{name} is in no room that is known: {here}")
                continue
            for target in sorted(targets):
                there = place(target)
                if None not in (here, there) and there != here and there not in floors[here].split():
                    wrong.append(f"{name} imports {target}")
    return wrong


def test_imports_point_down(repo: Path) -> None:
    assert climbing(arrows(repo)) == []


@pytest.mark.parametrize("floors", [ROOMS, BENCHMARK], ids=["package", "benchmark"])
def test_every_room_stands_on_rooms_that_are_there(repo: Path, floors: Mapping[str, str]) -> None:
    place = room if floors is ROOMS else wing
    there = {place(name) for name in modules(repo)} - {None}
    assert there == set(floors)
    assert list(TopologicalSorter({name: below.split() for name, below in floors.items()}).static_order())


def test_no_module_imports_itself_in_a_circle(repo: Path) -> None:
    try:
        TopologicalSorter(arrows(repo)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("cellular_bench.methods.new", "cellular_bench.benchmark.results.store"),
        ("cellular_bench.methods.new", "cellular_bench.metrics"),
        ("cellular_bench.core.new", "cellular_bench.metrics"),
        ("cellular_bench.workflows.new", "cellular_bench.cli.messages"),
        ("cellular_bench.benchmark.plan.new", "cellular_bench.benchmark.execution.run"),
        ("cellular_bench.benchmark.analysis.new", "cellular_bench.reports"),
        ("cellular_bench.attic.new", "cellular_bench.core.errors"),
        ("cellular_bench.benchmark.attic.new", "cellular_bench.core.errors"),
    ],
)
def test_a_module_in_the_wrong_room_is_named(module: str, target: str) -> None:
    (message,) = climbing({module: {target}})
    assert module in message


def may_be_heavy(module: str) -> bool:
    """Tell the module that exists to import libraries, and the methods that are written in torch."""
    parts = module.split(".")
    if parts[1:2] == ["methods"] and parts[2:3] and parts[2] in {"cellular", "scgen", "scnym", "tosica"}:
        return len(parts) > 3 and parts[3] != "adapter"
    return module == "cellular_bench.benchmark.execution.preload"


def test_nothing_heavy_is_imported_at_module_level(repo: Path) -> None:
    wrong = []
    for name, path in modules(repo).items():
        direct = [node for node in parsed(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        heavy = {text.split(".")[0] for node in direct for text in imports(node)} & HEAVY
        if heavy and not may_be_heavy(name):
            wrong.append(f"{name}: {', '.join(sorted(heavy))}")
    assert wrong == []


def test_no_function_takes_more_than_eight_parameters(repo: Path) -> None:
    """Constructors of methods are left out: their parameters are the settings that users know."""
    wrong = []
    for name, path in modules(repo).items():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [argument.arg for argument in given if argument.arg not in {"self", "cls"}]
            is_setting = room(name) == "methods" and node.name == "__init__"
            if len(own) > 8 and not is_setting:
                wrong.append(f"{name}.{node.name}: {len(own)}")
    assert wrong == []
