"""Layers are those that have names: later versions of anndata count ``X`` among them."""

import ast
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from cellular_bench.core.layers import named_layers

SOURCE = Path(named_layers.__code__.co_filename).parents[1]
ALL_OF_THEM = {"dict", "enumerate", "iter", "len", "list", "set", "sorted", "tuple"}


@pytest.mark.parametrize("names", [(), ("counts",), ("counts", "None", "X")])
def test_layers_are_those_with_names(names) -> None:
    adata = AnnData(np.ones((2, 3)), layers={name: np.full((2, 3), 2.0) for name in names})
    found = named_layers(adata)
    assert set(found) == set(names)
    assert all((layer == 2).all() for layer in found.values())
    # What is made of them has the same X, whatever X it is given.
    again = AnnData(np.zeros((2, 3)), layers=found)
    assert (again.X == 0).all()


def whole_layers(tree: ast.AST) -> list[int]:
    """Return the lines that go through all layers of some data."""

    def is_layers(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "layers"

    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension) and is_layers(node.iter):
            lines.append(node.iter.lineno)
        elif isinstance(node, ast.Call):
            named = isinstance(node.func, ast.Name) and node.func.id in ALL_OF_THEM
            if named and any(map(is_layers, node.args)):
                lines.append(node.lineno)
            if isinstance(node.func, ast.Attribute) and is_layers(node.func.value):
                lines += [node.lineno] * (node.func.attr in {"items", "keys", "values"})
    return lines


def test_the_search_finds_what_it_looks_for() -> None:
    text = (
        "for name in a.layers: pass\nlist(a.layers)\nb = {n: m for n, m in a.layers.items()}\na.layers['x']\n"
    )
    assert sorted(whole_layers(ast.parse(text))) == [1, 2, 3]


def test_all_layers_are_read_by_name() -> None:
    for room in (SOURCE, *(path.resolve() for path in SOURCE.iterdir() if path.is_symlink())):
        for path in room.rglob("*.py"):
            lines = whole_layers(ast.parse(path.read_text(encoding="utf-8")))
            assert not lines or path.name == "layers.py", f"{path}: line {lines[0]} reads all layers"
